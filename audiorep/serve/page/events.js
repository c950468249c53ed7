// The settings of events, checked, and a tracker for each head of a model: audiorep/predict/events.py in JavaScript.

import { DEFAULTS, EventTracker } from "./event_tracker.js";

export { EventTracker };

const LONGEST_MEMORY = 1000; // windows that confirm an event
const MOST_SECONDS = 86400;
const SECONDS = ["least_seconds", "hang_seconds", "pause_seconds"];
const OF_LABELS = ["on", "off", "confirm", "of", "sure", ...SECONDS]; // what a label may have of its own

const isTable = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const brief = (value) => (typeof value === "string" ? `'${value}'` : String(value)).slice(0, 80);

/** When windows become an event, for all labels, or for one in `labels`. Throws one sentence with all that is wrong. */
export class EventConfig {
  constructor(values = {}) {
    const strange = Object.keys(values).find((key) => !Object.hasOwn(DEFAULTS, key));
    if (strange !== undefined) {
      throw new Error(`events: ${strange} is no setting; known are ${Object.keys(DEFAULTS).sort().join(", ")}.`);
    }
    Object.assign(this, DEFAULTS, values);
    for (const problems of [() => this.#typeProblems(), () => this.#valueProblems()]) {
      const found = problems();
      if (found.length) throw new Error(`events: ${found.join("; ")}.`);
    }
    for (const label of Object.keys(this.labels)) this.ofLabel(label);
  }

  /** The settings of a label: these, or those with its own in place of the common ones. */
  ofLabel(label) {
    const own = Object.hasOwn(this.labels, label) ? this.labels[label] : {};
    if (!Object.keys(own).length) return this;
    const strange = Object.keys(own).find((key) => !OF_LABELS.includes(key));
    if (strange !== undefined) throw new Error(`events: ${label}: ${strange} is no setting of a label.`);
    try {
      return new EventConfig({ ...Object.fromEntries(OF_LABELS.map((key) => [key, this[key]])), ...own });
    } catch (error) {
      throw new Error(`events: ${label}: ${error.message.replace(/^events: /, "")}`);
    }
  }

  #typeProblems() {
    const numbers = ["on", "off", "sure", ...SECONDS, "level_db"].filter((name) => !Number.isFinite(this[name]));
    const whole = ["confirm", "of"].filter((name) => !Number.isInteger(this[name]));
    const isList = (names) => Array.isArray(names) && names.every((name) => typeof name === "string");
    const tables = isTable(this.labels) && Object.values(this.labels).every(isTable);
    return [
      ...numbers.map((name) => `${name} is ${brief(this[name])}; a number is needed`),
      ...whole.map((name) => `${name} is ${brief(this[name])}; a whole number is needed`),
      ...["allow", "deny"].filter((name) => !isList(this[name])).map((name) => `${name} is no list of labels`),
      ...(tables ? [] : [`labels are ${brief(this.labels)}; a table for each label is needed`]),
    ];
  }

  #valueProblems() {
    const { on, off, sure, confirm, of, level_db: level } = this;
    const checks = [
      [0 <= on && on <= 1, `on is ${on}; 0 to 1 is allowed`],
      [0 <= off && off <= (on || 1), `off is ${off}; 0 to on, which is ${on}, is allowed`],
      [0 < sure && sure <= 1, `sure is ${sure}; above 0 to 1 is allowed`],
      [
        1 <= confirm && confirm <= of && of <= LONGEST_MEMORY,
        `confirm is ${confirm} of ${of} windows; 1 to ${LONGEST_MEMORY}, and at most all, are allowed`,
      ],
      ...SECONDS.map((name) => [
        0 <= this[name] && this[name] <= MOST_SECONDS,
        `${name} is ${this[name]}; 0 to ${MOST_SECONDS} is allowed`,
      ]),
      [-400 <= level && level <= 0, `level_db is ${level}; -400 to 0 is allowed`],
    ];
    return checks.filter(([holds]) => !holds).map(([, problem]) => problem);
  }
}

/** {head: its tracker} for a model; without the heads that hold no label of `config.allow`. */
export function trackers(model, config = {}) {
  const settings = config instanceof EventConfig ? config : new EventConfig(config);
  const known = new Set([...Object.values(model.labels).flat(), model.unknown]);
  const named = [...settings.allow, ...settings.deny, ...Object.keys(settings.labels)].sort();
  const strange = named.find((label) => !known.has(label));
  if (strange !== undefined) throw new Error(`events: ${strange} is no label of the model.`);
  const heads = Object.entries(model.labels).filter(
    ([, names]) => !settings.allow.length || names.some((name) => settings.allow.includes(name)),
  );
  return Object.fromEntries(
    heads.map(([head, names]) => [head, new EventTracker(names, settings, model.thresholds?.[head], model.unknown)]),
  );
}
