// Sound files: WAV and FLAC by readers of our own, others by the browser, at their own rate where their header tells it.

import { openFlac } from "./flac.js";
import { openWav } from "./wav.js";

const MOST_BYTES = 200e6; // of a file that the browser must decode in one piece
const HEAD_BYTES = 65536;
const USUAL_RATE = 48000; // at which a browser decodes where the header does not tell
const MPEG_RATES = [[11025, 12000, 8000], null, [22050, 24000, 16000], [44100, 48000, 32000]];

/**
 * The sound in a file: {rate, channels, frames, read(first, count)}; `read` gives [samples of each channel].
 *
 * @param {Blob} file with a name.
 * @param {function} decode (file) to {rate, data: [samples of each channel]}, as `decodeWhole`, which needs a page: workers
 *   have no decoder.
 */
export async function openSound(file, decode) {
  if (!file.size) throw new Error(`${file.name} is empty. Re-copy the file.`);
  const own = (await openWav(file)) ?? (await openFlac(file));
  if (own) return own;
  const { rate, data } = await decode(file);
  const frames = data[0].length;
  const read = (first, count) => data.map((channel) => channel.subarray(first, Math.min(first + count, frames)));
  return { rate, channels: data.length, frames, read };
}

/** {rate, data: [samples of each channel]} of a whole file, by the browser's decoder; throws one sentence for people. */
export async function decodeWhole(file) {
  if (file.size > MOST_BYTES) {
    throw new Error(
      `${file.name} has ${Math.round(file.size / 1e6)} MB, and a browser decodes at most ${MOST_BYTES / 1e6} MB in one piece. ` +
        "Convert it to WAV, which is read piece by piece, or cut it.",
    );
  }
  try {
    const context = contextAt((await headerRate(file)) || USUAL_RATE);
    const buffer = await context.decodeAudioData(await file.arrayBuffer());
    if (!buffer.length) throw new Error("no samples");
    const data = Array.from({ length: buffer.numberOfChannels }, (_, channel) => buffer.getChannelData(channel));
    return { rate: buffer.sampleRate, data };
  } catch {
    throw new Error(
      `${file.name} cannot be decoded by this browser: it is damaged, no sound, or of a format that the browser does not know. ` +
        "Convert it to WAV, FLAC or MP3.",
    );
  }
}

function contextAt(rate) {
  try {
    return new OfflineAudioContext(1, 1, rate);
  } catch {
    return new OfflineAudioContext(1, 1, USUAL_RATE); // a rate that the browser does not allow
  }
}

/** The sample rate in the header of a FLAC, Ogg, MP3, MP4 or WAV file; 0 where it is not found. */
export async function headerRate(file) {
  let head = await bytesAt(file, 0);
  if (textAt(head, 0, 3) === "ID3") head = await bytesAt(file, 10 + synchsafe(head.subarray(6, 10)));
  const flac = find(head, "fLaC", 64);
  if (flac >= 0) return (head[flac + 18] << 12) | (head[flac + 19] << 4) | (head[flac + 20] >> 4);
  if (textAt(head, 0, 4) === "OggS") return oggRate(head);
  if (textAt(head, 4, 4) === "ftyp") return mp4Rate(head);
  if (textAt(head, 8, 4) === "WAVE") return number(head, find(head, "fmt ", HEAD_BYTES) + 12);
  return mpegRate(head);
}

function oggRate(head) {
  if (find(head, "OpusHead", 64) >= 0) return USUAL_RATE;
  const vorbis = find(head, "\u0001vorbis", 64);
  return vorbis < 0 ? 0 : number(head, vorbis + 12);
}

function mp4Rate(head) {
  const entry = find(head, "mp4a", HEAD_BYTES);
  return entry < 0 ? 0 : (head[entry + 28] << 8) | head[entry + 29];
}

function mpegRate(head) {
  for (let i = 0; i + 2 < head.length; i++) {
    const [version, layer, index] = [(head[i + 1] >> 3) & 3, (head[i + 1] >> 1) & 3, (head[i + 2] >> 2) & 3];
    if (head[i] === 0xff && head[i + 1] >= 0xe0 && version !== 1 && layer && index < 3) return MPEG_RATES[version][index];
  }
  return 0;
}

async function bytesAt(file, start) {
  return new Uint8Array(await file.slice(start, start + HEAD_BYTES).arrayBuffer());
}

function find(head, name, within) {
  return new TextDecoder("latin1").decode(head.subarray(0, within)).indexOf(name);
}

const textAt = (head, at, length) => String.fromCharCode(...head.subarray(at, at + length));
const number = (head, at) => (head[at] | (head[at + 1] << 8) | (head[at + 2] << 16) | (head[at + 3] << 24)) >>> 0;
const synchsafe = (bytes) => bytes.reduce((value, byte) => (value << 7) | byte, 0);
