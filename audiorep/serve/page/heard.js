// What was heard, from the scores of windows: events and lanes, for every engine alike.

import { EventTracker } from "./event_tracker.js";

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
    const places = [...names.keys()].filter((k) => present.has(names[k])); // others have no score: the same events, sooner
    const labels = places.map((k) => names[k]);
    const on = threshold === null ? 0 : Math.max(0.01, threshold);
    const tracker = new EventTracker(labels, { on }, places.map((k) => model.thresholds[head][k]), model.unknown);
    const add = (events, open) => found.push(...events.filter((e) => !e.open).map((e) => ({ ...e, head, open })));
    for (const { start, end, scores, peak } of windows) {
      add(tracker.push(start, end, labels.map((label) => scores[head]?.[label] ?? 0), peak), false);
    }
    add(tracker.flush(), goesOn);
  }
  return found.sort((a, b) => a.start - b.start || b.score - a.score);
}

/** The labels that occur, with their events; the most important first: high scores for a long time. */
export function lanesOf(events) {
  const lanes = new Map();
  for (const event of events) {
    const { head, label } = event;
    const key = `${head}\n${label}`;
    const lane = lanes.get(key) ?? { key, head, label, events: [], weight: 0 };
    lanes.set(key, lane);
    lane.events.push(event);
    lane.weight += (event.end - event.start) * event.score;
  }
  return [...lanes.values()].sort((a, b) => b.weight - a.weight);
}

/** The scores of a lane over time, each for the part of its window that no window before it held. */
export function pointsOf(windows, { head, label, events }) {
  let heard = -Infinity;
  const points = windows.map(({ start, end, scores }) => {
    const fresh = Math.max(start, Math.min(heard, end));
    heard = end;
    return { start: fresh, end, score: scores[head]?.[label] ?? 0 };
  });
  const isInside = ({ start, end }) => events.some((event) => event.start < end && start < event.end);
  return points.filter(({ score }) => score).map((point) => ({ ...point, isInside: isInside(point) }));
}
