// The page: its list of sounds, how they are heard, and the microphone.

import { $, element } from "./dom.js";
import { dropped, isRecording, lineOf, ofFolder, place } from "./files.js";
import { count } from "./text.js";

const AT_ONCE = 2; // files that are recognized at the same time
const KEPT = 600; // seconds of earlier recordings that can still be heard when a new one begins
const items = []; // {name, state, file, model, heard, events, answer, progress, error, sound, note, line, stopper}
let engine, stage, session;

const chosenModel = () => engine.models.find(({ name }) => name === $("model").value);
const isOver = ({ state }) => state === "done" || state === "failed";
const warn = (text) => ($("message").textContent = text);

/** The module of the sound that is shown, which an empty page does not need. */
async function loadStage() {
  if (stage) return;
  const loaded = await import("./stage.js");
  if (stage) return;
  stage = loaded;
  stage.setThreshold(null, chosenModel());
}

// The list

async function add({ files, others }) {
  await loadStage();
  const made = files.map((file) => newItem({ name: place(file), file, state: "waiting" }));
  warn(others ? `Passed over, as not in a known format of sound: ${count(others, "file")}.` : files.length ? "" : "There is no sound.");
  if (made.length && !session) stage.open(made[0]);
  work();
}

function newItem(values) {
  const item = { model: chosenModel(), progress: 0, ...values };
  item.line = lineOf(item, () => open(item), () => remove(item));
  items.push(item);
  $("files").append(item.line);
  return item;
}

function open(item) {
  stage.open(item);
  drawList();
}

async function remove(item) {
  if (item === session?.item) await stopListening();
  item.stopper?.abort();
  const at = items.indexOf(item);
  items.splice(at, 1);
  item.line.remove();
  const next = items[Math.min(at, items.length - 1)];
  if (item === stage.current) stage.open(next);
  (next?.line.firstChild ?? $("choose")).focus();
  work();
}

function drawList() {
  for (const item of items) item.line.draw(item === stage.current);
  const over = items.filter(isOver).length;
  $("done").textContent = over < items.length ? `${over} of ${items.length} done` : count(over, "sound");
  $("done").parentNode.hidden = items.length < 2;
  document.body.classList.toggle("empty", !items.length);
  $("scope").textContent = over > 1 ? `Save: CSV and JSON hold ${over} sounds, labels only this one.` : "Save the events";
}

/** Recognizes the files that wait, a few at once. */
function work() {
  const free = AT_ONCE - items.filter(({ state }) => state === "working").length;
  items.filter(({ state }) => state === "waiting").slice(0, Math.max(0, free)).forEach(recognize);
  drawList();
}

async function recognize(item) {
  const [stopper, file] = [new AbortController(), item.file ?? new File([item.sound.wav()], "microphone.wav")];
  Object.assign(item, { state: "working", progress: 0, stopper });
  const onProgress = (progress) => {
    item.progress = progress;
    item.line.draw(item === stage.current);
  };
  let found;
  try {
    const heard = await engine.classify(file, { model: item.model.name, onProgress, signal: stopper.signal });
    const late = item.file ? 0 : item.sound.first;
    const windows = heard.windows.map((window) => ({ ...window, start: window.start + late, end: window.end + late }));
    found = stage.finished(item, { ...heard, windows });
  } catch ({ message }) {
    found = { state: "failed", error: message };
  }
  if (stopper.signal.aborted) return;
  Object.assign(item, found);
  if (item === stage.current) stage.show();
  $("said").textContent = `${item.name}: ${item.error || item.answer}`;
  work();
}

// The microphone

async function startListening() {
  $("listen").disabled = true;
  warn("");
  const heard = { windows: [], seconds: 0, notes: [] };
  const onWindow = (window) => {
    heard.windows.push(window);
    if (session?.item === stage.current) stage.show();
  };
  const onLost = () => warn("Some sound was left out: the network or this device is too slow.");
  const onError = (sentence) => {
    warn(sentence);
    if (session) stopListening();
  };
  try {
    await loadStage();
    const { listen } = await import("./microphone.js");
    session = await listen(engine, $("model").value, { onSound, onWindow, onLost, onError });
    const name = `Microphone, ${new Date().toLocaleTimeString()}`;
    session.item = newItem({ name, sound: session.sound, heard, state: "listening" });
    forgetOldest();
    stage.findings.sort("start", -1);
    open(session.item);
  } catch ({ message }) {
    warn(message);
  }
  showListening();
}

/** Bounds what is kept of earlier recordings; their events stay. */
function forgetOldest() {
  let seconds = 0;
  for (const { sound } of items.filter(isRecording).reverse()) {
    seconds += sound.seconds - sound.first;
    if (seconds > KEPT) sound.first = sound.pieces.fill(null).length;
  }
}

/** Draws a piece of live sound, and its level. */
function onSound(samples) {
  if (!session?.item) return;
  const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1e-3);
  $("level").ariaValueNow = Math.round(20 * Math.log10(peak));
  $("level").firstChild.style.transform = `scaleX(${Math.min(1, 1 + Math.log10(peak) / 3)})`;
  const { item } = session;
  while (item.heard.windows[0]?.end < item.sound.first) item.heard.windows.shift();
  if (item === stage.current) stage.grow();
}

async function stopListening() {
  const { item, stop } = session;
  session = null;
  showListening();
  await stop();
  Object.assign(item, stage.finished(item, { ...item.heard, seconds: item.sound.seconds }));
  stage.findings.sort("start", 1);
  if (item === stage.current) stage.open(item);
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

async function onDrop(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  try {
    await add(await dropped(event.dataTransfer));
  } catch ({ message }) {
    warn(`The folder cannot be read: ${message}`);
  }
}

function changeModel() {
  for (const item of items.filter((item) => item.file || isRecording(item))) {
    item.stopper?.abort();
    Object.assign(item, { model: chosenModel(), state: "waiting", heard: undefined, error: undefined });
  }
  showModel();
  stage?.setThreshold(null, chosenModel());
  if (stage) work();
}

function showModel() {
  const { name, labels, window_seconds: seconds } = chosenModel();
  const where = engine.kind === "server" ? "Sounds are sent to this server." : "Sounds stay in this browser.";
  $("about").textContent = `${name}: ${count(Object.values(labels).flat().length, "label")}, ${seconds.toFixed(2)} s a window. ${where}`;
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
    choose: () => $("picker").click(), folder: () => $("folders").click(), own: () => stage.setThreshold(null, chosenModel()),
    listen: () => (session ? stopListening() : startListening()), clear: () => items.filter(isOver).forEach(remove),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).onclick = action;
  for (const button of document.querySelectorAll("[data-save]")) button.onclick = () => stage.save(button.dataset.save, items);
  for (const id of ["picker", "folders"]) {
    $(id).onchange = ({ target }) => {
      add(id === "folders" ? ofFolder([...target.files]) : { files: [...target.files] });
      target.value = ""; // the same file may be chosen again
    };
  }
  $("model").onchange = changeModel;
  $("threshold").oninput = ({ target }) => stage.setThreshold(Number(target.value), chosenModel());
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
