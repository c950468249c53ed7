// One channel from the channels of a sound: audiorep/audio/channels.py in JavaScript, for the choice `mean`.

const CANCELLED_RATIO = 0.1; // of the power that the mean of unrelated channels would have; below it they cancel each other
const AUDIBLE_POWER = 1e-8; // of full scale (-80 dB); for quieter sounds the mean is always used
const MOST_AMPLITUDE = 64; // larger floats are integers that were not scaled

/** Turns blocks of several channels into blocks of one: their mean, or a loud one where they cancel each other out. */
export class Mixer {
  constructor(name) {
    Object.assign(this, { name, cancelled: 0, frames: 0, used: new Set() });
  }

  /** The (n) block of one channel, from an array of (n) channels; throws a sentence where a sample is no number. */
  mix(channels) {
    this.frames += channels[0].length;
    return checked(channels.length === 1 ? channels[0] : this.#mixed(channels), this.name);
  }

  /** A sentence for people if channels cancelled each other out. */
  notes(rate) {
    if (!this.cancelled) return [];
    const [seconds, whole] = [this.cancelled / rate, this.frames / rate].map((value) => value.toFixed(1));
    const where = this.cancelled === this.frames ? "" : ` in ${seconds} of ${whole} s`;
    const used = [...this.used].sort((a, b) => a - b).map((index) => index + 1);
    return [
      `${this.name}: its channels are in opposite phase and cancel each other out${where}; channel ${used.join(" or ")} was ` +
        "used instead of their mean.",
    ];
  }

  #mixed(channels) {
    const mono = new Float32Array(channels[0].length);
    for (const channel of channels) for (let i = 0; i < mono.length; i++) mono[i] += channel[i];
    for (let i = 0; i < mono.length; i++) mono[i] /= channels.length;
    const powers = channels.map(power);
    const mean = powers.reduce((sum, value) => sum + value, 0) / powers.length;
    if (!(mean > AUDIBLE_POWER) || !(power(mono) < (CANCELLED_RATIO * mean) / powers.length)) return mono;
    const loud = powers.findIndex((value) => value >= Math.max(...powers) / 2); // the first, so that blocks do not alternate
    this.cancelled += mono.length;
    this.used.add(loud);
    return channels[loud];
  }
}

function power(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return sum / Math.max(1, samples.length);
}

function checked(mono, name) {
  let peak = 0;
  for (const sample of mono) {
    if (!Number.isFinite(sample)) throw new Error(`${name} holds NaN or infinite samples. Re-export the file.`);
    peak = Math.max(peak, Math.abs(sample));
  }
  if (peak > MOST_AMPLITUDE) {
    const most = Math.round(peak);
    throw new Error(`${name} holds samples up to ${most}; floats must lie in -1..1. Divide integer samples by their range.`);
  }
  return mono;
}
