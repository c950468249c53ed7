// Events in the scores of consecutive windows: audiorep/predict/events.py in JavaScript. Both pass tests/vectors/events/.

const EXACT = 1e-6; // seconds within which two times are the same
export const DEFAULTS = {
  on: 0, // score from which a window counts; 0: the label's threshold in the model, or 0.5 where it has none
  off: 0, // score from which a window keeps an open event open, at most `on`; 0: 0.7 of `on`
  confirm: 1, // windows that must count before an event begins
  of: 1, // last windows among which they are
  sure: 1, // score of a single window that begins an event at once
  least_seconds: 0, // length that an event must reach to be told
  hang_seconds: 0, // length of a gap that does not end an event
  pause_seconds: 0, // time from the end of an event in which no other of its label begins
  level_db: -200, // peak level of a window, against full scale, below which it counts for no label
  allow: [], // the only labels that become events; empty: all
  deny: [], // labels that do not; the model's `unknown` never does, unless it is in `allow`
  labels: {}, // {label: settings of its own}, but for `level_db` and the lists
};

/**
 * The events of one head, from its windows one after the other.
 *
 * An event covers the new part of each of its windows: what no window before it held. It begins with the first of the
 * windows that confirm it, and ends with the last window that keeps it open. Every event is told twice: when it has begun
 * (`open`), and when it has ended. `decided` is the time up to which the sound had been heard when it was told.
 *
 * @param {string[]} labels K class names.
 * @param {object} config values of an `EventConfig`, with the names as in Python; they are not checked here.
 * @param {?number[]} thresholds K scores that stand for `config.on` where that is 0.
 * @param {string} unknown the label of sounds of no class, if there is one.
 */
export class EventTracker {
  constructor(labels, config = {}, thresholds = null, unknown = "") {
    const settings = { ...DEFAULTS, ...config };
    const own = (label) => (Object.hasOwn(settings.labels, label) ? settings.labels[label] : {});
    this.labels = [...labels];
    this.own = this.labels.map((label) => ({ ...settings, ...own(label) }));
    this.on = this.own.map(({ on }, k) => on || (thresholds && thresholds[k] > 0 ? thresholds[k] : 0.5));
    this.off = this.own.map(({ off }, k) => (off ? Math.min(off, this.on[k]) : 0.7 * this.on[k]));
    this.memory = this.own.reduce((most, { of }) => Math.max(most, of), 1);
    const allowed = new Set(settings.allow.length ? settings.allow : this.labels);
    const refused = new Set(settings.allow.includes(unknown) ? settings.deny : [...settings.deny, unknown]);
    this.heeded = this.labels.map((label) => allowed.has(label) && !refused.has(label));
    this.level = 10 ** (settings.level_db / 20);
    this.reset();
  }

  /** Forgets all windows and open events: the next window is the first. */
  reset() {
    const numbers = (value) => new Float64Array(this.labels.length).fill(value);
    this.hits = Array.from({ length: this.memory }, () => numbers(0)); // scores of recent windows where they count, else 0
    this.begun = new Array(this.memory).fill(-Infinity); // where the new part of each recent window begins
    this.heard = -Infinity;
    [this.open, this.told] = [numbers(0), numbers(0)];
    [this.start, this.end, this.best] = [numbers(0), numbers(0), numbers(0)];
    this.free = numbers(-Infinity); // from when on the next event may begin
  }

  /**
   * The events that a window decides: those that end, and those that begin.
   *
   * @param {number} start seconds at which the window begins, no earlier than the window before.
   * @param {number} end seconds at which it ends.
   * @param {ArrayLike<number>} scores K scores.
   * @param {number} peak its largest magnitude, 1 at full scale.
   */
  push(start, end, scores, peak = 1) {
    const fresh = Math.min(Math.max(start, this.heard), end);
    this.heard = Math.max(end, this.heard);
    const loud = peak >= this.level;
    const heeded = Float64Array.from(scores, (score, k) => (loud && this.heeded[k] ? score : 0));
    const ended = this.#close((k) => fresh - this.end[k] > this.own[k].hang_seconds + EXACT, end); // nothing between
    this.#keep(end, heeded);
    ended.push(...this.#close((k) => end - this.end[k] > this.own[k].hang_seconds + EXACT, end));
    this.#begin(fresh, end, heeded);
    const isNew = (k) => this.open[k] && !this.told[k] && this.end[k] - this.start[k] >= this.own[k].least_seconds - EXACT;
    const begun = this.#where(isNew);
    for (const k of begun) this.told[k] = 1;
    return [...ended, ...begun.map((k) => this.#event(k, end, true))];
  }

  /** Ends the open events where they were last heard; the next window is the first of another stretch. */
  flush() {
    const ended = this.#close(() => true, this.heard);
    this.reset();
    return ended;
  }

  #keep(end, scores) {
    for (const k of this.#where((label) => this.open[label] && scores[label] >= this.off[label])) {
      this.end[k] = end;
      this.best[k] = Math.max(this.best[k], scores[k]);
    }
  }

  #close(isOver, now) {
    const ended = [];
    for (const k of this.#where((label) => this.open[label] && isOver(label))) {
      if (this.told[k]) {
        ended.push(this.#event(k, now, false));
        this.free[k] = this.end[k] + this.own[k].pause_seconds;
      }
      for (const row of this.hits) row[k] = 0;
      this.open[k] = this.told[k] = 0;
    }
    return ended;
  }

  #begin(fresh, end, scores) {
    const row = this.hits.shift(); // the oldest, which is used again
    for (let k = 0; k < row.length; k++) row[k] = scores[k] >= this.on[k] && fresh >= this.free[k] - EXACT ? scores[k] : 0;
    this.hits.push(row);
    this.begun.shift();
    this.begun.push(fresh);
    for (const k of this.#where((label) => row[label] > 0 && !this.open[label])) this.#beginLabel(k, end, scores[k]);
  }

  #beginLabel(k, end, score) {
    const counted = [];
    for (let i = this.memory - this.own[k].of; i < this.memory; i++) if (this.hits[i][k] > 0) counted.push(i);
    if (counted.length < this.own[k].confirm && !(score >= this.own[k].sure)) return;
    this.start[k] = this.begun[counted[0]];
    this.end[k] = end;
    this.best[k] = counted.reduce((best, i) => Math.max(best, this.hits[i][k]), 0);
    this.open[k] = 1;
  }

  #where(holds) {
    const found = [];
    for (let k = 0; k < this.labels.length; k++) if (holds(k)) found.push(k);
    return found;
  }

  #event(k, now, open) {
    return { label: this.labels[k], start: this.start[k], end: this.end[k], score: this.best[k], decided: now, open };
  }
}
