// The page: its sounds, the one that is shown, and what a person does with them.

import { $, element } from "./dom.js";
import { dropped, lineOf, ofFolder, place } from "./files.js";
import { eventsOf, usualThreshold } from "./heard.js";
import { levelOf, listen } from "./microphone.js";
import { Player } from "./player.js";
import { decode } from "./sound.js";
import { Findings } from "./table.js";
import { audacity, clock, count, csv, jsonLines } from "./text.js";
import { Timeline } from "./timeline.js";

const AT_ONCE = 2; // files that are recognized at the same time
const MOST_KEPT = 600; // seconds of recordings that are kept when another begins
const items = []; // {name, state, file, model, heard, progress, error, sound, note, line, stopper}
let engine, current, session;
let threshold = null; // the model's own

const player = new Player((time, isPlaying) => {
  timeline.setTime(time, isPlaying);
  findings.mark(time, isPlaying);
  $("play").classList.toggle("on", isPlaying);
  $("play").ariaLabel = isPlaying ? "Pause" : "Play";
  $("time").textContent = `${clock(time, 1)} / ${clock(timeline.seconds, 1)}`;
});
const timeline = new Timeline($("picture"), seek);
const findings = new Findings(timeline, ({ start, end }) => playStretch(start, end));

const modelOf = (item) => engine.models.find(({ name }) => name === item.model);
const isLive = (item) => item.state === "listening";

function say(text, isBad = false) {
  $("message").className = isBad ? "bad" : "";
  $("message").textContent = text;
}

// ——— the list

function add(files, others = 0) {
  const made = files.map((file) => newItem({ name: place(file), file, state: "waiting" }));
  if (others) say(`${count(others, "file")} of other formats ${others > 1 ? "were" : "was"} passed over.`);
  else say(files.length ? "" : "No sound was found there.");
  if (made.length && !(current && isLive(current))) open(made[0]);
  work();
}

function newItem(values) {
  const item = { model: $("model").value, progress: 0, ...values };
  item.line = lineOf(item, () => open(item), () => remove(item));
  items.push(item);
  $("files").append(item.line);
  document.body.classList.remove("empty");
  return item;
}

function remove(item) {
  if (isLive(item)) return toggleMicrophone();
  item.stopper?.abort();
  const at = items.indexOf(item);
  items.splice(at, 1);
  item.line.remove();
  if (item === current) open(items[Math.min(at, items.length - 1)]);
  $("files").children[Math.min(at, items.length - 1)]?.firstChild.focus();
  drawList();
}

function drawList() {
  for (const item of items) item.line.draw(item === current, aboutItem(item));
  const over = items.filter(({ state }) => state === "done" || state === "failed").length;
  $("done").textContent = over < items.length ? `${over} of ${items.length} done` : count(items.length, "sound");
  document.querySelector(".foot").hidden = items.length < 2;
  document.body.classList.toggle("empty", !items.length);
}

function aboutItem(item) {
  if (item.state === "done" || isLive(item)) return isLive(item) ? "listening …" : answerOf(item, 1) || "nothing that it knows";
  return { waiting: "waiting", working: item.progress < 1 ? "sending" : "listening to it", failed: item.error }[item.state];
}

/** The likeliest labels of a whole sound. */
function answerOf(item, most) {
  const heads = Object.values(item.heard?.file ?? {});
  const likely = (best) => best.slice(0, most).filter(([, score], k) => !k || score >= 0.1);
  return heads.map((best) => likely(best).map(([label, score]) => `${label} ${score.toFixed(2)}`).join(" · ")).join("; ");
}

/** Recognizes the files that wait, a few at once. */
function work() {
  const free = AT_ONCE - items.filter(({ state }) => state === "working").length;
  for (const item of items.filter(({ state }) => state === "waiting").slice(0, Math.max(0, free))) recognize(item);
  drawList();
}

