// The engine of a site without a server: what server_engine.js asks a server for is done by a worker in this browser.

import { decodeWhole } from "./decode.js";

const BROKEN = "The program that runs the model cannot be loaded. Reload the page.";
const QUIET = 3000; // milliseconds after which the site is kept, so that the first sound does not wait for it

/** The models of the site, ready to be asked; the runtime and the first model are still on their way. */
export async function openEngine() {
  const base = new URL("..", import.meta.url);
  const worker = new Worker(new URL("model_worker.js", import.meta.url), { type: "module" }); // loads its parts meanwhile
  worker.failed = new Promise((resolve) => (worker.onerror = resolve));
  const answer = await fetch(new URL("models.json", base)).catch(() => null);
  if (!answer?.ok) throw new Error("The site's list of models cannot be loaded. Make the site again, and copy all of it.");
  const engine = new BrowserEngine(worker, await answer.json(), base);
  engine.ready.then(() => setTimeout(() => keepOffline(base), QUIET)).catch(() => {}); // the first call tells of the error
  return engine;
}

class BrowserEngine {
  kind = "browser";

  constructor(worker, { models, runtime, webgpu }, base) {
    this.models = models;
    this.webgpu = {}; // by the model's name: whether WebGPU runs it, and how it compares with wasm
    this.worker = worker;
    this.calls = new Map(); // by number: what to do with what the worker says
    this.calls.set(0, (data) => (this.webgpu[data.model] = data.webgpu));
    this.worker.onmessage = ({ data }) => this.calls.get(data.id)?.(data);
    this.hasFailed = worker.failed.then(() => {
      for (const told of this.calls.values()) told({ error: BROKEN });
      return true;
    });
    this.ready = this.#call("open", { models, runtime, webgpu, base: base.href });
  }

  async classify(file, { model, onProgress, signal } = {}) {
    const onMessage = ({ id, progress, decode }) => {
      if (progress !== undefined) onProgress?.(progress);
      if (decode) this.#decode(id, decode);
    };
    const named = new File([file], file.name ?? "sound"); // a Blob has no name for errors
    return (await this.#call("classify", { model: this.#known(model).name, file: named }, { onMessage, signal })).heard;
  }

  async listen({ model, context, source, onWindow, onLost, onError }) {
    await context.audioWorklet.addModule(new URL("listen_worklet.js", import.meta.url));
    const processorOptions = { model: this.#known(model) };
    const node = new AudioWorkletNode(context, "audiorep-listen", { numberOfOutputs: 1, processorOptions });
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage({ worker: port1 }, [port1]);
    node.port.onmessage = ({ data }) => onLost?.(data.lost);
    node.onprocessorerror = () => onError?.("The sound can no longer be heard: its thread has failed. Reload the page.");
    const onMessage = ({ window }) => window && onWindow(window);
    const message = { model: processorOptions.model.name, port: port2 };
    const ended = this.#call("listen", message, { onMessage, transfer: [port2] }).catch((error) => onError?.(error.message));
    source.connect(node);
    node.connect(context.destination); // it gives silence; browsers run what leads to the speaker
    const stop = async () => {
      node.port.postMessage({ end: true });
      if (context.state !== "closed") await ended;
      source.disconnect(node);
      node.disconnect();
    };
    return { stop };
  }

  #known(name) {
    const found = name === undefined ? this.models[0] : this.models.find((model) => model.name === name);
    if (!found) throw new Error(`There is no model ${name}; there are ${this.models.map((model) => model.name).join(", ")}.`);
    return found;
  }

  async #decode(id, file) {
    try {
      const { rate, data } = await decodeWhole(file);
      this.worker.postMessage({ id, call: "decoded", rate, data }, data.map((channel) => channel.buffer));
    } catch (error) {
      this.worker.postMessage({ id, call: "decoded", error: error.message });
    }
  }

  /** What the worker answers in the end; `onMessage` is told what it says before. */
  #call(call, values, { onMessage, signal, transfer = [] } = {}) {
    const id = (this.number = (this.number ?? 0) + 1);
    const answered = new Promise((resolve, reject) => {
      const stop = () => {
        this.worker.postMessage({ id, call: "stop" });
        reject(new Error("Stopped."));
      };
      if (signal?.aborted) return reject(new Error("Stopped."));
      signal?.addEventListener("abort", stop, { once: true });
      this.calls.set(id, (data) => {
        if (data.error !== undefined) reject(new Error(data.error));
        else if (data.done) resolve(data);
        else onMessage?.(data);
      });
      this.hasFailed.then(() => reject(new Error(BROKEN)));
      return this.worker.postMessage({ id, call, ...values }, transfer);
    });
    return answered.finally(() => this.calls.delete(id));
  }
}

/** Lets the browser keep the site; where it cannot, for example without https, the site works while there is a network. */
async function keepOffline(base) {
  if (!navigator.serviceWorker) return;
  await navigator.serviceWorker.register(new URL("sw.js", base)).catch((error) => console.warn(`Not kept offline: ${error}`));
}
