// The samples of one sound, as the page keeps them to draw and to play: one channel, 16 bits, in pieces of a second.

const BLOCK = 256; // samples for which the lowest and the highest value are kept
const LONGEST_SECONDS = 3600; // a longer file is recognized, and not drawn

export class Sound {
  /** @param {number} rate Hz. @param {number} longest seconds; of a longer sound, the last ones are kept. */
  constructor(rate, longest = Infinity) {
    this.rate = rate;
    this.longest = longest;
    this.length = 0; // samples, with those that are no longer kept
    this.pieces = []; // Int16Array(rate) or null
    this.dropped = 0; // pieces that are no longer kept
    this.lows = new Int16Array(1024); // of each block
    this.highs = new Int16Array(1024);
  }

  get seconds() {
    return this.length / this.rate;
  }

  /** Seconds at which the part that is kept begins. */
  get first() {
    return this.dropped;
  }

  append(samples) {
    for (const sample of samples) {
      const at = this.length % this.rate;
      if (at === 0) this.#newPiece();
      const value = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      this.pieces[this.pieces.length - 1][at] = value;
      this.#newPeak(Math.floor(this.length / BLOCK), value, this.length % BLOCK === 0);
      this.length += 1;
    }
  }

  #newPiece() {
    this.pieces.push(new Int16Array(this.rate));
    if (this.pieces.length - this.dropped > this.longest) this.pieces[this.dropped++] = null;
  }

  #newPeak(block, value, isFirst) {
    if (block >= this.lows.length) {
      this.lows = grown(this.lows);
      this.highs = grown(this.highs);
    }
    if (isFirst || value < this.lows[block]) this.lows[block] = value;
    if (isFirst || value > this.highs[block]) this.highs[block] = value;
  }

  /** The sample at a place, -1..1; 0 where there is none. */
  at(index) {
    const piece = index >= 0 && index < this.length ? this.pieces[Math.floor(index / this.rate)] : null;
    return piece ? piece[index % this.rate] / 32768 : 0;
  }

  /** [lowest, highest] of the samples from one place to another, -1..1. */
  range(from, to) {
    from = Math.max(0, Math.floor(from));
    to = Math.min(this.length, Math.max(from + 1, Math.ceil(to)));
    let [low, high] = [32767, -32768];
    if (to - from > 2 * BLOCK) {
      for (let block = Math.floor(from / BLOCK); block < Math.ceil(to / BLOCK); block++) {
        if (this.lows[block] < low) low = this.lows[block];
        if (this.highs[block] > high) high = this.highs[block];
      }
      return [low / 32768, high / 32768];
    }
    for (let index = from; index < to; index++) {
      const value = this.at(index) * 32768;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return low > high ? [0, 0] : [low / 32768, high / 32768];
  }

  /** Forgets all samples. */
  drop() {
    this.dropped = this.pieces.length;
    this.pieces.fill(null);
  }

  /** A WAV file of what is kept. */
  wav() {
    const rest = this.length % this.rate;
    const kept = this.pieces.slice(this.dropped).map((piece, k, all) => (k === all.length - 1 && rest ? piece.slice(0, rest) : piece));
    const bytes = kept.reduce((sum, piece) => sum + piece.byteLength, 0);
    const header = new DataView(new ArrayBuffer(44));
    [..."RIFF    WAVEfmt "].forEach((c, k) => header.setUint8(k, c.charCodeAt(0)));
    [..."data"].forEach((c, k) => header.setUint8(36 + k, c.charCodeAt(0)));
    header.setUint32(4, 36 + bytes, true);
    header.setUint32(16, 16, true);
    header.setUint16(20, 1, true); // PCM
    header.setUint16(22, 1, true); // one channel
    header.setUint32(24, this.rate, true);
    header.setUint32(28, 2 * this.rate, true);
    header.setUint16(32, 2, true);
    header.setUint16(34, 16, true);
    header.setUint32(40, bytes, true);
    return new Blob([header, ...kept], { type: "audio/wav" });
  }
}

function grown(values) {
  const longer = new Int16Array(2 * values.length);
  longer.set(values);
  return longer;
}

/** The sound of a file at `rate`, its channels averaged. Throws one sentence. */
export async function decode(file, rate, seconds) {
  if (seconds > LONGEST_SECONDS) throw new Error("Sounds of more than an hour are not drawn.");
  const context = new OfflineAudioContext(1, 1, rate);
  let buffer;
  try {
    buffer = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error("This browser cannot decode the file, so it is neither drawn nor played.");
  }
  const sound = new Sound(rate);
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, k) => buffer.getChannelData(k));
  for (let from = 0; from < buffer.length; from += rate) {
    const piece = channels[0].slice(from, from + rate);
    for (const other of channels.slice(1)) for (let k = 0; k < piece.length; k++) piece[k] += other[from + k];
    sound.append(piece.map((sample) => sample / channels.length));
    if (from % (20 * rate) === 0) await new Promise((done) => setTimeout(done)); // the page stays alive
  }
  return sound;
}
