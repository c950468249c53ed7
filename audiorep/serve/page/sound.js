// The samples of a sound, to draw and to play: one channel, 16 bits, in pieces of a second.

const BLOCK = 256; // samples whose lowest and highest value are kept
const DRAWN = 3600; // seconds; a longer file is recognized, and not drawn

export class Sound {
  /** @param {number} rate Hz. @param {number} longest seconds; of a longer sound the last ones are kept. */
  constructor(rate, longest = Infinity) {
    Object.assign(this, { rate, longest, length: 0, pieces: [], first: 0 }); // pieces before the second `first` are null
    this.peaks = [new Int16Array(1024), new Int16Array(1024)]; // lowest and highest of each block
  }

  get seconds() {
    return this.length / this.rate;
  }

  append(samples) {
    for (const sample of samples) {
      const at = this.length % this.rate;
      if (!at) this.pieces.push(new Int16Array(this.rate));
      if (this.pieces.length - this.first > this.longest) this.pieces[this.first++] = null;
      const value = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      this.pieces.at(-1)[at] = value;
      this.#peak(Math.floor(this.length / BLOCK), value, this.length++ % BLOCK === 0);
    }
  }

  #peak(block, value, isFirst) {
    if (block >= this.peaks[0].length) {
      this.peaks = this.peaks.map((old) => {
        const longer = new Int16Array(2 * old.length);
        longer.set(old);
        return longer;
      });
    }
    const [low, high] = this.peaks;
    if (isFirst || value < low[block]) low[block] = value;
    if (isFirst || value > high[block]) high[block] = value;
  }

  /** The sample at a place, -1..1; 0 where there is none. */
  at(index) {
    const piece = index < this.length ? this.pieces[Math.floor(index / this.rate)] : null;
    return piece ? piece[index % this.rate] / 32768 : 0;
  }

  /** [lowest, highest] of the samples from one place to another. */
  range(from, to) {
    let [low, high] = [1, -1];
    const isLong = to - from > 2 * BLOCK;
    const step = isLong ? BLOCK : 1;
    const end = Math.min(this.length, Math.max(from + 1, to)) / step;
    for (let k = Math.floor(from / step); k < end; k++) {
      low = Math.min(low, isLong ? this.peaks[0][k] / 32768 : this.at(k));
      high = Math.max(high, isLong ? this.peaks[1][k] / 32768 : this.at(k));
    }
    return [low, high];
  }

  /** A WAV file of what is kept. */
  wav() {
    const bytes = 2 * (this.length - this.first * this.rate);
    const words = [0x46464952, 36 + bytes, 0x45564157, 0x20746d66, 16, 0x10001, this.rate, 2 * this.rate, 0x100002, 0x61746164];
    return new Blob([new Blob([Uint32Array.of(...words, bytes), ...this.pieces.slice(this.first)]).slice(0, 44 + bytes)], { type: "audio/wav" });
  }
}

/** The sound of a file of `seconds` at `rate`, its channels averaged. Throws one sentence. */
export async function decode(file, rate, seconds) {
  if (seconds > DRAWN) throw new Error("Sounds of more than an hour are not drawn.");
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error("This browser cannot decode the file, so it is neither drawn nor played.");
  }
  const sound = new Sound(rate);
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, k) => buffer.getChannelData(k));
  for (let from = 0; from < buffer.length; from += rate) {
    const parts = channels.map((samples) => samples.subarray(from, from + rate));
    sound.append(parts[0].map((_, k) => parts.reduce((sum, part) => sum + part[k], 0) / parts.length));
    if (!((from / rate) % 20)) await new Promise((done) => setTimeout(done)); // the page stays alive
  }
  return sound;
}
