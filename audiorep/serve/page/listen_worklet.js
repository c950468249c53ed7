// In the thread of the sound: resamples what it hears, cuts windows, and hands them to the worker without the page.

import { LiveCutter } from "./live.js";

class Listen extends AudioWorkletProcessor {
  constructor({ processorOptions: { model } }) {
    super();
    this.port.onmessage = ({ data }) => (data.worker ? this.begin(data.worker, model) : this.end());
  }

  begin(worker, model) {
    this.worker = worker;
    const onWindow = (window) => worker.postMessage(window, [window.samples.buffer]);
    this.cutter = new LiveCutter(sampleRate, model, onWindow, (seconds) => this.port.postMessage({ lost: seconds }));
    worker.onmessage = ({ data }) => this.cutter.taken(data.taken);
  }

  end() {
    this.cutter?.flush();
    this.worker?.postMessage({ end: true });
    this.cutter = null;
  }

  process([channels]) {
    if (this.cutter && channels.length) this.cutter.push(mean(channels), Date.now() / 1000);
    return true;
  }
}

/** The mean of all channels, which are used again for the next block. */
function mean(channels) {
  return channels[0].map((_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length);
}

registerProcessor("audiorep-listen", Listen);
