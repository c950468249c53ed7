// WAV files (RIFF, RIFX, RF64, BW64) at their own rate, a stretch at a time, so that their length does not matter.

const RATES = [100, 10000000]; // lowest and highest of a header, as in Python
const MOST_CHANNELS = 1024;
const MOST_CHUNKS = 10000; // before the samples
const SLACK_BYTES = 64; // by which a declared length may be wrong; some recorders count the header as samples
const EXTENSIBLE = 0xfffe; // its true format tag stands later; 1 is PCM, 3 is float
const READERS = {
  "1 8": (view, at) => (view.getUint8(at) - 128) / 128,
  "1 16": (view, at, little) => view.getInt16(at, little) / 32768,
  "1 24": (view, at, little) =>
    ((view.getInt8(at + (little ? 2 : 0)) << 16) | (view.getUint8(at + 1) << 8) | view.getUint8(at + (little ? 0 : 2))) / 8388608,
  "1 32": (view, at, little) => view.getInt32(at, little) / 2147483648,
  "3 32": (view, at, little) => view.getFloat32(at, little),
  "3 64": (view, at, little) => view.getFloat64(at, little),
};

/**
 * The sound in a WAV file: {rate, channels, frames, read(first, count)}, or null where it is another format or encoding.
 *
 * Throws one sentence for people where it is a WAV file that is damaged or empty.
 */
export async function openWav(file) {
  const head = await viewOf(file, 0, 12);
  if (head.byteLength < 12 || text(head, 8) !== "WAVE" || !["RIFF", "RIFX", "RF64", "BW64"].includes(text(head, 0))) return null;
  const little = text(head, 0) !== "RIFX";
  const chunks = await findChunks(file, little);
  if (!chunks.fmt || !chunks.data) throw new Error(`${file.name} is damaged: it has no samples. Re-copy the file.`);
  const format = readFormat(chunks.fmt, little);
  const reader = READERS[`${format.tag} ${format.bits}`];
  if (!reader) return null;
  check(file.name, format);
  const size = format.channels * (format.bits / 8);
  const frames = Math.floor(samplesLength(file, chunks.data, size, format.rate) / size);
  if (!frames) throw new Error(`${file.name} has no samples. Re-export the file.`);
  const read = async (first, count) => {
    const view = await viewOf(file, chunks.data.start + first * size, Math.min(count, frames - first) * size);
    return split(view, format, reader, little);
  };
  return { rate: format.rate, channels: format.channels, frames, read };
}

/** [(n) of each channel] of the samples in a view. */
function split(view, { channels, bits }, reader, little) {
  const bytes = bits / 8;
  const count = Math.floor(view.byteLength / bytes / channels);
  return Array.from({ length: channels }, (_, channel) => {
    const samples = new Float32Array(count);
    for (let i = 0; i < count; i++) samples[i] = reader(view, (i * channels + channel) * bytes, little);
    return samples;
  });
}

function readFormat(view, little) {
  const tag = view.getUint16(0, little);
  const bits = view.getUint16(14, little);
  const own = tag === EXTENSIBLE && view.byteLength >= 26 ? view.getUint16(24, little) : tag;
  return { tag: own, channels: view.getUint16(2, little), rate: view.getUint32(4, little), bits };
}

function check(name, { rate, channels }) {
  if (rate < RATES[0] || rate > RATES[1]) {
    throw new Error(
      `${name} has ${rate} samples a second by its header; ${RATES[0]} to ${RATES[1]} are allowed. ` +
        "If the header is wrong, write the file again with the true rate.",
    );
  }
  if (channels < 1 || channels > MOST_CHANNELS) {
    throw new Error(`${name} has ${channels} channels by its header; 1 to ${MOST_CHANNELS} are allowed. Re-export the file.`);
  }
}

/** Bytes of samples: those declared, or up to the end where the recorder did not know. */
function samplesLength(file, { start, declared }, size, rate) {
  const present = Math.max(0, file.size - start);
  const isOpen = (0x7ffff000 <= declared && declared <= 0x80000000) || (0xfffff000 <= declared && declared <= 0xffffffff);
  if (declared === 0 || (isOpen && declared > present)) return present;
  if (declared - present > SLACK_BYTES) {
    const [promised, readable] = [declared, present].map((bytes) => (bytes / size / rate).toFixed(2));
    throw new Error(
      `${file.name} is damaged: its header promises ${promised} s, ${readable} s can be read (the data ends early). ` +
        "Re-copy the file.",
    );
  }
  return Math.min(declared, present);
}

async function findChunks(file, little) {
  const found = {};
  let long = 0; // the size of the samples where 32 bits do not hold it (EBU 3306)
  for (let at = 12, count = 0; count < MOST_CHUNKS; count++) {
    const head = await viewOf(file, at, 8);
    if (head.byteLength < 8) break;
    const [name, size] = [text(head, 0), head.getUint32(4, little)];
    if (name === "fmt " && size >= 16) found.fmt = await viewOf(file, at + 8, Math.min(size, 40));
    if (name === "ds64" && size >= 16) long = Number((await viewOf(file, at + 16, 8)).getBigUint64(0, true));
    if (name === "data") {
      found.data = { start: at + 8, declared: size === 0xffffffff && long ? long : size };
      break;
    }
    at += 8 + size + (size % 2);
  }
  if (found.fmt && found.fmt.byteLength < 16) delete found.fmt;
  return found;
}

async function viewOf(file, start, length) {
  return new DataView(await file.slice(start, start + length).arrayBuffer());
}

function text(view, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));
}
