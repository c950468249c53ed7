// Plays a file, or what is kept of a recording, from one second to another.

export class Player {
  /** @param {(seconds: number, isPlaying: boolean) => void} onTime */
  constructor(onTime) {
    this.audio = new Audio();
    this.onTime = onTime;
    this.begin = 0; // second of the sound at which the audio begins
    for (const name of ["play", "pause", "seeked", "timeupdate"]) this.audio.addEventListener(name, () => this.#tell());
  }

  /** @param {?Blob} blob null: nothing can be played. */
  open(blob, begin = 0) {
    this.audio.pause();
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = blob ? URL.createObjectURL(blob) : "";
    if (blob) this.audio.src = this.url;
    else this.audio.removeAttribute("src");
    this.begin = begin;
    this.until = Infinity;
  }

  get isPlaying() {
    return Boolean(this.url) && !this.audio.paused;
  }

  get time() {
    return this.begin + this.audio.currentTime;
  }

  seek(seconds) {
    this.until = Infinity;
    if (this.url) this.audio.currentTime = Math.max(0, seconds - this.begin);
  }

  async play(from, until = Infinity) {
    if (!this.url) return;
    if (from !== undefined) this.seek(from);
    this.until = until;
    await this.audio.play().catch(() => {}); // a pause right after it, or a file that cannot be decoded, whose note is shown
    this.#follow();
  }

  pause() {
    this.audio.pause();
  }

  #follow() {
    if (this.request) return;
    const next = () => {
      this.request = this.isPlaying ? requestAnimationFrame(next) : 0;
      this.#tell();
    };
    next();
  }

  #tell() {
    if (this.isPlaying && this.time >= this.until) this.audio.pause();
    this.onTime(this.time, this.isPlaying);
  }
}
