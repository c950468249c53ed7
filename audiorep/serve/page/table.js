// The labels that occur as lanes, and their events as a table, each with a limit.

import { $, element } from "./dom.js";
import { lanesOf, pointsOf } from "./heard.js";
import { clock, count } from "./text.js";

const [LANES, ROWS] = [8, 25]; // shown at first

export class Findings {
  /** @param {import("./timeline.js").Timeline} timeline @param {(event: object) => void} onPlay */
  constructor(timeline, onPlay) {
    Object.assign(this, { timeline, onPlay });
    this.headings = [...document.querySelectorAll("th button")];
    for (const { dataset, parentNode } of this.headings) {
      parentNode.onclick = () => this.sort(dataset.key, this.key === dataset.key ? -this.sign : 1);
    }
    for (const id of ["lanes", "events"]) {
      $(`${id}-more`).onclick = () => {
        this.most[id] *= 4;
        this.#draw();
      };
    }
    this.reset();
    this.sort("start", 1);
  }

  /** Forgets what "show more" has shown. */
  reset() {
    this.most = { lanes: LANES, events: ROWS };
  }

  sort(key, sign) {
    Object.assign(this, { key, sign });
    for (const { dataset, parentNode } of this.headings) {
      parentNode.ariaSort = dataset.key !== key ? null : sign > 0 ? "ascending" : "descending";
    }
    if (this.events) this.#draw();
  }

  show(events, windows, model) {
    Object.assign(this, { events, windows, model });
    this.#draw();
  }

  /** Marks the rows that are heard at a time. */
  mark(time, isPlaying) {
    for (const row of $("events").children) {
      row.classList.toggle("now", isPlaying && row.event.start <= time && time < row.event.end);
    }
  }

  #draw() {
    const { key, sign, most } = this;
    const lanes = lanesOf(this.events);
    const compare = (a, b) => sign * (key === "label" ? a.label.localeCompare(b.label) : a[key] - b[key]) || a.start - b.start;
    renew($("lanes"), lanes.slice(0, most.lanes), this.#newLane, this.#drawLane);
    renew($("events"), [...this.events].sort(compare).slice(0, most.events), this.#newRow, this.#drawRow);
    this.timeline.setLanes([...$("lanes").children].map(({ lane }) => lane));
    for (const [id, noun, all] of [["lanes", "label", lanes], ["events", "event", this.events]]) {
      $(`${id}-more`).hidden = all.length <= most[id];
      $(`${id}-more`).textContent = `Show more: ${count(all.length - most[id], noun)}`;
    }
    $("total").textContent = lanes.length ? `${count(this.events.length, "event")}, ${count(lanes.length, "label")}` : "";
  }

  #name({ head, label }) {
    return Object.keys(this.model.labels).length > 1 ? `${head}: ${label}` : label;
  }

  /** The hue of a label is always the same, and far from those of its neighbors. */
  #setHue(part, { head, label }) {
    part.style.setProperty("--hue", (190 + 137.5 * this.model.labels[head].indexOf(label)) % 360);
  }

  #newLane = (lane) => {
    const [name, canvas] = [element("span", { title: this.#name(lane) }, this.#name(lane)), element("canvas", { role: "img" })];
    this.#setHue(canvas, lane);
    return element("li", {}, name, canvas);
  };

  #drawLane = (item, lane) => {
    const seconds = lane.events.reduce((sum, { start, end }) => sum + end - start, 0);
    item.lastChild.ariaLabel = `${count(lane.events.length, "event")}, ${seconds.toFixed(1)} seconds`;
    item.lane = { canvas: item.lastChild, events: lane.events, points: pointsOf(this.windows, lane) };
  };

  #newRow = (event) => {
    const dot = element("i");
    this.#setHue(dot, event);
    const cells = [element("button", {}, dot, this.#name(event)), "", "", ""];
    const row = element("tr", {}, ...cells.map((content) => element("td", {}, content)));
    row.onclick = () => this.onPlay(row.event);
    return row;
  };

  #drawRow = (row, event) => {
    row.event = event;
    const texts = [clock(event.start, 1), event.open ? "now" : clock(event.end, 1), event.score.toFixed(2)];
    texts.forEach((text, k) => (row.children[k + 1].textContent = text));
    row.querySelector("button").ariaLabel = `Play ${this.#name(event)}, ${texts[0]} to ${texts[1]}`;
  };
}

/** Shows an element for each thing; those that were there stay, so that the focus does. */
function renew(parent, things, make, draw) {
  const keys = things.map(({ head, label, start }) => `${head}\n${label}\n${start}`);
  const before = new Map([...parent.children].map((child) => [child.key, child]));
  for (const [key, child] of before) if (!keys.includes(key)) child.remove();
  things.forEach((thing, k) => {
    const child = before.get(keys[k]) ?? Object.assign(make(thing), { key: keys[k] });
    draw(child, thing);
    if (parent.children[k] !== child) parent.insertBefore(child, parent.children[k] ?? null);
  });
}
