// Live samples to windows at the model's rate, with times that go on across gaps. No audio device, and no clock but the given.

import { Resampler } from "./resample.js";
import { Cutter } from "./windows.js";

const LATE_SECONDS = 0.5; // by which samples may be later than their number says; what is later was lost
const MOST_WAITING = 8; // windows that the model has not heard yet; others are left out
const DRIFT = 1e-3; // of the clocks of sound and computer, at most, which is no gap

/**
 * Samples in, windows out; counts what was lost.
 *
 * @param {number} rate Hz of the samples.
 * @param {object} model sample_rate, window_seconds, window_samples, hop_samples, padding.
 * @param {function} onWindow told {start, end_seconds, samples}.
 * @param {function} onLost told the seconds of sound that no window holds.
 */
export class LiveCutter {
  constructor(rate, model, onWindow, onLost) {
    Object.assign(this, { rate, model, onWindow, onLost });
    this.origin = 0; // seconds before the first sample since the last gap
    this.waiting = 0;
    this.#begin();
  }

  /** Samples (n) that came at `now`, in seconds of any clock. */
  push(samples, now) {
    const lateness = now - (this.given + samples.length) / this.rate;
    this.earliest = Math.min(this.earliest + (DRIFT * samples.length) / this.rate, lateness);
    if (lateness - this.earliest > LATE_SECONDS) this.#skip(lateness - this.earliest);
    this.given += samples.length;
    this.#give(this.cutter.push(this.resampler.push(samples)));
  }

  /** The window of the rest at the end. */
  flush() {
    const rest = [...this.cutter.push(this.resampler.flush()), ...this.cutter.flush()];
    this.#give(rest, this.origin + this.cutter.heard / this.model.sample_rate);
  }

  /** The model has heard some windows. */
  taken(count) {
    this.waiting -= count;
  }

  #begin() {
    this.given = 0; // samples since the last gap
    this.earliest = Infinity; // seconds from the number of samples to the clock, where no sample is late
    this.resampler = new Resampler(this.rate, this.model.sample_rate);
    this.cutter = new Cutter(this.model.window_samples, this.model.hop_samples, this.model.padding);
  }

  #skip(seconds) {
    this.origin += this.given / this.rate + seconds;
    this.#begin();
    this.onLost(seconds);
  }

  #give(cut, end = Infinity) {
    const { sample_rate: rate, window_seconds: length, hop_samples: hop } = this.model;
    for (const [first, samples] of cut) {
      const start = this.origin + first / rate;
      if (this.waiting >= MOST_WAITING) {
        this.onLost(hop / rate);
      } else {
        this.waiting += 1;
        this.onWindow({ start, end_seconds: Math.min(start + length, end), samples });
      }
    }
  }
}
