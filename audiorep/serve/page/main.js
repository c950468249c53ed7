// The page: its sounds, the one that is shown, and what a person does with them.

import { $, element } from "./dom.js";
import { dropped, lineOf, ofFolder, place } from "./files.js";
import { eventsOf, lanesOf } from "./heard.js";
import { listen } from "./microphone.js";
import { Player } from "./player.js";
import { decode } from "./sound.js";
import { Findings } from "./table.js";
import { audacity, clock, count, csv, jsonLines } from "./text.js";
import { Timeline } from "./timeline.js";

const AT_ONCE = 2; // files that are recognized at the same time
const KEPT = 600; // seconds of earlier recordings that can still be heard when a new one begins
const LONG = 30; // seconds; the mean over a longer sound says little
const items = []; // {name, state, file, model, heard, events, progress, error, sound, note, line, stopper}
let engine, current, session;
let threshold = null; // the model's own

const timeline = new Timeline($("picture"), seek);
const player = new Player(showTime);
const findings = new Findings(timeline, ({ start, end }) => play(start, end));
const modelOf = ({ model }) => engine.models.find(({ name }) => name === model);
const chosenModel = () => modelOf({ model: $("model").value });
const isLive = ({ state }) => state === "listening";
const isRecording = ({ file, sound }) => !file && sound.first < sound.pieces.length;
const isOver = ({ state }) => state === "done" || state === "failed";

/** Tells those who listen to the page what those who look at it see. */
const say = (text) => ($("said").textContent = text);
const warn = (text) => ($("message").textContent = text);

// The list

function add({ files, others }) {
  const made = files.map((file) => newItem({ name: place(file), file, state: "waiting" }));
  warn(others ? `Passed over, as not in a known format of sound: ${count(others, "file")}.` : files.length ? "" : "There is no sound.");
  if (made.length && !session) open(made[0]);
  work();
}

function newItem(values) {
  const item = { model: $("model").value, progress: 0, ...values };
  item.line = lineOf(item, () => open(item), () => remove(item));
  items.push(item);
  $("files").append(item.line);
  return item;
}

async function remove(item) {
  if (isLive(item)) await stopListening();
  item.stopper?.abort();
  const at = items.indexOf(item);
  items.splice(at, 1);
  item.line.remove();
  const next = items[Math.min(at, items.length - 1)];
  if (item === current) open(next);
  (next?.line.firstChild ?? $("choose")).focus();
  work();
}

function drawList() {
  for (const item of items) item.line.draw(item === current, aboutItem(item));
  const over = items.filter(isOver).length;
  $("done").textContent = over < items.length ? `${over} of ${items.length} done` : count(over, "sound");
  $("done").parentNode.hidden = items.length < 2;
  document.body.classList.toggle("empty", !items.length);
  $("scope").textContent = over > 1 ? `Save: CSV and JSON hold ${over} sounds, labels only this one.` : "Save the events";
}

function aboutItem(item) {
  if (item.state === "done") return item.answer;
  return item.error || (item.state === "working" ? (item.progress < 1 ? "sending" : "in work") : item.state);
}

/** The likeliest labels of a whole sound; of a longer one or a recording, those that were heard most. */
function answerOf({ heard, events }, most) {
  if (!heard.file || heard.seconds > LONG) return lanesOf(events).slice(0, most).map(({ label }) => label).join(" · ");
  const likely = (best) => best.slice(0, most).filter(([, score], k) => !k || score >= 0.1);
  const text = ([label, score]) => `${label} ${score.toFixed(2)}`;
  return Object.values(heard.file).map((best) => likely(best).map(text).join(" · ")).join("; ");
}

/** Recognizes the files that wait, a few at once. */
function work() {
  const free = AT_ONCE - items.filter(({ state }) => state === "working").length;
  items.filter(({ state }) => state === "waiting").slice(0, Math.max(0, free)).forEach(recognize);
  drawList();
}

