// The picture of a sound over time: overview, waveform, spectrogram, ruler and lanes, in one view that pans and zooms.

import { Spectrogram, colorsBetween, heightOf } from "./spectrogram.js";
import { clock } from "./text.js";

const SHORTEST = 0.2; // seconds that a view shows at least
const LIVE = 20; // seconds that a view of live sound shows
const BUDGET = 7; // milliseconds of each frame for the spectrogram
const STEPS = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800]; // seconds between marks
const FREQUENCIES = [500, 1000, 2000, 4000, 8000, 16000];

export class Timeline {
  /** @param {HTMLElement} root @param {(seconds: number) => void} onSeek */
  constructor(root, onSeek) {
    Object.assign(this, { root, onSeek, time: 0, lanes: [] }); // lanes: [{canvas, events, points}]
    for (const name of ["overview", "axis", "plot", "wave", "spectrum", "ruler", "playhead"]) {
      this[name] = root.querySelector(`.${name}`);
    }
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.onchange = () => {
      this.spectrogram?.recolor(mapColors());
      this.invalidate();
    };
    new ResizeObserver(() => this.invalidate()).observe(root);
    this.#listen();
  }

  /** Shows a sound, or only the time that it takes where there are no samples. */
  show(sound, seconds, top, isLive) {
    Object.assign(this, { sound, isLive, known: seconds });
    this.overviewState = null;
    this.spectrogram = sound && new Spectrogram(sound, top, mapColors());
    this.root.classList.toggle("undrawn", !sound);
    const marks = FREQUENCIES.filter((hertz) => hertz <= this.spectrogram?.top).map((hertz) => {
      const mark = document.createElement("span");
      mark.textContent = hertz < 1000 ? `${hertz} Hz` : `${hertz / 1000} kHz`;
      mark.style.bottom = `${100 * heightOf(hertz, this.spectrogram.top)}%`;
      return mark;
    });
    this.axis.replaceChildren(...marks);
    this.fit();
  }

  get seconds() {
    return Math.max(this.sound?.seconds ?? 0, this.isLive ? 0 : this.known);
  }

  /** [first, last] second that can be seen. */
  get extent() {
    const first = this.sound?.first ?? 0;
    return [first, Math.max(this.seconds, first + (this.isLive ? LIVE : SHORTEST))];
  }

  /** Shows everything, of live sound its end. */
  fit() {
    const [first, last] = this.extent;
    this.isFollowing = this.isLive;
    this.#look(first, this.isLive ? LIVE : last - first);
  }

  zoom(factor, at = this.time) {
    if (at < this.start || at > this.start + this.span) at = this.start + this.span / 2;
    this.isFollowing = false;
    this.#look(at - (at - this.start) * factor, this.span * factor);
  }

  pan(seconds) {
    this.#look(this.start + seconds, this.span);
    this.isFollowing = this.isLive && this.start + this.span >= this.seconds;
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

  #draw() {
    if (this.isFollowing) this.#look(this.extent[1] - this.span, this.span);
    this.#drawWave(fresh(this.wave), this.start, this.span);
    const isBehind = this.spectrogram?.draw(fresh(this.spectrum), this.start, this.span, BUDGET);
    this.#drawRuler(fresh(this.ruler));
    for (const lane of this.lanes) this.#drawLane(fresh(lane.canvas), lane);
    this.#drawOverview();
    this.#placePlayhead();
    if (isBehind) this.invalidate();
  }

