// The sound that is shown: its picture, its events, how it is played and saved. Loaded with the first sound.

import { $, element } from "./dom.js";
import { isLive, isRecording } from "./files.js";
import { eventsOf, lanesOf } from "./heard.js";
import { Player } from "./player.js";
import { decode } from "./sound.js";
import { Findings } from "./table.js";
import { audacity, clock, csv, jsonLines } from "./text.js";
import { Timeline } from "./timeline.js";

const LONG = 30; // seconds; the mean over a longer sound says little

let threshold = null; // the model's own
export let current; // an item of the list

export const timeline = new Timeline($("picture"), seek);
export const findings = new Findings(timeline, ({ start, end }) => play(start, end));
const player = new Player(showTime);

/** What an item is when all of it was heard. */
export function finished(item, heard) {
  const events = eventsOf(heard.windows, item.model, threshold, false);
  return { state: "done", heard, events, answer: answerOf({ heard, events }, 1) };
}

/** The likeliest labels of a whole sound; of a longer one or a recording, those that were heard most. */
function answerOf({ heard, events }, most) {
  if (!heard.file || heard.seconds > LONG) return lanesOf(events).slice(0, most).map(({ label }) => label).join(" · ");
  const likely = (best) => best.slice(0, most).filter(([, score], k) => !k || score >= 0.1);
  const text = ([label, score]) => `${label} ${score.toFixed(2)}`;
  return Object.values(heard.file).map((best) => likely(best).map(text).join(" · ")).join("; ");
}

/** Shows an item of the list, or none. */
export function open(item) {
  if (current?.file && current !== item) current.sound = null; // it is decoded again when it is shown again
  current = item;
  player.open(null);
  $("stage").hidden = !item;
  if (!item) return;
  $("name").textContent = item.name;
  findings.reset();
  timeline.show(item.file ? null : item.sound, item.heard?.seconds ?? 0, item.model.sample_rate / 2, isLive(item));
  if (item.file) decodeShown(item);
  else if (isRecording(item)) player.open(item.sound.wav(), item.sound.first);
  showTime(timeline.extent[0]);
  show();
}

/** Decodes the file that is shown, to draw it at the rate at which the model hears it. */
async function decodeShown(item) {
  player.open(item.file);
  const rate = Math.max(8000, Math.min(48000, item.model.sample_rate));
  const found = await decode(item.file, rate, await player.length).then((sound) => ({ sound }), ({ message }) => ({ note: message }));
  if (item !== current) return;
  Object.assign(item, found);
  if (item.sound) timeline.show(item.sound, item.heard?.seconds ?? 0, rate / 2);
  else if (!player.audio.duration) player.open(null);
  show();
}

/** Shows the events, lanes and notes of the current sound. */
export function show() {
  const { heard, note, error, sound, model } = current;
  const windows = heard?.windows ?? [];
  if (heard && !sound && timeline.known !== heard.seconds) timeline.show(null, heard.seconds);
  current.events = eventsOf(windows, model, threshold, isLive(current));
  findings.show(current.events, windows, model);
  showAnswer();
  const notes = [...(heard?.notes ?? []), ...(note && !error ? [note] : [])];
  $("notes").replaceChildren(...notes.map((text) => element("li", {}, text)));
  const none = heard ? "No label reaches the threshold." : "The events come when all of it was heard.";
  $("none").textContent = current.events.length ? "" : error || none;
  $("none").className = error ? "bad" : "";
  $("stage").classList.toggle("failed", Boolean(error));
  $("play").disabled = !player.url && !isLive(current);
  $("wav").hidden = !sound || !isRecording(current);
  showTime(timeline.time, player.isPlaying);
}

function showAnswer() {
  const now = current.events.filter((event) => event.open).map(({ label }) => label);
  const answer = isLive(current) ? now.join(" · ") || "…" : current.heard ? answerOf(current, 3) : "";
  if (isLive(current) && answer !== $("answer").textContent) $("said").textContent = answer;
  $("answer").textContent = answer;
}

/** Moves the threshold; null: to the model's own. */
export function setThreshold(value, model) {
  threshold = value;
  const usual = Object.values(model.thresholds).flat().sort((a, b) => a - b);
  if (value === null) $("threshold").value = usual[usual.length >> 1] || 0.5; // the middle of the model's
  $("chosen").textContent = $("threshold").ariaValueText = value === null ? "the model’s own" : value.toFixed(2);
  $("own").hidden = value === null;
  if (current) show();
}

/** Draws what was added to the live sound. */
export function grow() {
  timeline.invalidate();
  if (!player.isPlaying) showTime(current.sound.seconds);
}

function play(from, until) {
  if (isLive(current)) player.open(current.sound.wav(), current.sound.first); // with what was heard since
  player.play(from, until);
}

function togglePlay() {
  if (player.isPlaying) player.audio.pause();
  else play(timeline.time < timeline.seconds - 0.05 && !isLive(current) ? timeline.time : timeline.extent[0]);
}

function seek(seconds) {
  const time = Math.max(timeline.extent[0], Math.min(timeline.seconds, seconds));
  player.seek(time);
  showTime(time, player.isPlaying);
}

function showTime(time, isPlaying = false) {
  timeline.setTime(time, isPlaying);
  findings.mark(time, isPlaying);
  $("play").classList.toggle("on", isPlaying);
  $("play").ariaLabel = isPlaying ? "Pause" : "Play";
  $("time").textContent = `${clock(time, 1)} / ${clock(timeline.seconds, 1)}`;
}

/** Saves the events of all items, or of the current one, in a format. */
export function save(kind, items) {
  const results = items.filter(({ heard, error }) => heard || error).map((item) => {
    const { name: path, error, heard = { windows: [], notes: [] } } = item;
    return { path, error, ...heard, events: eventsOf(heard.windows, item.model, threshold, false) };
  });
  const make = { csv: () => csv(results), jsonl: () => jsonLines(results), "audacity.txt": () => audacity(current.events) };
  const url = URL.createObjectURL(kind === "wav" ? current.sound.wav() : new Blob([make[kind]()], { type: "text/plain" }));
  const name = results.length > 1 && /csv|jsonl/.test(kind) ? "sounds" : current.name.split("/").pop().replaceAll(":", ".");
  element("a", { href: url, download: `${name}.${kind}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

const zoom = (factor) => timeline.zoom(factor);
const onPicture = {
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => timeline.fit(), Home: () => seek(0),
  End: () => seek(Infinity), PageUp: () => timeline.pan(-0.9 * timeline.span), PageDown: () => timeline.pan(0.9 * timeline.span),
};

function onKey(event) {
  const { key, target, shiftKey } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || !current || $("ask").open) return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key] * (shiftKey ? 10 : 1);
  const row = { ArrowUp: "previousSibling", ArrowDown: "nextSibling" }[key];
  const hasOwnUse = target.closest("button, select, input") && !target.ariaCurrent && !(player.isPlaying && target.closest("tbody"));
  if (key === " " && !hasOwnUse) togglePlay();
  else if (step && !target.closest("select, input")) seek(timeline.time + step);
  else if (row && target.closest("tbody")) target.closest("tr")[row]?.querySelector("button").focus();
  else if (target === timeline.plot && onPicture[key]) onPicture[key]();
  else return;
  event.preventDefault();
}

const clicks = { play: togglePlay, in: () => zoom(0.5), out: () => zoom(2), fit: () => timeline.fit() };
for (const [id, action] of Object.entries(clicks)) $(id).onclick = action;
document.onkeydown = onKey;