async function recognize(item) {
  const [stopper, file] = [new AbortController(), item.file ?? new File([item.sound.wav()], "microphone.wav")];
  const onProgress = (progress) => item.line.draw(item === current, aboutItem(Object.assign(item, { progress })));
  Object.assign(item, { state: "working", progress: 0, stopper });
  let found;
  try {
    const heard = await engine.classify(file, { model: item.model, onProgress, signal: stopper.signal });
    const late = item.file ? 0 : item.sound.first;
    const windows = heard.windows.map((window) => ({ ...window, start: window.start + late, end: window.end + late }));
    found = finished(item, { ...heard, windows });
  } catch ({ message }) {
    found = { state: "failed", error: message };
  }
  if (stopper.signal.aborted) return;
  Object.assign(item, found);
  if (item === current && !item.sound && item.heard) timeline.show(null, item.heard.seconds);
  if (item === current) show();
  say(`${item.name}: ${aboutItem(item)}`);
  work();
}

/** What an item is when all of it was heard. */
function finished(item, heard) {
  const events = eventsOf(heard.windows, modelOf(item), threshold, false);
  return { state: "done", heard, events, answer: answerOf({ heard, events }, 1) };
}

// The sound that is shown

function open(item) {
  if (current?.file && current !== item) current.sound = null; // it is decoded again when it is shown again
  current = item;
  player.open(null);
  $("stage").hidden = !item;
  if (!item) return;
  $("name").textContent = item.name;
  findings.reset();
  const top = modelOf(item).sample_rate / 2;
  timeline.show(item.file ? null : item.sound, item.heard?.seconds ?? 0, top, isLive(item));
  if (item.file) decodeShown(item);
  else if (isRecording(item)) player.open(item.sound.wav(), item.sound.first);
  showTime(timeline.extent[0]);
  show();
  drawList();
}

/** Decodes the file that is shown, to draw it at the rate at which the model hears it. */
async function decodeShown(item) {
  player.open(item.file);
  const rate = Math.max(8000, Math.min(48000, modelOf(item).sample_rate));
  const found = await decode(item.file, rate, await player.length).then((sound) => ({ sound }), ({ message }) => ({ note: message }));
  if (item !== current) return;
  Object.assign(item, found);
  if (item.sound) timeline.show(item.sound, item.heard?.seconds ?? 0, rate / 2);
  else if (!player.audio.duration) player.open(null);
  show();
}

/** Shows the events, lanes and notes of the current sound. */
function show() {
  const { heard, note, error, sound } = current;
  const windows = heard?.windows ?? [];
  current.events = eventsOf(windows, modelOf(current), threshold, isLive(current));
  findings.show(current.events, windows, modelOf(current));
  const now = current.events.filter(({ open }) => open).map(({ label }) => label);
  const answer = isLive(current) ? now.join(" · ") || "…" : heard ? answerOf(current, 3) : "";
  if (isLive(current) && answer !== $("answer").textContent) say(answer);
  $("answer").textContent = answer;
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

function setThreshold(value) {
  threshold = value;
  const usual = Object.values(chosenModel().thresholds).flat().sort((a, b) => a - b);
  if (value === null) $("threshold").value = usual[usual.length >> 1] || 0.5; // the middle of the model's
  $("chosen").textContent = $("threshold").ariaValueText = value === null ? "the model’s own" : value.toFixed(2);
  $("own").hidden = value === null;
  if (current) show();
}

// Playing

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

// The microphone

async function startListening() {
  $("listen").disabled = true;
  warn("");
  const heard = { windows: [], seconds: 0, notes: [] };
  const onWindow = (window) => {
    heard.windows.push(window);
    if (session?.item === current) show();
  };
  const onLost = () => warn("The network is slow: some sound was left out.");
  const onError = (sentence) => {
    warn(sentence);
    if (session) stopListening();
  };
  try {
    session = await listen(engine, $("model").value, { onSound, onWindow, onLost, onError });
    const name = `Microphone, ${new Date().toLocaleTimeString()}`;
    session.item = newItem({ name, sound: session.sound, heard, state: "listening" });
    let seconds = 0;
    for (const { sound } of items.filter(isRecording).reverse()) {
      seconds += sound.seconds - sound.first;
      if (seconds > KEPT) sound.first = sound.pieces.fill(null).length; // its events stay
    }
    findings.sort("start", -1);
    open(session.item);
  } catch ({ message }) {
    warn(message);
  }
  showListening();
}

/** Draws a piece of live sound, and its level. */
function onSound(samples) {
  if (!session?.item) return;
  const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1e-3);
  $("level").ariaValueNow = Math.round(20 * Math.log10(peak));
  $("level").firstChild.style.transform = `scaleX(${Math.min(1, 1 + Math.log10(peak) / 3)})`;
  const { item } = session;
  while (item.heard.windows[0]?.end < item.sound.first) item.heard.windows.shift();
  if (item !== current) return;
  timeline.invalidate();
  if (!player.isPlaying) showTime(item.sound.seconds);
}

