// The spectrogram of a sound in tiles, each computed when it is first seen, a few columns at a time.

const BINS = 128;
const COLUMNS = 256; // of a tile
const FINEST = 1 / 256; // seconds of a column at level 0; each level doubles them
const MOST_LEVEL = 12;
const MOST_TILES = 64; // the one that was not drawn for the longest time goes first
const FRAMES = 8; // most transforms that make a column
const DECIBELS = 72; // between the lightest and the darkest color
const FLOOR = 130; // decibels below full scale at which a tile's levels begin, in steps of half a decibel

/** What was computed since the page was opened. */
export const work = { columns: 0, tiles: 0 };

const mel = (hertz) => Math.log10(1 + hertz / 700);
/** Where a frequency lies: 0 at the bottom, 1 at the top. */
export const heightOf = (hertz, top) => mel(hertz) / mel(top);

/** A function that makes the power spectrum of `size` samples, a power of 2. */
function transform(size) {
  const [cosines, sines, reversed, real, imaginary, power] = Array.from({ length: 6 }, () => new Float32Array(size));
  for (let k = 0; k < size; k++) {
    cosines[k] = Math.cos((2 * Math.PI * k) / size);
    sines[k] = -Math.sin((2 * Math.PI * k) / size);
    for (let bit = 1; bit < size; bit *= 2) if (k & bit) reversed[k] += size / bit / 2;
  }
  return (sampleAt) => {
    for (let k = 0; k < size; k++) real[reversed[k]] = (sampleAt(k) * (2 - 2 * cosines[k])) / size; // Hann; a full sine is 1
    imaginary.fill(0);
    for (let half = 1, step = size / 2; half < size; half *= 2, step /= 2) {
      for (let from = 0; from < size; from += 2 * half) {
        for (let k = 0, a = from, b = from + half; k < half; k++, a++, b++) {
          const re = real[b] * cosines[k * step] - imaginary[b] * sines[k * step];
          const im = real[b] * sines[k * step] + imaginary[b] * cosines[k * step];
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
  /** @param {import("./sound.js").Sound} sound @param {number} top Hz @param {Uint32Array} colors by `colorsBetween`. */
  constructor(sound, top, colors) {
    this.sound = sound;
    this.top = Math.min(top, sound.rate / 2);
    this.size = 2 ** Math.ceil(Math.log2(0.04 * sound.rate));
    this.power = transform(this.size);
    const edge = (bin) => (700 * (10 ** ((bin / BINS) * mel(this.top)) - 1) * this.size) / sound.rate;
    this.edges = Array.from({ length: BINS }, (_, bin) => [edge(bin), edge(bin + 1)]);
    this.tiles = new Map();
    this.loudest = this.painted = 2 * (FLOOR - 55); // what is quieter is not made to look loud
    this.colors = colors;
  }

  recolor(colors) {
    this.colors = colors;
    this.painted = this.loudest;
    for (const tile of this.tiles.values()) this.#paint(tile, 0);
  }

  /** Draws the seconds from `start` on; true while more is to be computed than `milliseconds` allowed. */
  draw({ context, width, height }, start, span, milliseconds) {
    const level = Math.max(0, Math.min(MOST_LEVEL, Math.round(Math.log2(span / width / FINEST))));
    const seconds = COLUMNS * FINEST * 2 ** level;
    const deadline = performance.now() + milliseconds;
    let isBehind = false;
    for (let n = Math.floor(start / seconds); n * seconds < Math.min(start + span, this.sound.seconds); n++) {
      isBehind = this.#fill(this.#tile(level, n), deadline) || isBehind;
    }
    if (this.loudest > this.painted + 6) this.recolor(this.colors);
    const far = (tile) => Math.abs(tile.level - level);
    for (const { from, hop, filled, canvas } of [...this.tiles.values()].sort((a, b) => far(b) - far(a))) {
      const [x, wide] = [((from - start) / span) * width, ((filled * hop) / span) * width];
      if (wide && x < width && x + wide > 0) context.drawImage(canvas, 0, 0, filled, BINS, x, 0, wide, height);
    }
    return isBehind;
  }

  #tile(level, n) {
    const key = `${level}/${n}`;
    const tile = this.tiles.get(key) ?? newTile(level, n);
    this.tiles.delete(key);
    this.tiles.set(key, tile); // the last in the map is the last drawn
    if (this.tiles.size > MOST_TILES) this.tiles.delete(this.tiles.keys().next().value);
    return tile;
  }

  /** Computes the next columns of a tile; true if some that could be computed are left. */
  #fill(tile, deadline) {
    const before = tile.filled;
    const isThere = () => tile.filled < COLUMNS && tile.from + (tile.filled + 1) * tile.hop <= this.sound.seconds;
    while (isThere() && performance.now() < deadline) this.#column(tile);
    if (tile.filled > before) this.#paint(tile, before);
    return isThere();
  }

  #column(tile) {
    const { from, hop, levels, filled } = tile;
    const frames = Math.max(1, Math.min(FRAMES, Math.round((hop * this.sound.rate) / this.size)));
    for (let frame = 0; frame < frames; frame++) {
      const first = Math.round((from + (filled + (frame + 0.5) / frames) * hop) * this.sound.rate - this.size / 2);
      const power = this.power((k) => this.sound.at(first + k));
      this.edges.forEach(([low, high], bin) => {
        const level = 2 * (FLOOR + 10 * Math.log10(mean(power, low, high) + 1e-13));
        levels[filled * BINS + bin] = Math.max(levels[filled * BINS + bin], level);
        this.loudest = Math.max(this.loudest, level);
      });
    }
    tile.filled += 1;
    work.columns += 1;
  }

  #paint({ canvas, levels, filled }, from) {
    const wide = filled - from;
    if (!wide) return;
    const image = new ImageData(wide, BINS);
    const pixels = new Uint32Array(image.data.buffer);
    for (let k = 0; k < wide * BINS; k++) {
      const share = 1 + (levels[from * BINS + k] - this.painted) / 2 / DECIBELS;
      const color = this.colors[Math.max(0, Math.min(255, Math.round(255 * share)))];
      pixels[(BINS - 1 - (k % BINS)) * wide + Math.floor(k / BINS)] = color;
    }
    canvas.getContext("2d").putImageData(image, from, 0);
  }
}

function newTile(level, n) {
  work.tiles += 1;
  const hop = FINEST * 2 ** level;
  const canvas = Object.assign(document.createElement("canvas"), { width: COLUMNS, height: BINS });
  return { level, hop, from: n * COLUMNS * hop, canvas, filled: 0, levels: new Uint8Array(COLUMNS * BINS) };
}

/** The mean of a spectrum from one place to another; where these are less than 1 apart, what is between its values. */
function mean(power, low, high) {
  const place = (low + high) / 2;
  const below = Math.floor(place);
  if (high - low < 1) return power[below] + (place - below) * (power[below + 1] - power[below]);
  let sum = 0;
  for (let k = Math.round(low); k < Math.round(high); k++) sum += power[k];
  return sum / (Math.round(high) - Math.round(low));
}

/** 256 colors between a few of the form #rrggbb, as pixels in the order of bytes of all usual machines. */
export function colorsBetween(stops) {
  const points = stops.map((stop) => [5, 3, 1].map((k) => parseInt(stop.slice(k, k + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, k) => {
    const place = (k / 255) * (points.length - 1);
    const below = Math.min(points.length - 2, Math.floor(place));
    const mixed = points[below].map((value, c) => Math.round(value + (place - below) * (points[below + 1][c] - value)));
    return mixed.reduce((sum, value) => sum * 256 + value, 255);
  });
}
