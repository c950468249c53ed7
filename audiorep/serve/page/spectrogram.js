// The spectrogram of a sound in tiles, each computed when it is first seen, a few columns at a time.

export const BINS = 128;
const COLUMNS = 256; // of a tile
const FINEST = 1 / 256; // seconds of a column at level 0; each level doubles them
const LEVELS = 12;
const MOST_TILES = 64; // kept; the one that was not drawn for the longest time goes first
const FRAMES = 8; // most transforms that make a column
const RANGE_DB = 72; // between the lightest and the darkest color
const FLOOR_DB = 130; // below full scale is the lowest level that a tile holds, in steps of half a decibel

/** What was computed since the page was opened. */
export const work = { columns: 0, tiles: 0 };

/** Where a frequency lies: 0 at the bottom, 1 at the top. */
export const height = (hertz, top) => mel(hertz) / mel(top);
const mel = (hertz) => Math.log10(1 + hertz / 700);
const hertz = (share, top) => 700 * (10 ** (share * mel(top)) - 1);

/** A function that makes the power spectrum (size / 2 + 1) of `size` samples. */
function transform(size) {
  const [cosines, sines, window, reversed] = [0, 0, 0, 0].map(() => new Float32Array(size));
  const bits = Math.log2(size);
  for (let k = 0; k < size; k++) {
    cosines[k] = Math.cos((2 * Math.PI * k) / size);
    sines[k] = -Math.sin((2 * Math.PI * k) / size);
    window[k] = (2 - 2 * cosines[k]) / size; // of Hann; a sine of full scale then has power 1
    for (let bit = 0; bit < bits; bit++) if (k & (1 << bit)) reversed[k] += size >> (bit + 1);
  }
  const [real, imaginary, power] = [new Float32Array(size), new Float32Array(size), new Float32Array(size / 2 + 1)];
  return (sampleAt) => {
    for (let k = 0; k < size; k++) real[reversed[k]] = sampleAt(k) * window[k];
    imaginary.fill(0);
    for (let half = 1, step = size / 2; half < size; half *= 2, step /= 2) {
      for (let from = 0; from < size; from += 2 * half) {
        for (let k = 0; k < half; k++) {
          const [a, b, c, s] = [from + k, from + k + half, cosines[k * step], sines[k * step]];
          const re = real[b] * c - imaginary[b] * s;
          const im = real[b] * s + imaginary[b] * c;
          real[b] = real[a] - re;
          imaginary[b] = imaginary[a] - im;
          real[a] += re;
          imaginary[a] += im;
        }
      }
    }
    for (let k = 0; k <= size / 2; k++) power[k] = real[k] ** 2 + imaginary[k] ** 2;
    return power;
  };
}

export class Spectrogram {
  /** @param {import("./sound.js").Sound} sound @param {number} top Hz, at most half the sound's rate. */
  constructor(sound, top) {
    this.sound = sound;
    this.top = Math.min(top, sound.rate / 2);
    this.size = 2 ** Math.ceil(Math.log2(0.04 * sound.rate));
    this.power = transform(this.size);
    const edge = (bin) => (hertz(Math.max(0, bin) / BINS, this.top) * this.size) / sound.rate;
    this.edges = Array.from({ length: BINS }, (_, bin) => [edge(bin - 0.5), edge(bin + 0.5)]);
    this.tiles = new Map();
    this.loudest = this.painted = 2 * (FLOOR_DB - 55); // what is quieter is not made to look loud
  }

  /** The colors from silence to the loudest sound, as `colorsBetween` gives them. */
  setColors(stops) {
    this.colors = stops;
    this.#paintAll();
  }