async function stopListening() {
  const { item, stop } = session;
  session = null;
  showListening();
  await stop();
  Object.assign(item, finished(item, { ...item.heard, seconds: item.sound.seconds }));
  findings.sort("start", 1);
  if (item === current) open(item);
  drawList();
}

function showListening() {
  $("listen").disabled = false;
  $("listen").classList.toggle("on", Boolean(session));
  $("listen").lastChild.textContent = session ? "Stop" : "Listen";
  $("level").hidden = !session;
  $("model").disabled = Boolean(session);
}

// What a person does

function save(kind) {
  const results = items.filter(({ heard, error }) => heard || error).map((item) => {
    const { name: path, error, heard = { windows: [], notes: [] } } = item;
    return { path, error, ...heard, events: eventsOf(heard.windows, modelOf(item), threshold, false) };
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

async function onDrop(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  try {
    add(await dropped(event.dataTransfer));
  } catch ({ message }) {
    warn(`The folder cannot be read: ${message}`);
  }
}

function changeModel() {
  for (const item of items.filter((item) => item.file || isRecording(item))) {
    item.stopper?.abort();
    Object.assign(item, { model: $("model").value, state: "waiting", heard: undefined, error: undefined });
  }
  showModel();
  work();
}

function showModel() {
  const { name, labels, window_seconds: seconds } = chosenModel();
  const where = engine.kind === "server" ? "Sounds are sent to this server." : "Sounds stay in this browser.";
  $("about").textContent = `${name}: ${count(Object.values(labels).flat().length, "label")}, ${seconds.toFixed(2)} s a window. ${where}`;
  setThreshold(null);
}

function askToken() {
  $("ask").showModal();
  return new Promise((resolve) => {
    $("ask").oncancel = (event) => event.preventDefault(); // nothing works without it
    $("ask").firstChild.onsubmit = (event) => {
      event.preventDefault();
      $("ask").close();
      resolve($("token").value.trim());
    };
  });
}

function bind() {
  const clicks = {
    choose: () => $("picker").click(), folder: () => $("folders").click(), play: togglePlay, own: () => setThreshold(null),
    listen: () => (session ? stopListening() : startListening()), clear: () => items.filter(isOver).forEach(remove),
    in: () => zoom(0.5), out: () => zoom(2), fit: () => timeline.fit(),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).onclick = action;
  for (const button of document.querySelectorAll("[data-save]")) button.onclick = () => save(button.dataset.save);
  for (const id of ["picker", "folders"]) {
    $(id).onchange = ({ target }) => {
      add(id === "folders" ? ofFolder([...target.files]) : { files: [...target.files] });
      target.value = ""; // the same file may be chosen again
    };
  }
  $("model").onchange = changeModel;
  $("threshold").oninput = ({ target }) => setThreshold(Number(target.value));
  document.onkeydown = onKey;
  document.ondrop = onDrop;
  document.ondragover = (event) => event.preventDefault(document.body.classList.add("dropping"));
  document.ondragleave = ({ relatedTarget }) => relatedTarget ?? document.body.classList.remove("dropping");
}

try {
  const { content } = document.querySelector('meta[name="audiorep-engine"]');
  const { openEngine } = await import(content === "browser" ? "./browser_engine.js" : "./server_engine.js");
  engine = await openEngine(askToken);
  $("model").append(...engine.models.map(({ name }) => element("option", { value: name }, name)));
  $("models").hidden = false;
  showModel();
  bind();
  document.body.dataset.ready = "";
} catch ({ message }) {
  warn(message);
}
