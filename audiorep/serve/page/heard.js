// What was heard, from the scores of windows: events and lanes at a threshold, for every engine alike.

import { EventTracker } from "./events.js";

/**
 * The events of all heads in order of time: [{head, label, start, end, score, open}].
 *
 * @param {object[]} windows of one sound, in order of time.
 * @param {?number} threshold null: the model's own.
 * @param {boolean} goesOn whether more windows will come: what is heard in the last one is then open.
 */
export function eventsOf(windows, model, threshold, goesOn) {
  const found = [];
  for (const [head, names] of Object.entries(model.labels)) {
    const present = new Set(windows.flatMap(({ scores }) => Object.keys(scores[head] ?? {})));
    const labels = [...names.keys()].filter((k) => present.has(names[k])); // others have no score: the same events, sooner
    const thresholds = labels.map((k) => model.thresholds[head][k]);
    const config = { on: threshold === null ? 0 : Math.max(0.01, threshold) };
    const tracker = new EventTracker(labels.map((k) => names[k]), config, thresholds, model.unknown);
    const add = (events, open) => found.push(...events.filter((e) => !e.open).map((e) => ({ ...e, head, open })));
    for (const { start, end, scores, peak } of windows) {
      add(tracker.push(start, end, tracker.labels.map((label) => scores[head]?.[label] ?? 0), peak), false);
    }
    add(tracker.flush(), goesOn);
  }
  return found.sort((a, b) => a.start - b.start || b.score - a.score);
}

/** The labels that occur, with their events, the most important first: what is loud in the scores, and for long. */
export function lanesOf(events) {
  const lanes = new Map();
  for (const event of events) {
    const key = `${event.head}\n${event.label}`;
    if (!lanes.has(key)) lanes.set(key, { key, head: event.head, label: event.label, events: [], weight: 0 });
    lanes.get(key).events.push(event);
    lanes.get(key).weight += (event.end - event.start) * event.score;
  }
  return [...lanes.values()].sort((a, b) => b.weight - a.weight);
}

/** The scores of a label over time, each for the part of its window that no window before it held. */
export function pointsOf(windows, head, label) {
  let heard = -Infinity;
  return windows.map(({ start, end, scores }) => {
    const point = { start: Math.max(start, Math.min(heard, end)), end, score: scores[head]?.[label] ?? 0 };
    heard = Math.max(heard, end);
    return point;
  });
}

/** Where the slider stands at first: in the middle of the model's thresholds. */
export function usualThreshold(model) {
  const all = Object.values(model.thresholds).flat().sort((a, b) => a - b);
  return all[all.length >> 1] || 0.5;
}
