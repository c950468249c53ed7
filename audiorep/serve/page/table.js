// The events as a table, and the labels as lanes, each with a limit.

import { $, colorOf, element, hueOf } from "./dom.js";
import { lanesOf, pointsOf } from "./heard.js";
import { clock, count } from "./text.js";

const [LANES, ROWS] = [8, 100]; // shown at first, and more with each "show more"

export class Findings {
  /** @param {import("./timeline.js").Timeline} timeline @param {(event: object) => void} onPlay */
  constructor(timeline, onPlay) {
    Object.assign(this, { timeline, onPlay, rows: [] });
    this.order = { key: "start", sign: 1 };
    for (const button of document.querySelectorAll("th button")) {
      button.onclick = () => this.sort(button.dataset.key, this.order.key === button.dataset.key ? -this.order.sign : 1);
    }
    for (const [id, name, step] of [["lanes-more", "mostLanes", LANES], ["events-more", "mostRows", ROWS]]) {
      $(id).onclick = () => {
        this[name] += step;
        this.#draw();
      };
    }
    this.reset();
  }

  /** Forgets what "show more" has shown. */
  reset() {
    [this.mostLanes, this.mostRows] = [LANES, ROWS];
  }

  sort(key, sign) {
    this.order = { key, sign };
    for (const button of document.querySelectorAll("th button")) {
      if (button.dataset.key === key) button.parentNode.ariaSort = sign > 0 ? "ascending" : "descending";
      else button.parentNode.ariaSort = null;
    }
    if (this.events) this.#draw();
  }

  show(events, windows, model) {
    Object.assign(this, { events, windows, model });
    this.#draw();
  }

  /** Marks the rows that can be heard at a time. */
  mark(time, isPlaying) {
    for (const { row, event } of this.rows) row.classList.toggle("now", isPlaying && event.start <= time && time < event.end);
  }

  #name({ head, label }) {
    return Object.keys(this.model.labels).length > 1 ? `${head}: ${label}` : label;
  }

  #draw() {
    const lanes = lanesOf(this.events);
    this.#drawLanes(lanes.slice(0, this.mostLanes));
    this.#drawRows();
    const rest = (id, number, noun) => {
      $(id).hidden = number <= 0;
      $(id).textContent = `Show more: ${count(number, noun)}`;
    };
    rest("lanes-more", lanes.length - this.mostLanes, "label");
    rest("events-more", this.events.length - this.mostRows, "event");
    $("total").textContent = this.events.length ? `${count(this.events.length, "event")}, ${count(lanes.length, "label")}` : "";
  }

  #drawLanes(lanes) {
    const before = new Map([...$("lanes").children].map((item) => [item.key, item]));
    const drawn = lanes.map(({ key, head, label, events }) => {
      const item = before.get(key) ?? element("li", { key }, element("span", { className: "lane" }), element("canvas"));
      const seconds = events.reduce((sum, event) => sum + event.end - event.start, 0);
      item.firstChild.textContent = item.firstChild.title = this.#name({ head, label });
      item.lastChild.role = "img";
      item.lastChild.ariaLabel = `${count(events.length, "event")}, ${seconds.toFixed(1)} seconds in all`;
      const points = pointsOf(this.windows, head, label);
      return { item, canvas: item.lastChild, hue: hueOf(this.model, { head, label }), events, points };
    });
    $("lanes").replaceChildren(...drawn.map(({ item }) => item));
    this.timeline.setLanes(drawn);
  }

  #drawRows() {
    const { key, sign } = this.order;
    const compare = (a, b) => (key === "label" ? a.label.localeCompare(b.label) : a[key] - b[key]) * sign || a.start - b.start;
    const shown = [...this.events].sort(compare).slice(0, this.mostRows);
    const focused = this.rows.findIndex(({ row }) => row.contains(document.activeElement));
    const key_ = ({ head, label, start }) => `${head}\n${label}\n${start}`;
    const before = new Map(this.rows.map((made) => [key_(made.event), made]));
    const held = focused < 0 ? null : key_(this.rows[focused].event);
    this.rows = shown.map((event) => this.#row(event, before.get(key_(event))));
    const rows = this.rows.map(({ row }) => row);
    if (rows.length !== $("events").children.length || rows.some((row, k) => row !== $("events").children[k])) {
      $("events").replaceChildren(...rows);
      this.rows.find(({ event }) => key_(event) === held)?.row.querySelector("button").focus();
    }
  }

  #row(event, before) {
    const row = before?.row ?? element("tr", {}, element("td"), element("td"), element("td"), element("td"));
    const [label, start, end, score] = row.children;
    const name = this.#name(event);
    if (!before) {
      const dot = element("i");
      dot.style.background = colorOf(this.model, event);
      label.append(element("button", {}, dot, name));
    }
    const texts = [clock(event.start, 1), event.open ? "now" : clock(event.end, 1), event.score.toFixed(2)];
    [start, end, score].forEach((cell, k) => cell.textContent === texts[k] || (cell.textContent = texts[k]));
    label.firstChild.ariaLabel = `Play ${name}, ${texts[0]} to ${texts[1]}`;
    row.onclick = () => this.onPlay(event);
    return { row, event };
  }
}
