// Sends what it hears to the page: one channel, the mean of all, in pieces of about 50 ms.

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(128 * Math.ceil(sampleRate / 20 / 128));
    this.filled = 0;
  }

  process([channels]) {
    if (!channels.length) return true; // nothing is connected yet
    for (let k = 0; k < channels[0].length; k++) {
      let sum = 0;
      for (const channel of channels) sum += channel[k];
      this.piece[this.filled++] = sum / channels.length;
    }
    if (this.filled === this.piece.length) {
      this.port.postMessage(this.piece.slice());
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
