// The models of a site without a server, in a worker: files and live windows to scores, by ONNX Runtime on one thread.

import * as ort from "../runtime/ort.js";
import { Mixer } from "./channels.js";
import { openSound } from "./decode.js";
import { openFaster } from "./gpu.js";
import { unpacked } from "./packed.js";
import { Resampler } from "./resample.js";
import { FileScores, peakOf, ranked, shown, windowScores } from "./scores.js";
import { Cutter } from "./windows.js";

const BLOCK_SECONDS = 10;
const MOST_VALUES = 1 << 22; // of all channels of a block, whatever rate the header gives

const runs = new Map(); // by the model's name: promises of a function of samples that gives {head: (K) scores}
const stopped = new Set(); // numbers of calls that nobody waits for
const answers = new Map(); // by the number of the call that waits for a decoded file
let site, ready;
let last = Promise.resolve(); // the end of the last run: a session takes one window at a time

const calls = {
  /** Loads the runtime, and the default model meanwhile. */
  async open({ models, runtime, webgpu, base }) {
    site = { models: new Map(models.map((model) => [model.name, model])), webgpu, base };
    ready = startRuntime(new URL(runtime.binary, base));
    await runOf(models[0].name);
  },

  classify: async ({ id, model, file }) => ({ heard: await classify(id, site.models.get(model), file) }),

  /** Hears the windows that come through a port, and answers each with {taken: 1}, until it is told the end. */
  listen: ({ id, model, port }) => hearPort(id, site.models.get(model), port),
};

onmessage = async ({ data }) => {
  const { id, call } = data;
  if (call === "stop") return stopped.add(id);
  if (call === "decoded") return answers.get(id)?.(data);
  try {
    postMessage({ id, done: true, ...(await calls[call](data)) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
  return stopped.delete(id);
};

async function startRuntime(address) {
  ort.env.wasm.numThreads = 1; // more need headers (cross-origin isolation) that many hosts do not send
  ort.env.wasm.wasmBinary = await unpacked(address);
}

function runOf(name) {
  if (!runs.has(name)) {
    const run = openModel(site.models.get(name));
    runs.set(name, run);
    run.catch(() => runs.delete(name)); // it is tried again when it is asked for again
  }
  return runs.get(name);
}

async function openModel(model) {
  const [content] = await Promise.all([unpacked(new URL(model.file, site.base)), ready]);
  const run = inTurn(await openSession(model, content));
  if (site.webgpu && navigator.gpu) tryFaster(model, content, run);
  return run;
}

async function openSession(model, content) {
  try {
    const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
    const session = await ort.InferenceSession.create(new Uint8Array(content), options);
    return async (samples) => session.run({ waveform: new ort.Tensor("float32", samples, [1, samples.length]) }, heads(model));
  } catch (error) {
    throw new Error(`The model ${model.name} cannot be opened: ${String(error.message ?? error).split("\n")[0]}`);
  }
}

/** Lets WebGPU run the model from now on, where it gives the same scores sooner. */
async function tryFaster(model, content, run) {
  const found = await openFaster(model, content, run, new URL(site.webgpu.binary, site.base));
  if (found.run) runs.set(model.name, Promise.resolve(inTurn(found.run)));
  postMessage({ id: 0, model: model.name, webgpu: { ...found, run: Boolean(found.run) } });
}

/** A session takes one window at a time. */
function inTurn(run) {
  return (samples) => {
    const found = last.then(() => run(samples));
    last = found.catch(() => {});
    return found;
  };
}

const heads = (model) => Object.keys(model.labels);

/** {head: (K)} of one window, as the model gives them. */
async function scoresOf(run, model, samples) {
  const outputs = await run(samples);
  const found = heads(model).map((head) => [head, outputs[head].data]);
  if (found.some(([, scores]) => scores.some((score) => !Number.isFinite(score)))) {
    throw new Error(`The model ${model.name} gives scores that are no numbers: its weights are damaged. Export it again.`);
  }
  return Object.fromEntries(found);
}

/** {window: its time, peak and scores as they are shown; raw: what the model gave}. */
async function hear(run, model, start, samples) {
  const raw = await scoresOf(run, model, samples);
  const peak = peakOf(samples);
  const all = windowScores(model, raw, peak);
  const scores = Object.fromEntries(Object.entries(all).map(([head, values]) => [head, shown(model, head, values)]));
  return { window: { start, end: start + model.window_seconds, peak, scores }, raw };
}

async function classify(id, model, file) {
  const run = await runOf(model.name);
  const sound = await openSound(file, (other) => askPage(id, other));
  const [mixer, resampler] = [new Mixer(file.name), new Resampler(sound.rate, model.sample_rate)];
  const cutter = new Cutter(model.window_samples, model.hop_samples, model.padding);
  const [windows, whole] = [[], new FileScores(model)];
  const hearAll = async (cut) => {
    for (const [first, samples] of cut) {
      const { window, raw } = await hear(run, model, first / model.sample_rate, samples);
      windows.push(window);
      whole.add(raw, window.peak);
    }
  };
  const size = Math.max(1, Math.min(BLOCK_SECONDS * sound.rate, Math.floor(MOST_VALUES / sound.channels)));
  for (let first = 0; first < sound.frames; first += size) {
    await hearAll(cutter.push(resampler.push(mixer.mix(await sound.read(first, size)))));
    postMessage({ id, progress: Math.min(1, (first + size) / sound.frames) });
    await new Promise((resolve) => setTimeout(resolve)); // live windows, and word that nobody waits, come in between
    if (stopped.has(id)) throw new Error("Stopped.");
  }
  await hearAll([...cutter.push(resampler.flush()), ...cutter.flush()]);
  if (!windows.length) throw new Error(`${file.name} is too short: it has no samples at ${model.sample_rate} Hz.`);
  const seconds = cutter.heard / model.sample_rate;
  for (const window of windows) window.end = Math.min(window.end, seconds);
  const scores = Object.entries(whole.scores()).map(([head, values]) => [head, ranked(model, head, values)]);
  return { seconds, windows, notes: mixer.notes(sound.rate), file: Object.fromEntries(scores) };
}

/** {rate, data} of a file that only the page can decode. */
function askPage(id, file) {
  return new Promise((resolve, reject) => {
    answers.set(id, ({ error, rate, data }) => (error ? reject(new Error(error)) : resolve({ rate, data })));
    postMessage({ id, decode: file });
  }).finally(() => answers.delete(id));
}

async function hearPort(id, model, port) {
  const run = await runOf(model.name);
  let heard = Promise.resolve();
  return new Promise((resolve, reject) => {
    port.onmessage = ({ data }) => {
      if (data.end) return resolve(heard.then(() => ({})));
      heard = heard.then(async () => {
        const { window } = await hear(run, model, data.start, data.samples);
        postMessage({ id, window: { ...window, end: data.end_seconds } });
        port.postMessage({ taken: 1 });
      });
      return heard.catch(reject);
    };
  });
}
