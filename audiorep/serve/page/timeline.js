// The picture of a sound over time: overview, waveform, spectrogram, ruler and lanes, with one view that pans and zooms.

import { Spectrogram, colorsBetween, height } from "./spectrogram.js";
import { clock } from "./text.js";

const SHORTEST = 0.2; // seconds that a view shows at least
const LIVE_SECONDS = 20; // that a view of live sound shows
const BUDGET = 7; // milliseconds of each frame for the spectrogram
const STEPS = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800];
const FREQUENCIES = [250, 500, 1000, 2000, 4000, 8000, 16000];

export class Timeline {
  /** @param {HTMLElement} root @param {(seconds: number) => void} onSeek */
  constructor(root, onSeek) {
    const find = (name) => root.querySelector(`.${name}`);
    Object.assign(this, { root, onSeek, overview: find("overview"), plot: find("plot"), wave: find("wave") });
    Object.assign(this, { spectrum: find("spectrum"), ruler: find("ruler"), playhead: find("playhead"), axis: find("axis") });
    this.lanes = []; // [{canvas, hue, events, points}]
    this.time = 0;
    this.#listen();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#restyle());
    new ResizeObserver(() => this.invalidate()).observe(root);
    this.#restyle();
  }

  /** Shows a sound, or only the time that it takes where there are no samples. */
  show(sound, seconds, top, isLive) {
    Object.assign(this, { sound, isLive, isFollowing: isLive, known: seconds });
    this.spectrogram = sound ? new Spectrogram(sound, top) : null;
    this.spectrogram?.setColors(this.colors);
    this.root.classList.toggle("undrawn", !sound);
    this.#label();
    this.fit();
  }

  /** Ends the growth of a live sound. */
  settle() {
    this.isLive = this.isFollowing = false;
    this.fit();
  }

  get seconds() {
    return this.sound ? Math.max(this.sound.seconds, this.isLive ? 0 : this.known) : this.known;
  }

  /** [first, last] second that can be seen. */
  get extent() {
    const first = this.sound?.first ?? 0;
    return [first, this.isLive ? Math.max(this.seconds, first + LIVE_SECONDS) : Math.max(this.seconds, first + SHORTEST)];
  }

  fit() {
    const [first, last] = this.extent;
    this.#look(first, last - first);
    if (this.isLive) this.follow();
  }

  /** Keeps the end of a live sound in view. */
  follow() {
    this.isFollowing = true;
    this.#look(this.extent[1] - LIVE_SECONDS, LIVE_SECONDS);
  }

  zoom(factor, at = this.start + this.span / 2) {
    const span = this.span * factor;
    this.isFollowing = false;
    this.#look(at - ((at - this.start) / this.span) * span, span);
  }

  pan(seconds) {
    this.isFollowing = false;
    this.#look(this.start + seconds, this.span);
    if (this.isLive && this.start + this.span >= this.seconds) this.isFollowing = true;
  }

  /** Moves the playhead, and the view after it where it leaves. */
  setTime(time, isMoving) {
    this.time = time;
    const isOutside = time < this.start || time > this.start + this.span;
    if (isMoving && isOutside && !this.isFollowing) this.#look(time - 0.1 * this.span, this.span);
    this.#placePlayhead();
  }

  setLanes(lanes) {
    this.lanes = lanes;
    this.invalidate();
  }

  invalidate() {
    this.request ??= requestAnimationFrame(() => {
      this.request = null;
      if (this.root.offsetParent && this.span) this.#draw();
    });
  }