async function recognize(item) {
  const stopper = new AbortController();
  Object.assign(item, { state: "working", progress: 0, stopper });
  const onProgress = (share) => {
    item.progress = share;
    item.line.draw(item === current, aboutItem(item));
  };
  const file = item.file ?? new File([item.sound.wav()], "microphone.wav");
  try {
    const heard = await engine.classify(file, { model: item.model, onProgress, signal: stopper.signal });
    if (stopper.signal.aborted) return;
    for (const window of heard.windows) shift(window, item.sound && !item.file ? item.sound.first : 0);
    Object.assign(item, { state: "done", heard });
    say(`${item.name}: ${answerOf(item, 1)}`);
  } catch (error) {
    if (stopper.signal.aborted) return;
    Object.assign(item, { state: "failed", error: error.message });
    say(`${item.name}: ${error.message}`, true);
  }
  if (item === current) showFound(true);
  work();
}

function shift(window, seconds) {
  window.start += seconds;
  window.end += seconds;
}

// ——— the sound that is shown

function open(item) {
  if (current?.file && current !== item) current.sound = null; // it is decoded again when it is shown again
  current = item;
  player.open(null);
  $("stage").hidden = !item;
  drawList();
  if (!item) return;
  $("name").textContent = item.name;
  findings.reset();
  timeline.show(item.file ? null : item.sound, item.heard?.seconds ?? 0, modelOf(item).sample_rate / 2, isLive(item));
  if (item.file) drawFile(item);
  else if (item.sound?.pieces.some(Boolean) && !isLive(item)) player.open(item.sound.wav(), item.sound.first);
  timeline.setTime(timeline.extent[0]);
  showFound();
}

/** Decodes the file that is shown, to draw it. */
async function drawFile(item) {
  item.note = "";
  player.open(item.file);
  const rate = Math.max(8000, Math.min(48000, modelOf(item).sample_rate));
  try {
    const sound = await decode(item.file, rate);
    if (item !== current) return;
    item.sound = sound;
    timeline.show(sound, item.heard?.seconds ?? 0, rate / 2, false);
  } catch (error) {
    item.note = error.message;
    if (item === current) player.open(null);
  }
  if (item === current) showFound();
}

/** Events, lanes and notes of the sound that is shown. */
function showFound(isNew = false) {
  const item = current;
  const heard = item.heard;
  if (isNew && heard && !item.sound) timeline.show(null, heard.seconds, 0, false);
  item.events = heard ? eventsOf(heard.windows, modelOf(item), threshold, isLive(item)) : [];
  findings.show(item.events, heard?.windows ?? [], modelOf(item));
  $("answer").textContent = item.state === "done" ? answerOf(item, 3) : isLive(item) ? newest(item) : "";
  const notes = [...(heard?.notes ?? []), ...(item.note && item.state !== "failed" ? [item.note] : [])];
  $("notes").replaceChildren(...notes.map((text) => element("li", {}, text)));
  $("none").className = item.state === "failed" ? "bad" : "";
  $("none").textContent = item.events.length ? "" : withoutEvents(item);
  $("picture").hidden = item.state === "failed" && !item.sound;
  $("play").disabled = !player.url && !(item.sound && !item.file);
  document.querySelector('[data-save="wav"]').hidden = Boolean(item.file) || !item.sound;
  $("time").textContent = `${clock(timeline.time, 1)} / ${clock(timeline.seconds, 1)}`;
  const others = items.filter(({ heard, error }) => heard || error).length;
  $("scope").textContent = others > 1 ? `Save: CSV and JSON hold all ${others} sounds, labels this one.` : "Save the events";
}

function withoutEvents(item) {
  if (item.state === "failed") return item.error;
  if (item.state === "done") return "No label reaches the threshold. Move it to the left to see more.";
  return isLive(item) ? "Nothing yet." : "The labels come as soon as the file is heard.";
}

const newest = (item) => item.events.filter((event) => event.open).map((event) => event.label).join(" · ") || "…";

function setThreshold(value) {
  threshold = value;
  const usual = usualThreshold(engine.models.find(({ name }) => name === $("model").value));
  if (value === null) $("threshold").value = usual;
  $("chosen").textContent = value === null ? "the model’s own" : value.toFixed(2);
  $("threshold").setAttribute("aria-valuetext", $("chosen").textContent);
  $("own").hidden = value === null;
  if (current) showFound();
}

// ——— playing

function playStretch(start, end) {
  if (isLive(current)) player.open(current.sound.wav(), current.sound.first); // with what was heard since the last click
  player.play(start, end);
}

function seek(seconds) {
  const [first, last] = timeline.extent;
  const time = Math.max(first, Math.min(last, seconds));
  player.seek(time);
  timeline.setTime(time);
  $("time").textContent = `${clock(time, 1)} / ${clock(timeline.seconds, 1)}`;
}

