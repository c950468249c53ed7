// FLAC files (RFC 9639) with the samples that Python reads from them, in pieces: browsers round a little, and decode all at once.

const PIECE_BYTES = 1 << 20; // read from the file at a time
const MOST_BITS = 24; // of a sample; files of 32 bits are rare, and left to the browser
const SAMPLE_BITS = [0, 8, 12, 0, 16, 20, 24, 32];
const [LEFT_SIDE, SIDE_RIGHT, MID_SIDE] = [8, 9, 10];

/**
 * The sound in a FLAC file: {rate, channels, frames, read(first, count)}, or null where it is another format.
 *
 * It is read from its beginning to its end, once: each call of `read` begins where the one before ended.
 */
export async function openFlac(file) {
  const info = await readInfo(file);
  if (!info || info.bits > MOST_BITS || !info.frames) return null;
  const stream = new Stream(file, info);
  return { rate: info.rate, channels: info.channels, frames: info.frames, read: (_, count) => stream.read(count) };
}

/** Rate, channels, bits, frames, and where the first block of samples begins, from the first chunks of metadata. */
async function readInfo(file) {
  const head = new Uint8Array(await file.slice(0, 10).arrayBuffer());
  const isTagged = String.fromCharCode(...head.subarray(0, 3)) === "ID3";
  let at = isTagged ? 10 + head.subarray(6).reduce((size, byte) => (size << 7) | byte, 0) : 0;
  const view = new DataView(await file.slice(at, at + 42).arrayBuffer());
  if (view.byteLength < 42 || view.getUint32(0) !== 0x664c6143 || (view.getUint8(4) & 127) !== 0) return null;
  const packed = view.getUint32(18); // 20 bits of the rate, 3 of the channels, 5 of the bits, and the first 4 of the length
  const info = { rate: packed >>> 12, channels: ((packed >> 9) & 7) + 1, bits: ((packed >> 4) & 31) + 1 };
  const most = ((view.getUint8(15) << 16) | view.getUint16(16)) || 1 << 21; // bytes of a block
  for (let isLast = false, next = at + 4; !isLast; next = at) {
    const block = new DataView(await file.slice(next, next + 4).arrayBuffer());
    if (block.byteLength < 4) return null;
    isLast = block.getUint8(0) >= 128;
    at = next + 4 + (block.getUint32(0) & 0xffffff);
  }
  return { ...info, frames: (packed & 15) * 2 ** 32 + view.getUint32(22), most: most + 16, start: at };
}

class Stream {
  constructor(file, info) {
    Object.assign(this, { file, info, place: info.start, bytes: new Uint8Array(0), at: 0, heard: 0 });
    this.block = null; // of each channel, the samples that were decoded last
    this.used = 0; // of them
  }

  /** [(count) of each channel]. */
  async read(count) {
    const { channels, frames, bits } = this.info;
    const step = 2 ** (1 - bits);
    const found = Array.from({ length: channels }, () => new Float32Array(Math.min(count, frames - this.heard)));
    for (let filled = 0; filled < found[0].length; ) {
      if (!this.block || this.used === this.block[0].length) await this.#next();
      const taken = Math.min(found[0].length - filled, this.block[0].length - this.used);
      found.forEach((samples, k) => {
        const [from, used] = [this.block[k], this.used];
        for (let i = 0; i < taken; i++) samples[filled + i] = from[used + i] * step;
      });
      [filled, this.used, this.heard] = [filled + taken, this.used + taken, this.heard + taken];
    }
    return found;
  }

  async #next() {
    if (this.bytes.length - this.at < this.info.most && this.place < this.file.size) {
      const end = this.place + Math.max(PIECE_BYTES, this.info.most);
      const more = new Uint8Array(await this.file.slice(this.place, end).arrayBuffer());
      const whole = new Uint8Array(this.bytes.length - this.at + more.length);
      whole.set(this.bytes.subarray(this.at));
      whole.set(more, this.bytes.length - this.at);
      [this.bytes, this.at, this.place] = [whole, 0, this.place + more.length];
    }
    const bits = new Bits(this.bytes, this.at);
    const block = decodeBlock(bits, this.info);
    if (!block || checksum(this.bytes, this.at, bits.byte - 2) !== ((this.bytes[bits.byte - 2] << 8) | this.bytes[bits.byte - 1])) {
      const [promised, readable] = [this.info.frames, this.heard].map((frames) => (frames / this.info.rate).toFixed(2));
      throw new Error(
        `${this.file.name} is damaged: its header promises ${promised} s, ${readable} s can be read. Re-copy the file.`,
      );
    }
    [this.block, this.used, this.at] = [block, 0, bits.byte];
  }
}

/** [Int32Array of each channel] of the block at hand; null where there is none. */
function decodeBlock(bits, info) {
  if (bits.read(15) !== 0x7ffc) return null;
  bits.read(1); // whether blocks differ in length
  const [lengthCode, rateCode, layout, bitsCode] = [bits.read(4), bits.read(4), bits.read(4), bits.read(3)];
  bits.read(1);
  for (let first = bits.read(8), ones = Math.clz32(~(first << 24)); ones > 1; ones--) bits.read(8); // the block's number
  const length = lengthOf(lengthCode, bits);
  bits.read([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 16, 16, 0][rateCode] + 8); // the rate, and a checksum of the header
  const count = layout < 8 ? layout + 1 : 2;
  const depth = bitsCode ? SAMPLE_BITS[bitsCode] : info.bits;
  if (!length || count !== info.channels || depth !== info.bits || layout > MID_SIDE) return null;
  const isSide = (k) => (layout === SIDE_RIGHT ? k === 0 : layout >= LEFT_SIDE && k === 1);
  const channels = [];
  for (let k = 0; k < count; k++) {
    const samples = decodeChannel(bits, length, depth + (isSide(k) ? 1 : 0));
    if (!samples) return null;
    channels.push(samples);
  }
  bits.align();
  bits.read(16);
  return bits.isOver ? null : apart(channels, layout);
}

