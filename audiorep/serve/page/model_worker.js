// The models of a site without a server, in a worker: files and live windows to scores, by ONNX Runtime on one thread.

import * as ort from "../runtime/ort.js";
import { Mixer } from "./channels.js";
import { openSound } from "./decode.js";
import { Resampler } from "./resample.js";
import { FileScores, peakOf, ranked, shown, windowScores } from "./scores.js";
import { Cutter } from "./windows.js";

const BLOCK_SECONDS = 10;
const MOST_VALUES = 1 << 22; // of all channels of a block, whatever rate the header gives

const sessions = new Map(); // by the model's name
const stopped = new Set(); // numbers of calls that nobody waits for
const answers = new Map(); // by the number of the call that waits for a decoded file
let site, ready;
let last = Promise.resolve(); // the end of the last run: a session takes one window at a time

const calls = {
  /** Loads the runtime, and the default model meanwhile. */
  async open({ models, runtime, base }) {
    site = { models: new Map(models.map((model) => [model.name, model])), base };
    ready = startRuntime(new URL(runtime.binary, base));
    await sessionOf(models[0].name);
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

function sessionOf(name) {
  if (!sessions.has(name)) {
    const session = openSession(site.models.get(name));
    sessions.set(name, session);
    session.catch(() => sessions.delete(name)); // it is tried again when it is asked for again
  }
  return sessions.get(name);
}

async function openSession(model) {
  const [content] = await Promise.all([unpacked(new URL(model.file, site.base)), ready]);
  try {
    return await ort.InferenceSession.create(new Uint8Array(content), { executionProviders: ["wasm"], logSeverityLevel: 3 });
  } catch (error) {
    throw new Error(`The model ${model.name} cannot be opened: ${String(error.message ?? error).split("\n")[0]}`);
  }
}

/** The content of a file that gzip packed; some servers tell the browser to unpack it on the way. */
async function unpacked(address) {
  const missing = `${address.pathname} cannot be loaded`;
  const answer = await fetch(address).catch(() => {
    throw new Error(`${missing}: the network or the server does not answer. Try again.`);
  });
  if (!answer.ok) throw new Error(`${missing}: the server answers ${answer.status}. Make the site again, and copy all of it.`);
  const content = await answer.arrayBuffer();
  const [first, second] = new Uint8Array(content, 0, Math.min(2, content.byteLength));
  if (first !== 0x1f || second !== 0x8b) return content;
  return new Response(new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** {head: (K)} of one window, as the model gives them. */
async function scoresOf(session, model, samples) {
  const feeds = { waveform: new ort.Tensor("float32", samples, [1, samples.length]) };
  const run = last.then(() => session.run(feeds, Object.keys(model.labels)));
  last = run.catch(() => {});
  const found = await run;
  const heads = Object.keys(model.labels).map((head) => [head, found[head].data]);
  if (heads.some(([, scores]) => scores.some((score) => !Number.isFinite(score)))) {
    throw new Error(`The model ${model.name} gives scores that are no numbers: its weights are damaged. Export it again.`);
  }
  return Object.fromEntries(heads);
}

/** {window: its time, peak and scores as they are shown; raw: what the model gave}. */
async function hear(session, model, start, samples) {
  const raw = await scoresOf(session, model, samples);
  const peak = peakOf(samples);
  const all = windowScores(model, raw, peak);
  const scores = Object.fromEntries(Object.entries(all).map(([head, values]) => [head, shown(model, head, values)]));
  return { window: { start, end: start + model.window_seconds, peak, scores }, raw };
}

async function classify(id, model, file) {
  const session = await sessionOf(model.name);
  const sound = await openSound(file, (other) => askPage(id, other));
  const [mixer, resampler] = [new Mixer(file.name), new Resampler(sound.rate, model.sample_rate)];
  const cutter = new Cutter(model.window_samples, model.hop_samples, model.padding);
  const [windows, whole] = [[], new FileScores(model)];
  const hearAll = async (cut) => {
    for (const [first, samples] of cut) {
      const { window, raw } = await hear(session, model, first / model.sample_rate, samples);
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
  const session = await sessionOf(model.name);
  let heard = Promise.resolve();
  return new Promise((resolve, reject) => {
    port.onmessage = ({ data }) => {
      if (data.end) return resolve(heard.then(() => ({})));
      heard = heard.then(async () => {
        const { window } = await hear(session, model, data.start, data.samples);
        postMessage({ id, window: { ...window, end: data.end_seconds } });
        port.postMessage({ taken: 1 });
      });
      return heard.catch(reject);
    };
  });
}