  #drawWave({ context, width, height }, start, span) {
    if (!this.sound) return;
    const step = 1 / devicePixelRatio;
    const sample = (x) => (start + (x / width) * span) * this.sound.rate;
    for (let x = 0; x < width && sample(x) < this.sound.length; x += step) {
      const [low, high] = this.sound.range(sample(x), sample(x + step));
      context.fillRect(x, (0.5 - high * 0.48) * height, step, Math.max(step, (high - low) * 0.48 * height));
    }
  }

  #drawRuler({ context, width }) {
    const step = STEPS.find((seconds) => (seconds / this.span) * width >= 72) ?? 3600;
    for (let n = Math.ceil(this.start / step); n * step <= this.start + this.span; n++) {
      const x = ((n * step - this.start) / this.span) * width;
      const text = clock(n * step, step < 0.1 ? 2 : step < 1 ? 1 : 0);
      context.fillRect(x, 0, 1, 5);
      if (x + context.measureText(text).width + 4 < width) context.fillText(text, x + 4, 16);
    }
  }

  #drawLane({ context, width, height }, { events, points }) {
    const place = (seconds) => Math.round(((seconds - this.start) / this.span) * width); // no seams between the bars
    const isSeen = ({ start, end }) => end > this.start && start < this.start + this.span;
    context.globalAlpha = 0.2;
    for (const { start, end } of events.filter(isSeen)) {
      context.beginPath();
      context.roundRect(place(start), 0, Math.max(2, place(end) - place(start)), height, [4, 4, 0, 0]);
      context.fill();
    }
    for (const point of points) {
      if (!isSeen(point)) continue;
      const [x, top] = [place(point.start), height * (1 - 0.92 * point.score)];
      context.globalAlpha = point.isInside ? 1 : 0.2;
      context.fillRect(x, top, Math.max(1, place(point.end) - x), height - top);
    }
  }

  /** All of the sound, drawn anew only where it has changed, and the part that is seen. */
  #drawOverview() {
    const [canvas, box] = this.overview.children;
    const [first, last] = this.extent;
    const [x, wide] = [this.start - first, this.span].map((seconds) => (100 * seconds) / (last - first));
    Object.assign(box.style, { left: `${x}%`, width: `${wide}%` });
    const { color } = getComputedStyle(canvas);
    const state = [this.sound?.length, first, canvas.clientWidth, color].join();
    if (state === this.overviewState) return;
    this.overviewState = state;
    this.#drawWave(fresh(canvas), first, last - first);
  }

  #placePlayhead() {
    const share = (this.time - this.start) / this.span;
    const [first, last] = this.extent;
    this.playhead.hidden = !(share >= 0 && share <= 1);
    this.playhead.style.transform = `translateX(${this.plot.offsetLeft + share * this.plot.clientWidth}px)`;
    const text = `${clock(this.time, 1)} of ${clock(this.seconds, 1)}`;
    Object.assign(this.plot, { ariaValueMin: first, ariaValueMax: last, ariaValueNow: this.time, ariaValueText: text });
  }

  #listen() {
    const { root, plot, overview } = this;
    const at = (x) => this.start + ((x - plot.getBoundingClientRect().left) / plot.clientWidth) * this.span;
    const onWheel = (event) => {
      const { deltaX, deltaY, shiftKey } = event;
      const sideways = shiftKey ? deltaX || deltaY : Math.abs(deltaX) > Math.abs(deltaY) ? deltaX : 0;
      if (event.ctrlKey) this.zoom(1.01 ** Math.max(-60, Math.min(60, deltaY)), at(event.clientX));
      else if (sideways) this.pan((sideways / plot.clientWidth) * this.span);
      else return; // the page scrolls
      event.preventDefault();
    };
    root.addEventListener("wheel", onWheel, { passive: false });
    overview.onpointerdown = overview.onpointermove = ({ buttons, pointerId, clientX }) => {
      if (!buttons) return;
      overview.setPointerCapture(pointerId);
      const [{ left, width }, [first, last]] = [overview.getBoundingClientRect(), this.extent];
      this.pan(first + ((clientX - left) / width) * (last - first) - this.start - this.span / 2);
    };
    this.#drag(plot, at);
  }

  /** One pointer pans, or seeks where it does not move; two zoom. */
  #drag(plot, at) {
    const pointers = new Map();
    const middle = () => [...pointers.values()].reduce((sum, x) => sum + x, 0) / pointers.size;
    const apart = () => Math.max(...pointers.values()) - Math.min(...pointers.values());
    let moved = 0; // pixels
    plot.onpointerdown = ({ pointerId, clientX, button }) => {
      if (button) return;
      plot.setPointerCapture(pointerId);
      moved = pointers.size ? Infinity : 0;
      pointers.set(pointerId, clientX);
    };
    plot.onpointermove = ({ pointerId, clientX }) => {
      if (!pointers.has(pointerId)) return;
      const [x, wide] = [middle(), apart()];
      pointers.set(pointerId, clientX);
      moved += Math.abs(middle() - x);
      if (moved > 4) this.pan(((x - middle()) / plot.clientWidth) * this.span);
      if (pointers.size > 1) this.zoom(Math.max(1, wide) / Math.max(1, apart()), at(middle()));
    };
    plot.onpointerup = plot.onpointercancel = ({ type, pointerId, clientX }) => {
      if (pointers.delete(pointerId) && moved <= 4 && type === "pointerup") this.onSeek(at(clientX));
    };
  }
}

const mapColors = () => colorsBetween(getComputedStyle(document.documentElement).getPropertyValue("--map").trim().split(" "));

/** A canvas of the size of its place, cleared, in the color and the font of its style, with CSS pixels as its unit. */
function fresh(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const sides = { width: Math.round(width * devicePixelRatio), height: Math.round(height * devicePixelRatio) };
  if (canvas.width !== sides.width || canvas.height !== sides.height) Object.assign(canvas, sides);
  const context = canvas.getContext("2d");
  const { color, font } = getComputedStyle(canvas);
  context.reset();
  context.scale(devicePixelRatio, devicePixelRatio);
  return { context: Object.assign(context, { fillStyle: color, strokeStyle: color, lineWidth: 2, font }), width, height };
}
