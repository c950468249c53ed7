// Windows of equal length from a stream of blocks, in constant memory: audiorep/audio/windows.py in JavaScript.

const MIN_TAIL_SHARE = 0.1; // of a window; a shorter rest at the end of a sound gets no window of its own

/**
 * Cuts a window every `hop` samples from the blocks that it is given, whatever their lengths.
 *
 * A sound that is shorter than a window is padded to one window. A rest at the end that no window holds gets a window of its
 * own if it is at least a tenth of a window long; that window ends where the sound ends.
 */
export class Cutter {
  constructor(length, hop, padding = "zeros") {
    Object.assign(this, { length, hop, padding });
    this.buffer = new Float32Array(0);
    this.bufferStart = this.position = 0;
    this.heard = 0; // samples so far
  }

  /** [[first sample, window]] of the windows that the block completes. */
  push(block) {
    this.heard += block.length;
    this.buffer = joined(this.buffer, block);
    const found = [];
    for (; this.position + this.length <= this.heard; this.position += this.hop) {
      found.push([this.position, this.#from(this.position).slice(0, this.length)]);
    }
    const keepFrom = Math.max(Math.min(this.position, this.heard - this.length), this.bufferStart);
    [this.buffer, this.bufferStart] = [this.#from(keepFrom).slice(), keepFrom];
    return found;
  }

  /** The window of the rest at the end, or of a short sound, if there is one. */
  flush() {
    if (this.position === 0 && this.heard) return [[0, pad(this.buffer, this.length, this.padding)]];
    const rest = this.heard - (this.position - this.hop + this.length);
    if (!this.heard || rest < Math.max(1, MIN_TAIL_SHARE * this.length)) return [];
    return [[this.heard - this.length, this.#from(this.heard - this.length).slice()]];
  }

  #from(start) {
    return this.buffer.subarray(start - this.bufferStart);
  }
}

/** `waveform` cut or padded at its end; `padding` is `zeros`, `edge` (the last sample) or `edge_frames` (which the graph does). */
export function pad(waveform, samples, padding = "zeros") {
  const missing = samples - waveform.length;
  if (missing <= 0) return waveform.slice(0, samples);
  if (padding === "edge_frames") return waveform.slice();
  const padded = new Float32Array(samples);
  padded.set(waveform);
  if (padding === "edge") padded.fill(waveform[waveform.length - 1], waveform.length);
  return padded;
}

function joined(first, second) {
  const both = new Float32Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