function togglePlay() {
  if (player.isPlaying) return player.pause();
  const isAtEnd = timeline.time >= timeline.seconds - 0.05;
  if (isLive(current)) return playStretch(isAtEnd ? current.sound.first : timeline.time, Infinity);
  return player.play(isAtEnd ? timeline.extent[0] : timeline.time);
}

// ——— the microphone

async function toggleMicrophone() {
  if (session) return stopListening();
  $("listen").disabled = true;
  say("");
  const windows = [];
  let item;
  const refresh = () => item && item === current && showFound();
  try {
    session = await listen(engine, $("model").value, {
      onSound: (samples) => showLevel(levelOf(samples), item),
      onWindow: (window) => {
        windows.push(window);
        while (windows[0].end < (item?.sound.first ?? 0)) windows.shift();
        const before = new Set(item?.events?.map(({ label }) => label));
        refresh();
        const begun = (item?.events ?? []).filter(({ label }) => !before.has(label)).map(({ label }) => label);
        if (begun.length) say(`Heard: ${begun.join(", ")}`);
      },
      onLost: () => say("The network is slow: some sound was left out.", true),
      onError: (sentence) => {
        say(sentence, true);
        if (session) stopListening();
      },
    });
    forgetOldest();
    const heard = { windows, seconds: 0, notes: [], file: {} };
    item = newItem({ name: `Microphone ${new Date().toLocaleTimeString()}`, sound: session.sound, heard, state: "listening" });
    session.item = item;
    findings.sort("start", -1);
    open(item);
  } catch (error) {
    say(error.message, true);
  }
  showListening();
}

async function stopListening() {
  const { item, stop } = session;
  session = null;
  showListening();
  await stop();
  item.state = "done";
  item.heard.seconds = item.sound.seconds;
  item.heard.file = meansOf(item.heard.windows);
  findings.sort("start", 1);
  if (item === current) {
    timeline.settle();
    player.open(item.sound.wav(), item.sound.first);
    showFound();
  }
  drawList();
}

/** The labels of all windows by their mean score, best first. */
function meansOf(windows) {
  const sums = {};
  for (const { scores } of windows) {
    for (const [head, found] of Object.entries(scores)) {
      sums[head] ??= new Map();
      for (const [label, score] of Object.entries(found)) sums[head].set(label, (sums[head].get(label) ?? 0) + score / windows.length);
    }
  }
  return Object.fromEntries(Object.entries(sums).map(([head, found]) => [head, [...found].sort((a, b) => b[1] - a[1]).slice(0, 20)]));
}

/** Bounds the memory of earlier recordings: their labels stay. */
function forgetOldest() {
  let seconds = 0;
  for (const { sound } of items.filter(({ file, sound }) => !file && sound).reverse()) {
    seconds += sound.seconds - sound.first;
    if (seconds > MOST_KEPT) sound.drop();
  }
}

function showListening() {
  $("listen").disabled = false;
  $("listen").classList.toggle("on", Boolean(session));
  $("listen").lastChild.textContent = session ? "Stop" : "Listen";
  $("level").hidden = !session;
  $("model").disabled = Boolean(session);
}

function showLevel(decibels, item) {
  $("level").firstChild.style.transform = `scaleX(${1 + decibels / 60})`;
  $("level").ariaValueNow = Math.round(decibels);
  if (!item || item !== current) return;
  timeline.invalidate();
  if (!player.isPlaying) timeline.setTime(item.sound.seconds);
  $("time").textContent = clock(item.sound.seconds, 1);
}

// ——— saving