function lengthOf(code, bits) {
  if (code === 6) return bits.read(8) + 1;
  if (code === 7) return bits.read(16) + 1;
  if (code === 1) return 192;
  return code < 6 ? (code && 144 << code) : 1 << code;
}

/** Left and right of what was written as one of them and their difference, or as their mean and their difference. */
function apart([first, second, ...others], layout) {
  for (let i = 0; layout >= LEFT_SIDE && i < first.length; i++) {
    if (layout === LEFT_SIDE) {
      second[i] = first[i] - second[i];
    } else if (layout === SIDE_RIGHT) {
      first[i] += second[i];
    } else {
      const [middle, side] = [2 * first[i] + (second[i] & 1), second[i]];
      [first[i], second[i]] = [(middle + side) >> 1, (middle - side) >> 1];
    }
  }
  return second ? [first, second, ...others] : [first];
}

function decodeChannel(bits, length, depth) {
  if (bits.read(1)) return null;
  const kind = bits.read(6);
  const wasted = bits.read(1) ? bits.zeros() + 1 : 0;
  const samples = new Int32Array(length);
  const own = depth - wasted;
  if (own < 1) return null;
  if (kind === 0) samples.fill(bits.signed(own));
  else if (kind === 1) for (let i = 0; i < length; i++) samples[i] = bits.signed(own);
  else if (!decodePredicted(bits, samples, own, kind)) return null;
  if (wasted) for (let i = 0; i < length; i++) samples[i] <<= wasted;
  return samples;
}

function decodePredicted(bits, samples, depth, kind) {
  const order = kind >= 32 ? kind - 31 : kind - 8;
  if (kind < 8 || (kind > 12 && kind < 32) || order > samples.length) return false;
  for (let i = 0; i < order; i++) samples[i] = bits.signed(depth);
  let [weights, shift] = [[[], [1], [2, -1], [3, -3, 1], [4, -6, 4, -1]][order], 0];
  if (kind >= 32) {
    const precision = bits.read(4) + 1;
    shift = bits.signed(5);
    weights = Array.from({ length: order }, () => bits.signed(precision));
  }
  if (!readRest(bits, samples, order)) return false;
  const step = 2 ** -shift;
  weights = Float64Array.from(weights);
  for (let i = order; i < samples.length; i++) {
    let sum = 0; // of up to 44 bits, which a float64 holds
    for (let k = 0; k < order; k++) sum += weights[k] * samples[i - 1 - k];
    samples[i] += Math.floor(sum * step);
  }
  return true;
}

/** What the prediction missed, in Rice's code, into `samples` from `order` on. */
function readRest(bits, samples, order) {
  const width = bits.read(2) + 4; // of a parameter
  const parts = 1 << bits.read(4);
  if (width > 5 || samples.length % parts || samples.length / parts < order) return false;
  for (let part = 0, i = order; part < parts; part++) {
    const end = ((part + 1) * samples.length) / parts;
    const parameter = bits.read(width);
    if (parameter === (1 << width) - 1) {
      const plain = bits.read(5);
      for (; i < end; i++) samples[i] = plain ? bits.signed(plain) : 0;
    } else {
      for (; i < end && !bits.isOver; i++) {
        const value = bits.zeros() * 2 ** parameter + bits.read(parameter); // of up to 32 bits
        samples[i] = (value >>> 1) ^ -(value & 1);
      }
      if (bits.isOver) return false;
    }
  }
  return true;
}

/** Reads numbers of some bits, the highest bit first. */
class Bits {
  constructor(bytes, byte) {
    Object.assign(this, { bytes, byte, kept: 0, count: 0 }); // `kept` holds the last `count` bits of the bytes before `byte`
  }

  /** Whether more was read than there is. */
  get isOver() {
    return this.byte > this.bytes.length;
  }

  read(bits) {
    if (bits > 16) return this.read(bits - 16) * 65536 + this.read(16);
    while (this.count < bits) this.#more();
    this.count -= bits;
    const value = this.kept >>> this.count;
    this.kept &= (1 << this.count) - 1;
    return value;
  }

  signed(bits) {
    const value = this.read(bits);
    return value >= 2 ** (bits - 1) ? value - 2 ** bits : value;
  }

  /** The number of zeros before the next one, which is read too. */
  zeros() {
    let zeros = 0;
    for (; !this.kept && !this.isOver; this.#more()) {
      zeros += this.count;
      this.count = 0;
    }
    const length = 32 - Math.clz32(this.kept);
    zeros += this.count - length;
    this.count = length - 1;
    this.kept &= (1 << this.count) - 1;
    return zeros;
  }

  align() {
    this.count -= this.count % 8;
    this.kept = 0;
    this.byte -= this.count / 8;
    this.count = 0;
  }

  #more() {
    this.kept = (this.kept << 8) | (this.bytes[this.byte++] ?? 0);
    this.count += 8;
  }
}

const CRC = Uint16Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 8;
  for (let bit = 0; bit < 8; bit++) value = value & 0x8000 ? (value << 1) ^ 0x8005 : value << 1;
  return value;
});

function checksum(bytes, from, to) {
  let value = 0;
  for (let i = from; i < to; i++) value = ((value << 8) ^ CRC[(value >> 8) ^ bytes[i]]) & 0xffff;
  return value;
}