  /** Draws the seconds `start` to `start + span` into `context`; true while more is to be computed. */
  draw(context, start, span, milliseconds) {
    const { width, height } = context.canvas;
    const level = Math.max(0, Math.min(LEVELS, Math.round(Math.log2(span / width / FINEST))));
    const seconds = COLUMNS * FINEST * 2 ** level;
    const wanted = [];
    for (let n = Math.max(0, Math.floor(start / seconds)); n * seconds < Math.min(start + span, this.sound.seconds); n++) {
      wanted.push(this.#tile(level, n));
    }
    const deadline = performance.now() + milliseconds;
    const isBehind = wanted.map((tile) => this.#fill(tile, deadline)).includes(true);
    if (this.loudest > this.painted + 6) this.#paintAll();
    const far = (tile) => Math.abs(tile.level - level);
    for (const tile of [...this.tiles.values()].sort((a, b) => far(b) - far(a))) {
      const hop = FINEST * 2 ** tile.level;
      const x = ((tile.from - start) / span) * width;
      const wide = ((tile.filled * hop) / span) * width;
      if (tile.filled && x < width && x + wide > 0) context.drawImage(tile.canvas, 0, 0, tile.filled, BINS, x, 0, wide, height);
    }
    return isBehind;
  }

  #tile(level, n) {
    const key = `${level}/${n}`;
    const tile = this.tiles.get(key) ?? this.#newTile(level, n);
    this.tiles.delete(key);
    this.tiles.set(key, tile); // the last one in the map is the last one drawn
    if (this.tiles.size > MOST_TILES) this.tiles.delete(this.tiles.keys().next().value);
    return tile;
  }

  #newTile(level, n) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [COLUMNS, BINS];
    work.tiles += 1;
    const from = n * COLUMNS * FINEST * 2 ** level;
    return { level, from, canvas, context: canvas.getContext("2d"), filled: 0, levels: new Uint8Array(COLUMNS * BINS) };
  }

  /** Computes the next columns of a tile; true if some that could be computed are left. */
  #fill(tile, deadline) {
    const hop = FINEST * 2 ** tile.level;
    const before = tile.filled;
    const isThere = () => tile.filled < COLUMNS && tile.from + (tile.filled + 1) * hop <= this.sound.seconds;
    while (isThere() && performance.now() < deadline) this.#column(tile, tile.filled++, hop);
    if (tile.filled > before) this.#paint(tile, before, tile.filled);
    return isThere();
  }

  #column(tile, column, hop) {
    const frames = Math.max(1, Math.min(FRAMES, Math.round((hop * this.sound.rate) / this.size)));
    const [levels, offset] = [tile.levels, column * BINS];
    for (let frame = 0; frame < frames; frame++) {
      const middle = (tile.from + (column + (frame + 0.5) / frames) * hop) * this.sound.rate;
      const first = Math.round(middle - this.size / 2);
      const power = this.power((k) => this.sound.at(first + k));
      this.edges.forEach(([low, high], bin) => {
        const level = Math.max(0, 2 * (FLOOR_DB + 10 * Math.log10(mean(power, low, high) + 1e-13)));
        if (level > levels[offset + bin]) levels[offset + bin] = level;
        if (level > this.loudest) this.loudest = level;
      });
    }
    work.columns += 1;
  }

  #paintAll() {
    this.painted = this.loudest;
    for (const tile of this.tiles.values()) if (tile.filled) this.#paint(tile, 0, tile.filled);
  }

  #paint(tile, from, to) {
    const image = tile.context.createImageData(to - from, BINS);
    const pixels = new Uint32Array(image.data.buffer);
    const lowest = this.painted - 2 * RANGE_DB;
    for (let column = from; column < to; column++) {
      for (let bin = 0; bin < BINS; bin++) {
        const share = (tile.levels[column * BINS + bin] - lowest) / (2 * RANGE_DB);
        const color = this.colors[Math.max(0, Math.min(255, Math.round(255 * share)))];
        pixels[(BINS - 1 - bin) * (to - from) + column - from] = color;
      }
    }
    tile.context.putImageData(image, from, 0);
  }
}

/** The mean of a spectrum from one place to another, between its values where these are wider apart. */
function mean(power, low, high) {
  if (high - low < 1) {
    const place = (low + high) / 2;
    const below = Math.floor(place);
    return power[below] + (place - below) * ((power[below + 1] ?? power[below]) - power[below]);
  }
  const [first, last] = [Math.round(low), Math.max(Math.round(low) + 1, Math.round(high))];
  let sum = 0;
  for (let k = first; k < last; k++) sum += power[k] ?? 0;
  return sum / (last - first);
}

/** 256 colors between a few of the form #rrggbb, as pixels. */
export function colorsBetween(stops) {
  const points = stops.map((stop) => [1, 3, 5].map((k) => parseInt(stop.slice(k, k + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, k) => {
    const place = (k / 255) * (points.length - 1);
    const below = Math.min(points.length - 2, Math.floor(place));
    const [r, g, b] = points[below].map((value, c) => Math.round(value + (place - below) * (points[below + 1][c] - value)));
    return (255 << 24) | (b << 16) | (g << 8) | r; // as all of today's machines order bytes
  });
}
