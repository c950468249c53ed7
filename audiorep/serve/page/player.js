// Plays a file, or what is kept of a recording, from one second to another.

export class Player {
  /** @param {(seconds: number, isPlaying: boolean) => void} onTime */
  constructor(onTime) {
    Object.assign(this, { audio: new Audio(), onTime, begin: 0, until: Infinity });
    for (const name of ["play", "pause", "seeked", "timeupdate"]) this.audio.addEventListener(name, () => this.#tell());
  }

  /** @param {?Blob} blob null: nothing can be played. @param {number} begin second of the sound at which it begins. */
  open(blob, begin = 0) {
    this.audio.pause();
    URL.revokeObjectURL(this.url);
    this.url = blob ? URL.createObjectURL(blob) : "";
    if (blob) this.audio.src = this.url;
    else this.audio.removeAttribute("src");
    this.begin = begin;
    this.length = new Promise((done) => {
      this.audio.onloadedmetadata = this.audio.onerror = () => done(this.audio.duration); // seconds; NaN: not known
    });
  }

  get isPlaying() {
    return Boolean(this.url) && !this.audio.paused;
  }

  seek(seconds) {
    this.until = Infinity;
    if (this.url) this.audio.currentTime = Math.max(0, seconds - this.begin);
  }

  async play(from, until = Infinity) {
    this.seek(from);
    this.until = until;
    if (this.url) await this.audio.play().catch(() => {}); // paused at once, or not decoded, of which a note tells
    const follow = () => {
      this.#tell();
      this.request = this.isPlaying ? requestAnimationFrame(follow) : 0;
    };
    if (!this.request) follow();
  }

  #tell() {
    const time = this.begin + this.audio.currentTime;
    if (this.isPlaying && time >= this.until) this.audio.pause();
    this.onTime(time, this.isPlaying);
  }
}
