// Recognition by the server that this page is from: files over HTTP, live sound over a WebSocket.

const TRIES = 6; // of a server that is busy
const LONGEST_WAIT = 30; // seconds
const ASKED = { threshold: 0.02, top: 20 }; // lower scores are not sent
const BUFFERED = 2; // seconds that wait for a slow network before sound is left out

const path = (name, values = {}) => `v1/${name}?${new URLSearchParams(values)}`;

/** @param {() => Promise<string>} askToken asks a person, when the server wants a token. */
export async function openEngine(askToken) {
  const engine = new ServerEngine(askToken);
  const { models, default: first } = await engine.request("GET", path("models"));
  engine.models = models.sort((a, b) => (b.name === first) - (a.name === first));
  engine.limits = await engine.request("GET", path("limits"));
  return engine;
}

class ServerEngine {
  kind = "server";
  token = sessionStorage.getItem("audiorep-token") ?? "";

  constructor(askToken) {
    this.askToken = askToken;
  }

  /** The answer in JSON; waits and tries again where the server is busy. Throws one sentence. */
  async request(method, url, options = {}) {
    for (let tries = 1; ; tries++) {
      const { status, response, seconds } = await this.#once(method, url, options);
      if (status === 200) return response;
      if (status === 401) await this.#newToken();
      else if (status === 429 && tries < TRIES) await new Promise((done) => setTimeout(done, 1000 * seconds));
      else throw new Error(response?.error ?? `The server answered with status ${status}.`);
    }
  }

  #once(method, url, { body, onProgress, signal }) {
    return new Promise((resolve, reject) => {
      const call = new XMLHttpRequest(); // fetch does not tell how much was sent
      const stopped = () => reject(new Error("Stopped."));
      if (signal?.aborted) return stopped();
      call.open(method, url);
      call.responseType = "json";
      if (this.token) call.setRequestHeader("Authorization", `Bearer ${this.token}`);
      if (body) call.setRequestHeader("Content-Type", "application/octet-stream");
      call.upload.onprogress = ({ loaded, total }) => onProgress?.(loaded / total);
      call.onload = () => {
        const seconds = Math.min(LONGEST_WAIT, Number(call.getResponseHeader("Retry-After")) || 1);
        resolve({ status: call.status, response: call.response, seconds });
      };
      call.onerror = () => reject(new Error("The server cannot be reached."));
      call.onabort = stopped;
      signal?.addEventListener("abort", () => call.abort());
      call.send(body);
    });
  }

  async #newToken() {
    this.asking ??= this.askToken().finally(() => (this.asking = null)); // two files, one question
    this.token = await this.asking;
    sessionStorage.setItem("audiorep-token", this.token);
  }

  async classify(file, { model, onProgress, signal }) {
    const [size, most] = [file.size, this.limits.body_bytes].map((bytes) => `${(bytes / 1e6).toFixed(1)} MB`);
    if (file.size > this.limits.body_bytes) throw new Error(`The file has ${size}; this server takes at most ${most}.`);
    const url = path("classify", { model, view: "windows", name: file.name, ...ASKED });
    const answer = await this.request("POST", url, { body: file, onProgress, signal });
    const windows = new Map(answer.windows.map((window) => [window.start, { ...window, scores: {} }]));
    for (const { start, head, label, score } of answer.detections) {
      (windows.get(start).scores[head] ??= {})[label] = score;
    }
    return { ...answer, windows: [...windows.values()] };
  }

  async listen({ model, context, source, onWindow, onLost, onError }) {
    const rate = context.sampleRate;
    const query = { model, rate, format: "f32le", channels: 1, windows: true, events: false, ...ASKED };
    const socket = await this.#socket(path("listen", query));
    const gaps = []; // [{from: second that the server hears, seconds: left out before it}]
    const late = (time) => gaps.reduce((sum, { from, seconds }) => (from <= time ? sum + seconds : sum), 0);
    let hasEnded = false;
    const closed = new Promise((done) => {
      socket.onclose = () => done(hasEnded || onError("The connection to the server has ended."));
    });
    socket.onmessage = ({ data }) => {
      const said = JSON.parse(data);
      const shift = late(said.start);
      if (said.type === "window") onWindow({ ...said, start: said.start + shift, end: said.end + shift });
      hasEnded ||= said.type === "end" || said.type === "error";
      if (said.type === "error") onError(said.error);
    };
    await context.audioWorklet.addModule(new URL("capture_worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    let sent = 0; // seconds
    node.port.onmessage = ({ data }) => {
      const seconds = data.length / rate;
      if (socket.readyState !== WebSocket.OPEN) return;
      if (socket.bufferedAmount > 4 * rate * BUFFERED) {
        gaps.push({ from: sent, seconds });
        onLost(seconds);
      } else {
        socket.send(data);
        sent += seconds;
      }
    };
    source.connect(node);
    const stop = async () => {
      node.port.onmessage = null;
      if (socket.readyState === WebSocket.OPEN) socket.send('{"type":"end"}');
      await Promise.race([closed, new Promise((done) => setTimeout(done, 5000))]);
      hasEnded = true;
      socket.close();
    };
    return { stop };
  }

  /** A socket whose server is ready. */
  #socket(url) {
    const bytes = String.fromCharCode(...new TextEncoder().encode(this.token));
    const token = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    const place = new URL(url, document.baseURI.replace("http", "ws"));
    const socket = new WebSocket(place, token ? ["audiorep", `audiorep.token.${token}`] : []);
    return new Promise((resolve, reject) => {
      socket.onclose = () => reject(new Error("The server takes no live sound at the moment."));
      socket.onmessage = ({ data }) => {
        const { type, error } = JSON.parse(data);
        if (type === "ready") resolve(socket);
        else reject(new Error(error));
      };
    });
  }
}
