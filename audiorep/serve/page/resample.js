// Blocks of one sample rate to blocks of another, in constant memory: a polyphase filter that is a sinc under a Kaiser window.
//
// The filters are those of soxr's high quality, by which audiorep resamples in Python: flat up to 0.91 of the lower Nyquist
// frequency, and 126 dB down from that frequency on. Their numbers were fitted to soxr's impulse responses.

const DIRECT = { cutoff: 0.956872, width: 96.83, beta: 13.04 }; // soxr's one stage, where the rates are in a simple ratio
const STAGED = { cutoff: 0.956843, width: 109.67, beta: 15.98 }; // its several stages, to 70 dB
const SIMPLE = 16; // samples out, at most, in the shortest stretch that is whole samples at both rates
const FINEST = 1024; // phases a sample of the lower rate; between two, coefficients are interpolated, with an error of -118 dB

/** Blocks in, blocks out; the borders of blocks leave no trace. Both rates are whole numbers of Hz. */
export class Resampler {
  constructor(rate, sampleRate) {
    if (!(Number.isInteger(rate) && Number.isInteger(sampleRate) && rate > 0 && sampleRate > 0)) {
      throw new Error(`Sound of ${rate} Hz cannot become sound of ${sampleRate} Hz; whole numbers are needed.`);
    }
    const divisor = greatestDivisor(rate, sampleRate);
    [this.step, this.parts] = [rate / divisor, sampleRate / divisor]; // a sample out every step / parts samples in
    this.filter = rate === sampleRate ? null : filterOf(this.step, this.parts);
    this.kept = new Float32Array(this.filter ? this.filter.half : 0); // silence before the sound
    this.first = -this.kept.length; // position of the first kept sample
    this.heard = this.given = 0; // samples in, samples out
  }

  /** What the block adds; of the first blocks often nothing yet. */
  push(block) {
    this.heard += block.length;
    if (!this.filter) return block;
    this.#keep(block);
    return this.#give(this.#countUpTo(this.heard - this.filter.half)); // a later sample needs what has not come yet
  }

  /** The rest, after the last block. */
  flush() {
    if (!this.filter) return new Float32Array(0);
    this.#keep(new Float32Array(this.filter.half + 1));
    return this.#give(Math.floor((this.heard * this.parts) / this.step + 0.5));
  }

  #keep(block) {
    const whole = new Float32Array(this.kept.length + block.length);
    whole.set(this.kept);
    whole.set(block, this.kept.length);
    this.kept = whole;
  }

  /** Samples out whose place lies before `position` among the samples in. */
  #countUpTo(position) {
    return Math.max(this.given, Math.ceil((position * this.parts) / this.step));
  }

  #give(count) {
    const out = new Float32Array(Math.max(0, count - this.given));
    for (let i = 0; i < out.length; i++) out[i] = this.#sample(this.given + i);
    this.given += out.length;
    const needed = Math.floor((this.given * this.step) / this.parts) - this.filter.half + 1;
    const passed = Math.min(Math.max(0, needed - this.first), this.kept.length);
    this.kept = this.kept.slice(passed);
    this.first += passed;
    return out;
  }

  #sample(index) {
    const { half, taps, phases, table } = this.filter;
    const kept = this.kept;
    const place = index * this.step;
    const before = Math.floor(place / this.parts); // the sample in at or before this one
    const phase = ((place - before * this.parts) * phases) / this.parts;
    const row = Math.floor(phase);
    const share = phase - row;
    const from = before - half + 1 - this.first;
    const [one, two] = [row * taps, (row + 1) * taps];
    let [low, high] = [0, 0];
    for (let i = 0; i < taps; i++) low += kept[from + i] * table[one + i];
    if (!share) return low;
    for (let i = 0; i < taps; i++) high += kept[from + i] * table[two + i];
    return low + share * (high - low);
  }
}

function greatestDivisor(a, b) {
  return b ? greatestDivisor(b, a % b) : a;
}

const filters = new Map(); // by the ratio, since a page hears many files of one rate

function filterOf(step, parts) {
  const key = `${step}/${parts}`;
  if (!filters.has(key)) filters.set(key, makeFilter(step, parts));
  return filters.get(key);
}

/** Coefficients (phases + 1) × taps: row p is of samples out that lie p / phases of a sample in behind a sample in. */
function makeFilter(step, parts) {
  const scale = Math.min(1, parts / step); // the lower rate, as a share of the rate in
  const kind = parts <= SIMPLE ? DIRECT : STAGED;
  const [cutoff, width] = [scale * kind.cutoff, kind.width / scale];
  const half = Math.ceil(width) + 1;
  const taps = 2 * half;
  const phases = Math.min(parts, Math.max(16, Math.ceil(FINEST * scale)));
  const table = new Float64Array((phases + 1) * taps);
  for (let phase = 0; phase <= phases; phase++) {
    for (let i = 0; i < taps; i++) table[phase * taps + i] = kernel(i - half + 1 - phase / phases, cutoff, width, kind.beta);
  }
  return { half, taps, phases, table };
}

function kernel(time, cutoff, width, beta) {
  if (Math.abs(time) >= width) return 0;
  const angle = Math.PI * cutoff * time;
  const sinc = Math.abs(angle) < 1e-9 ? 1 : Math.sin(angle) / angle;
  return (cutoff * sinc * bessel(beta * Math.sqrt(1 - (time / width) ** 2))) / bessel(beta);
}

/** The modified Bessel function of the first kind, of order zero. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-17 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