function save(kind) {
  const results = items.filter(({ heard, error }) => heard || error).map((item) => ({
    path: item.name, error: item.error, seconds: item.heard?.seconds, notes: item.heard?.notes ?? [],
    events: item.heard ? eventsOf(item.heard.windows, modelOf(item), threshold, false) : [],
  }));
  const made = { csv: () => csv(results), jsonl: () => jsonLines(results), "audacity.txt": () => audacity(current.events) };
  const content = kind === "wav" ? current.sound.wav() : new Blob([made[kind]()], { type: "text/plain" });
  const own = current.name.split("/").pop().replaceAll(":", ".");
  const url = URL.createObjectURL(content);
  element("a", { href: url, download: `${results.length > 1 && /csv|jsonl/.test(kind) ? "sounds" : own}.${kind}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

// ——— what a person does

function onKey(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || !current || $("ask").open) return;
  const isOnPicture = target === timeline.plot;
  const isControl = target.closest("button, select, input, a");
  const step = event.shiftKey ? 10 : 1;
  const actions = {
    ...(isControl ? {} : { " ": togglePlay }),
    ...(target.closest("select, input") ? {} : { ArrowLeft: () => seek(timeline.time - step), ArrowRight: () => seek(timeline.time + step) }),
    ...(target.closest("tbody") ? { ArrowUp: () => move(target, -1), ArrowDown: () => move(target, 1) } : {}),
    ...(isOnPicture ? onPicture : {}),
  };
  if (!actions[key]) return;
  event.preventDefault();
  actions[key]();
}

const onPicture = {
  "+": () => timeline.zoom(0.5, timeline.time),
  "=": () => timeline.zoom(0.5, timeline.time),
  "-": () => timeline.zoom(2, timeline.time),
  0: () => timeline.fit(),
  Home: () => seek(0),
  End: () => seek(Infinity),
  PageUp: () => timeline.pan(-0.9 * timeline.span),
  PageDown: () => timeline.pan(0.9 * timeline.span),
};

function move(button, step) {
  const buttons = [...$("events").querySelectorAll("button")];
  buttons[buttons.indexOf(button) + step]?.focus();
}

async function onDrop(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  try {
    const { files, others } = await dropped(event.dataTransfer);
    add(files, others);
  } catch (error) {
    say(`The folder cannot be read: ${error.message}`, true);
  }
}

function changeModel() {
  const model = $("model").value;
  for (const item of items) {
    item.stopper?.abort();
    if (item.file || item.sound?.pieces.some(Boolean)) Object.assign(item, { model, state: "waiting", heard: null, error: null });
  }
  aboutModel();
  setThreshold(null);
  work();
}

function aboutModel() {
  const model = engine.models.find(({ name }) => name === $("model").value);
  const labels = Object.values(model.labels).flat().length;
  const where = engine.kind === "server" ? "Sounds are sent to this server." : "Sounds stay in this browser.";
  $("about").textContent = `${model.name}: ${count(labels, "label")}, windows of ${model.window_seconds.toFixed(2)} s. ${where}`;
}

function askToken() {
  $("ask").showModal();
  return new Promise((resolve) => {
    $("ask").querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      $("ask").close();
      resolve($("token").value.trim());
    };
    $("ask").oncancel = (event) => event.preventDefault(); // nothing works without it
  });
}

function bind() {
  const clicks = {
    choose: () => $("picker").click(), folder: () => $("folders").click(), listen: toggleMicrophone, play: togglePlay,
    in: () => timeline.zoom(0.5, timeline.time), out: () => timeline.zoom(2, timeline.time), fit: () => timeline.fit(),
    own: () => setThreshold(null), clear: () => [...items].forEach((item) => isLive(item) || remove(item)),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).onclick = action;
  $("picker").onchange = ({ target }) => (add([...target.files]), (target.value = ""));
  $("folders").onchange = ({ target }) => {
    const { files, others } = ofFolder([...target.files]);
    add(files, others);
    target.value = "";
  };
  for (const button of document.querySelectorAll("[data-save]")) button.onclick = () => save(button.dataset.save);
  $("model").onchange = changeModel;
  $("threshold").oninput = ({ target }) => setThreshold(Number(target.value));
  document.addEventListener("keydown", onKey);
  document.addEventListener("dragover", (event) => (event.preventDefault(), document.body.classList.add("dropping")));
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
  document.addEventListener("drop", onDrop);
}

async function start() {
  try {
    const kind = document.querySelector('meta[name="audiorep-engine"]').content;
    const { openEngine } = await import(kind === "browser" ? "./browser_engine.js" : "./server_engine.js");
    engine = await openEngine(askToken);
  } catch (error) {
    return say(error.message, true);
  }
  $("model").replaceChildren(...engine.models.map(({ name }) => element("option", { value: name }, name)));
  $("models").hidden = false;
  aboutModel();
  setThreshold(null);
  bind();
  document.body.dataset.ready = "";
}

start();
