// Files that were dropped or chosen, and their lines in the list.

import { element } from "./dom.js";

const SUFFIXES = /\.(wav|flac|og[ga]|opus|mp3|aiff?|au|caf|w64|rf64)$/i; // in a folder; a file by its own name is always tried

/** Whether an item of the list is being heard from the microphone. */
export const isLive = ({ state }) => state === "listening";

/** Whether it is from the microphone, and can still be heard. */
export const isRecording = ({ file, sound }) => !file && sound.first < sound.pieces.length;

/** The name of a file, with its folders where it is from one. */
export const place = (file) => file.place || file.webkitRelativePath || file.name;

/** The files that were dropped, folders searched: {files, others: how many were passed over}. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean); // before the first wait
  const [named, found] = [[], []];
  for (const entry of entries) await collect(entry, entry.isDirectory ? found : named);
  if (!entries.length) named.push(...transfer.files);
  const { files, others } = ofFolder(found);
  return { files: [...named, ...files], others };
}

async function collect(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push(Object.assign(file, { place: entry.fullPath.slice(1) }));
    return;
  }
  const reader = entry.createReader();
  for (let some; !some || some.length; ) {
    some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    for (const child of some) await collect(child, found);
  }
}

/** The sounds in a folder, in the order of their names. */
export function ofFolder(all) {
  const visible = all.filter((file) => !/(^|\/)\./.test(place(file)));
  const files = visible.filter((file) => SUFFIXES.test(file.name));
  files.sort((a, b) => place(a).localeCompare(place(b), undefined, { numeric: true }));
  return { files, others: visible.length - files.length };
}

/** The line of a sound, with `draw` that shows its state. */
export function lineOf(item, onOpen, onRemove) {
  const [about, bar] = [element("span"), element("progress", { max: 1, ariaLabel: "Progress" })];
  const open = element("button", { className: "file", onclick: onOpen }, item.name, about, bar);
  const remove = element("button", { className: "remove", ariaLabel: `Remove ${item.name}`, onclick: onRemove }, "×");
  const line = element("li", {}, open, remove);
  line.draw = (isCurrent) => {
    open.ariaCurrent = isCurrent ? "true" : null;
    about.textContent = aboutItem(item);
    about.className = item.error ? "bad" : "";
    bar.hidden = item.state !== "working";
    if (item.progress < 1) bar.value = item.progress;
    else bar.removeAttribute("value"); // all is sent: how long the model takes is not known
  };
  return line;
}

function aboutItem({ state, answer, error }) {
  return { done: answer, failed: error, working: "in work" }[state] ?? state;
}
