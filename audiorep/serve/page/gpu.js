// WebGPU in place of wasm, where it gives the same scores sooner.

import { unpacked } from "./packed.js";

const SAME = 1e-5; // largest difference of a score
const LEVELS = [0.5, 0.05, 0.005, 0]; // of the noise that both are given
const TIMES = 5;
const SOONER = 0.8; // of wasm's time: less is not worth the change

/**
 * {run: a function of samples, or null; difference, milliseconds: [of wasm, of WebGPU], error}.
 *
 * @param {function} plain the same by wasm.
 */
export async function openFaster(model, content, plain, binary) {
  try {
    const run = await openSession(model, content, binary);
    const difference = await compared(model, plain, run);
    const noise = noiseOf(model, LEVELS[0]);
    const milliseconds = [await timed(plain, noise), await timed(run, noise)];
    return { run: difference <= SAME && milliseconds[1] < SOONER * milliseconds[0] ? run : null, difference, milliseconds };
  } catch (error) {
    return { run: null, error: String(error.message ?? error) }; // no adapter, or an operator that it lacks: wasm goes on
  }
}

async function openSession(model, content, binary) {
  const ort = await import("../runtime/ort.webgpu.js");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary ??= await unpacked(binary);
  const options = { executionProviders: ["webgpu"], logSeverityLevel: 3 };
  const session = await ort.InferenceSession.create(new Uint8Array(content), options);
  const heads = Object.keys(model.labels);
  return async (samples) => session.run({ waveform: new ort.Tensor("float32", samples, [1, samples.length]) }, heads);
}

async function compared(model, plain, run) {
  let difference = 0;
  for (const level of LEVELS) {
    const samples = noiseOf(model, level);
    const [one, other] = [await plain(samples), await run(samples)];
    for (const head of Object.keys(model.labels)) {
      one[head].data.forEach((score, k) => (difference = Math.max(difference, Math.abs(score - other[head].data[k]) || 0)));
      if (other[head].data.some((score) => !Number.isFinite(score))) return Infinity;
    }
  }
  return difference;
}

async function timed(run, samples) {
  const times = [];
  for (let i = 0; i < TIMES; i++) {
    const begun = performance.now();
    await run(samples);
    times.push(performance.now() - begun);
  }
  return times.sort((a, b) => a - b)[Math.floor(TIMES / 2)];
}

/** Noise that is the same each time. */
function noiseOf(model, level) {
  let state = 1;
  return Float32Array.from({ length: model.window_samples }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return level * (state / 2 ** 31 - 1);
  });
}
