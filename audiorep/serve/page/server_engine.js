// Recognition by the server that this page is from: files over HTTP, live sound over a WebSocket.

const TRIES = 6; // of a server that is busy
const NOTICED = 0.02; // lower scores are not sent
const MOST = 20; // labels of a window
const MOST_BUFFERED = 2; // seconds that wait for a slow network before sound is left out
const LONGEST_WAIT = 30; // seconds

const path = (name, values = {}) => `v1/${name}?${new URLSearchParams(values)}`;
const wait = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(new Error("Stopped."))));
  });

/** @param {() => Promise<string>} askToken asks a person, when the server wants a token. */
export async function openEngine(askToken) {
  const engine = new ServerEngine(askToken);
  const { models, default: first } = await engine.request("GET", path("models"));
  engine.limits = await engine.request("GET", path("limits"));
  engine.models = models.sort((a, b) => (b.name === first) - (a.name === first));
  return engine;
}

class ServerEngine {
  kind = "server";

  constructor(askToken) {
    this.askToken = askToken;
    this.token = sessionStorage.getItem("audiorep-token") ?? "";
  }

  /** The answer in JSON; waits and tries again where the server is busy. Throws one sentence. */
  async request(method, url, { body, onProgress, signal } = {}) {
    for (let tried = 1; ; tried++) {
      const answer = await this.#once(method, url, body, onProgress, signal);
      if (answer.status === 401) await this.#newToken();
      else if (answer.status === 429 && tried < TRIES) await wait(answer.wait, signal);
      else if (answer.status === 200) return answer.json;
      else throw new Error(answer.json?.error ?? `The server answered with status ${answer.status}.`);
    }
  }

  #once(method, url, body, onProgress, signal) {
    return new Promise((resolve, reject) => {
      const call = new XMLHttpRequest(); // fetch does not tell how much was sent
      call.open(method, url);
      call.responseType = "json";
      if (this.token) call.setRequestHeader("Authorization", `Bearer ${this.token}`);
      if (body) call.setRequestHeader("Content-Type", "application/octet-stream");
      call.upload.onprogress = ({ loaded, total }) => onProgress?.(loaded / total);
      call.onload = () => {
        const seconds = Number(call.getResponseHeader("Retry-After")) || 1;
        resolve({ status: call.status, json: call.response, wait: Math.min(LONGEST_WAIT, seconds) });
      };
      call.onerror = () => reject(new Error("The server cannot be reached."));
      call.onabort = () => reject(new Error("Stopped."));
      signal?.addEventListener("abort", () => call.abort());
      call.send(body);
    });
  }

  async #newToken() {
    const used = this.token;
    this.asking ??= this.askToken().finally(() => (this.asking = null)); // two files, one question
    const given = await this.asking;
    if (this.token === used) sessionStorage.setItem("audiorep-token", (this.token = given));
  }

  async classify(file, { model, onProgress, signal }) {
    const most = this.limits.body_bytes;
    if (file.size > most) throw new Error(`The file has ${mega(file.size)}; this server takes at most ${mega(most)}.`);
    const query = { model, view: "windows", threshold: NOTICED, top: MOST, name: file.name };
    const answer = await this.request("POST", path("classify", query), { body: file, onProgress, signal });
    const windows = new Map(answer.windows.map((w) => [w.start, { ...w, scores: {} }]));
    for (const { start, head, label, score } of answer.detections) {
      const { scores } = windows.get(start);
      (scores[head] ??= Object.create(null))[label] = score;
    }
    return { seconds: answer.seconds, windows: [...windows.values()], notes: answer.notes, file: answer.file };
  }

  async listen({ model, context, source, onWindow, onLost, onError }) {
    const query = { model, rate: context.sampleRate, format: "f32le", channels: 1, windows: true, events: false };
    const socket = await this.#socket(path("listen", { ...query, threshold: NOTICED, top: MOST }));
    const gaps = []; // {from: second that the server hears, seconds left out before it}
    const late = (time) => gaps.reduce((sum, gap) => (gap.from <= time ? sum + gap.seconds : sum), 0);
    let [sent, hasEnded] = [0, false];
    const ended = new Promise((resolve) => {
      socket.onclose = () => {
        if (!hasEnded) onError("The connection to the server has ended.");
        resolve();
      };
    });
    socket.onmessage = ({ data }) => {
      const said = JSON.parse(data);
      if (said.type === "window") {
        const shift = late(said.start);
        onWindow({ start: said.start + shift, end: said.end + shift, peak: said.peak, scores: said.scores });
      }
      hasEnded ||= said.type === "end" || said.type === "error";
      if (said.type === "error") onError(said.error);
    };
    await context.audioWorklet.addModule(new URL("capture_worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => {
      const seconds = data.length / context.sampleRate;
      if (socket.readyState !== WebSocket.OPEN) return;
      if (socket.bufferedAmount > 4 * MOST_BUFFERED * context.sampleRate) {
        gaps.push({ from: sent, seconds });
        onLost(seconds);
        return;
      }
      socket.send(data);
      sent += seconds;
    };
    source.connect(node);
    const stop = async () => {
      source.disconnect(node);
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send('{"type":"end"}');
      await Promise.race([ended, wait(5)]);
      hasEnded = true;
      socket.close();
    };
    return { stop };
  }

  /** A socket that the server has answered. */
  #socket(url) {
    const protocols = this.token ? ["audiorep", `audiorep.token.${base64url(this.token)}`] : [];
    const place = new URL(url, document.baseURI);
    place.protocol = place.protocol.replace("http", "ws");
    const socket = new WebSocket(place, protocols);
    return new Promise((resolve, reject) => {
      socket.onclose = () => reject(new Error("The server takes no live sound at the moment."));
      socket.onmessage = ({ data }) => {
        const said = JSON.parse(data);
        if (said.type === "ready") resolve(socket);
        else reject(new Error(said.error ?? "The server cannot listen."));
      };
    });
  }
}

const mega = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const base64url = (text) =>
  btoa(String.fromCharCode(...new TextEncoder().encode(text))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
