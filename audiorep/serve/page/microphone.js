// Live sound: the microphone as it is, its level, and the last minutes of it.

import { Sound } from "./sound.js";

const LONGEST = 600; // seconds that are kept
const REFUSED = "The microphone may not be used. Allow it for this page in the browser, and press Listen again.";
const SENTENCES = {
  NotAllowedError: REFUSED,
  NotFoundError: "No microphone was found. Connect one, and press Listen again.",
  NotReadableError: "The microphone does not answer; another program may use it.",
};

/**
 * Begins to listen. Throws one sentence.
 *
 * @returns {Promise<{sound: Sound, stop: () => Promise<void>}>}
 */
export async function listen(engine, model, { onSound, onWindow, onLost, onError }) {
  if (!navigator.mediaDevices) throw new Error("Browsers give the microphone only to pages from this computer or over https.");
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio }).catch((error) => {
    throw new Error(SENTENCES[error.name] ?? `The microphone cannot be used: ${error.message}`);
  });
  const context = new AudioContext();
  const close = async () => {
    for (const track of stream.getTracks()) track.stop();
    await context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("capture_worklet.js", import.meta.url));
    const sound = new Sound(context.sampleRate, LONGEST);
    const recorder = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    recorder.port.onmessage = ({ data }) => {
      sound.append(data);
      onSound(data);
    };
    const gate = new GainNode(context); // the engine gets it before it has sound, so that both begin with the same sample
    const session = await engine.listen({ model, context, source: gate, onWindow, onLost, onError });
    const source = new MediaStreamAudioSourceNode(context, { mediaStream: stream });
    source.connect(gate);
    source.connect(recorder);
    stream.getTracks()[0].onended = () => onError("The microphone was taken away.");
    await context.resume();
    const stop = async () => {
      source.disconnect();
      await session.stop();
      await close();
    };
    return { sound, stop };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The level of a piece in decibels below full scale, -60 at least. */
export function levelOf(samples) {
  const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  return Math.max(-60, Math.min(0, 20 * Math.log10(peak + 1e-9)));
}
