// From what a model gives to what is reported: audiorep/info/calibration.py, ModelInfo and Recording in JavaScript.
//
// A `model` is a description as in models.json: labels, activation, thresholds, calibration, unknown, silence.

const SMALLEST = 1e-30; // of a score whose logarithm is taken: float32 holds it
const HALF_STEP = 2 ** -24; // half of float32's distance from 1 to the next number
const LEAST_SHOWN = 0.02; // as the server: lower scores count as 0
const MOST_SHOWN = 20; // labels of a head
const SEVERAL = 3; // labels that are reported where a sound may have any number, and no other number is asked for

/** Calibrated scores of `scores` (K): softmax(log p / T), or sigmoid(logit p / T + b). */
export function calibrated(scores, { temperature, bias = 0 }, activation) {
  const values = Float64Array.from(scores, (score) => logit(score, activation) / temperature);
  if (activation !== "softmax") return Float32Array.from(values, (value) => 1 / (1 + Math.exp(-(value + bias))));
  const highest = values.reduce((most, value) => Math.max(most, value), -Infinity);
  const raised = values.map((value) => Math.exp(value - highest));
  const sum = raised.reduce((total, value) => total + value, 0);
  return Float32Array.from(raised, (value) => value / sum);
}

function logit(score, activation) {
  const given = Math.min(Math.max(score, SMALLEST), 1);
  return Math.log(given) - (activation === "softmax" ? 0 : Math.log(Math.max(1 - given, HALF_STEP)));
}

/** {head: (K) scores of a window} for which the model gave `raw`, and whose largest magnitude is `peak`. */
export function windowScores(model, raw, peak) {
  return mapHeads(model, (head) => (peak < model.silence ? silentScores(model, head) : scaled(model, head, raw[head], "window")));
}

/** The scores of a whole file: the mean over its windows that are not silence, calibrated as a file's. */
export class FileScores {
  constructor(model) {
    this.model = model;
    this.sums = mapHeads(model, (head) => new Float64Array(model.labels[head].length));
    this.count = 0;
  }

  add(raw, peak) {
    if (peak < this.model.silence) return;
    this.count += 1;
    for (const [head, sum] of Object.entries(this.sums)) raw[head].forEach((score, k) => (sum[k] += score));
  }

  /** {head: (K)}; a file of nothing but silence is `unknown`. */
  scores() {
    const { model, count } = this;
    const mean = (head) => Float32Array.from(this.sums[head], (sum) => sum / count);
    return mapHeads(model, (head) => (count ? scaled(model, head, mean(head), "file") : silentScores(model, head)));
  }
}

/** (K) scores of silence: 1 of `unknown`, where that is a class, and 0 of all others. */
export function silentScores(model, head) {
  return Float32Array.from(model.labels[head], (name) => (name === model.unknown ? 1 : 0));
}

/** (K) scores by which the best label is chosen: all but that of `unknown` below a half, which becomes 0. */
export function contested(model, head, scores) {
  if (model.activation !== "softmax" || !model.unknown) return scores;
  const place = model.labels[head].indexOf(model.unknown);
  return scores.map((score, k) => (k === place && score < 0.5 ? 0 : score));
}

/** The reporting threshold of each class of a head. */
export function thresholds(model, head) {
  const given = model.thresholds?.[head];
  return given?.length ? given : model.labels[head].map(() => (model.activation === "softmax" ? 0 : 0.5));
}

/** [[label, score]] best first; `unknown` comes first where it is likelier than all others together, or else last. */
export function ranked(model, head, scores, count = MOST_SHOWN) {
  const order = orderOf(contested(model, head, scores)).slice(0, count);
  return order.map((k) => [model.labels[head][k], scores[k]]);
}

/** [[label, score]] that are reported of scores (K), best first: those that reach `threshold`, or the model's own. */
export function reported(model, head, scores, top = null, threshold = null) {
  const several = model.activation === "sigmoid";
  const limits = thresholds(model, head);
  const reached = (k) => scores[k] >= (threshold ?? limits[k]);
  const order = orderOf(contested(model, head, scores)).filter((k) => !several || reached(k));
  const best = order.slice(0, top || (several ? SEVERAL : 1)).filter(reached);
  if (best.length || !several || !model.unknown) return best.map((k) => [model.labels[head][k], scores[k]]);
  const rest = 1 - scores.reduce((most, score) => Math.max(most, score), -Infinity);
  return rest >= (threshold ?? 0) ? [[model.unknown, rest]] : [];
}

/** {label: score} of the highest scores, as the server sends them. */
export function shown(model, head, scores) {
  const order = orderOf(scores).slice(0, MOST_SHOWN);
  return Object.fromEntries(order.filter((k) => scores[k] >= LEAST_SHOWN).map((k) => [model.labels[head][k], scores[k]]));
}

/** The largest magnitude in a window. */
export function peakOf(window) {
  let peak = 0;
  for (const sample of window) peak = Math.max(peak, Math.abs(sample));
  return peak;
}

function scaled(model, head, scores, kind) {
  const settings = model.calibration?.[head];
  return settings ? calibrated(scores, settings[kind], model.activation) : Float32Array.from(scores);
}

function orderOf(scores) {
  return Array.from(scores, (_, k) => k).sort((a, b) => scores[b] - scores[a] || a - b);
}

function mapHeads(model, give) {
  return Object.fromEntries(Object.keys(model.labels).map((head) => [head, give(head)]));
}
