// Live sound: the microphone as it is, and the last minutes of it.

import { Sound } from "./sound.js";

const KEPT = 600; // seconds
const SENTENCES = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser, and press Listen again.",
  NotFoundError: "No microphone was found. Connect one, and press Listen again.",
  NotReadableError: "The microphone does not answer; another program may use it.",
};

/** Begins to listen; gives {sound, stop}. `on` are the engine's callbacks, and `onSound(samples)`. Throws one sentence. */
export async function listen(engine, model, on) {
  if (!navigator.mediaDevices) throw new Error("Browsers give the microphone only to pages from this computer or over https.");
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio }).catch(({ name, message }) => {
    throw new Error(SENTENCES[name] ?? `The microphone cannot be used: ${message}`);
  });
  const context = new AudioContext();
  await context.suspend(); // until all is connected, so that picture and scores begin with the same sample
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    return context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("capture_worklet.js", import.meta.url));
    const recorder = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    const sound = new Sound(context.sampleRate, KEPT);
    recorder.port.onmessage = ({ data }) => {
      sound.append(data);
      on.onSound(data);
    };
    const source = context.createMediaStreamSource(stream);
    const session = await engine.listen({ model, context, source, ...on });
    source.connect(recorder);
    stream.getTracks()[0].onended = () => on.onError("The microphone was taken away.");
    await context.resume();
    const stop = async () => {
      source.disconnect(recorder);
      await session.stop();
      await close();
    };
    return { sound, stop };
  } catch (error) {
    close();
    throw error;
  }
}