  #look(start, span) {
    const [first, last] = this.extent;
    this.span = Math.max(SHORTEST, Math.min(last - first, span));
    this.start = Math.max(first, Math.min(last - this.span, start));
    this.root.classList.toggle("whole", this.span >= last - first - 1e-6);
    this.invalidate();
  }

  #restyle() {
    const style = getComputedStyle(document.documentElement);
    this.style = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colors = colorsBetween(this.style("map").split(/\s+/));
    this.spectrogram?.setColors(this.colors);
    this.invalidate();
  }

  #draw() {
    if (this.isFollowing) this.#look(this.extent[1] - this.span, this.span);
    this.#drawWave(this.wave, this.start, this.span);
    if (this.spectrogram) {
      const isBehind = this.spectrogram.draw(fresh(this.spectrum), this.start, this.span, BUDGET);
      if (isBehind) this.invalidate();
    }
    this.#drawRuler();
    for (const lane of this.lanes) this.#drawLane(lane);
    this.#drawOverview();
    this.#placePlayhead();
  }

  #drawWave(canvas, start, span) {
    const context = fresh(canvas);
    const { width, height } = canvas;
    const perPixel = span / width;
    context.fillStyle = this.style("wave");
    const end = this.sound ? Math.min(width, (this.sound.seconds - start) / perPixel) : 0;
    for (let x = 0; x < end; x++) {
      const [low, high] = this.sound.range((start + x * perPixel) * this.sound.rate, (start + (x + 1) * perPixel) * this.sound.rate);
      const top = (0.5 - high * 0.48) * height;
      context.fillRect(x, top, 1, Math.max(1, (0.5 - low * 0.48) * height - top));
    }
  }

  #drawRuler() {
    const context = fresh(this.ruler);
    const scale = devicePixelRatio;
    const { width, height } = this.ruler;
    const step = STEPS.find((seconds) => (seconds / this.span) * width >= 72 * scale) ?? 3600;
    context.fillStyle = this.style("quiet");
    context.font = `${11 * scale}px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    for (let n = Math.ceil(this.start / step); n * step <= this.start + this.span; n++) {
      const x = ((n * step - this.start) / this.span) * width;
      const text = clock(n * step, step < 0.1 ? 2 : step < 1 ? 1 : 0);
      context.fillRect(x, 0, scale, 5 * scale);
      const wide = context.measureText(text).width;
      if (x + wide + 4 * scale < width) context.fillText(text, x + 4 * scale, height / 2 + scale);
    }
  }

  #drawLane({ canvas, hue, events, points }) {
    const context = fresh(canvas);
    const { width, height } = canvas;
    const x = (seconds) => ((seconds - this.start) / this.span) * width;
    const color = `oklch(${this.style("lane")} ${hue})`;
    const curve = new Path2D();
    for (const { start, end, score } of points) {
      if (end < this.start || start > this.start + this.span) continue;
      curve.rect(x(start), height * (1 - 0.92 * score), Math.max(1, x(end) - x(start)), height);
    }
    const stretches = new Path2D();
    for (const { start, end } of events) {
      if (end < this.start || start > this.start + this.span) continue;
      stretches.roundRect(x(start), 0, Math.max(2, x(end) - x(start)), height, 4 * devicePixelRatio);
    }
    context.fillStyle = this.style("faint");
    context.fill(curve);
    context.clip(stretches);
    context.fillStyle = color;
    context.globalAlpha = 0.28;
    context.fill(stretches);
    context.globalAlpha = 1;
    context.fill(curve);
  }

  #drawOverview() {
    const [first, last] = this.extent;
    this.#drawWave(this.overview, first, last - first);
    const context = this.overview.getContext("2d");
    const { width, height } = this.overview;
    const [left, wide] = [((this.start - first) / (last - first)) * width, (this.span / (last - first)) * width];
    context.fillStyle = this.style("veil");
    context.fillRect(0, 0, left, height);
    context.fillRect(left + wide, 0, width, height);
    context.strokeStyle = this.style("accent");
    context.lineWidth = 2 * devicePixelRatio;
    context.strokeRect(left + 1, 1, Math.max(4, wide - 2), height - 2);
  }

  #placePlayhead() {
    const share = (this.time - this.start) / this.span;
    this.playhead.hidden = !(share >= 0 && share <= 1);
    const left = this.plot.offsetLeft;
    this.playhead.style.transform = `translateX(${left + share * this.plot.clientWidth}px)`;
    const [first, last] = this.extent;
    this.plot.setAttribute("aria-valuemin", Math.round(first));
    this.plot.setAttribute("aria-valuemax", Math.round(last));
    this.plot.setAttribute("aria-valuenow", Math.round(this.time));
    this.plot.setAttribute("aria-valuetext", `${clock(this.time, 1)} of ${clock(this.seconds, 1)}`);
  }

  #label() {
    const top = this.spectrogram?.top ?? 0;
    const shown = FREQUENCIES.filter((hertz) => hertz < 0.97 * top || hertz === top).filter((hertz) => hertz !== 250);
    this.axis.replaceChildren(
      ...shown.map((hertz) => {
        const mark = document.createElement("span");
        mark.textContent = hertz < 1000 ? `${hertz} Hz` : `${hertz / 1000} kHz`;
        mark.style.bottom = `${100 * height(hertz, top)}%`;
        return mark;
      }),
    );
  }

  #listen() {
    const at = (event) => this.start + ((event.clientX - this.plot.getBoundingClientRect().left) / this.plot.clientWidth) * this.span;
    this.root.addEventListener("wheel", (event) => {
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) this.zoom(1.01 ** Math.max(-60, Math.min(60, event.deltaY)), at(event));
      else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) this.pan((sideways / this.plot.clientWidth) * this.span);
      else return; // the page scrolls
      event.preventDefault();
    }, { passive: false });
    this.#drag(at);
    const jump = (event) => {
      const box = this.overview.getBoundingClientRect();
      const [first, last] = this.extent;
      this.pan(first + ((event.clientX - box.left) / box.width) * (last - first) - this.start - this.span / 2);
    };
    this.overview.addEventListener("pointerdown", (event) => {
      this.overview.setPointerCapture(event.pointerId);
      jump(event);
    });
    this.overview.addEventListener("pointermove", (event) => event.buttons && jump(event));
  }

  /** One pointer pans, or seeks where it does not move; two zoom. */
  #drag(at) {
    const pointers = new Map();
    let moved = 0;
    this.plot.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.plot.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event.clientX);
      moved = pointers.size > 1 ? Infinity : 0;
    });
    this.plot.addEventListener("pointermove", (event) => {
      if (!pointers.has(event.pointerId)) return;
      const before = [...pointers.values()];
      const step = event.clientX - pointers.get(event.pointerId);
      pointers.set(event.pointerId, event.clientX);
      const now = [...pointers.values()];
      moved += Math.abs(step);
      if (now.length === 2) this.zoom(Math.abs(before[0] - before[1]) / Math.max(1, Math.abs(now[0] - now[1])), at({ clientX: (now[0] + now[1]) / 2 }));
      else if (moved > 4) this.pan((-step / this.plot.clientWidth) * this.span);
    });
    const end = (event) => {
      if (pointers.delete(event.pointerId) && moved <= 4 && event.type === "pointerup") this.onSeek(at(event));
    };
    this.plot.addEventListener("pointerup", end);
    this.plot.addEventListener("pointercancel", end);
  }
}

/** The context of a canvas that has the size of its place, cleared. */
function fresh(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.max(1, Math.round(size * devicePixelRatio)));
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context.reset();
  return context;
}
