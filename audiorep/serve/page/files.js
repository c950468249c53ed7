// Files that were dropped or chosen, and their list.

import { element } from "./dom.js";

const SUFFIXES = /\.(wav|flac|ogg|oga|opus|mp3|aiff?|au|caf|w64|rf64)$/i; // in a folder; a file by its own name is always tried

/** The files that were dropped, folders searched: {files, others: number that were passed over}. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean); // before the first wait
  if (!entries.length) return { files: [...transfer.files], others: 0 };
  const [named, found] = [[], []];
  for (const entry of entries) await collect(entry, entry.isDirectory ? found : named);
  const { files, others } = ofFolder(found);
  return { files: [...named, ...files], others };
}

/** The name of a file with its folders, where it is from one. */
export const place = (file) => file.place || file.webkitRelativePath || file.name;

async function collect(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push(Object.assign(file, { place: entry.fullPath.slice(1) }));
  }
  if (!entry.isDirectory || entry.name.startsWith(".")) return;
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const child of some) await collect(child, found);
  }
}

/** The sounds in a folder, in the order of their names. */
export function ofFolder(all) {
  const visible = all.filter((file) => !file.name.startsWith("."));
  const files = visible.filter((file) => SUFFIXES.test(file.name));
  files.sort((a, b) => place(a).localeCompare(place(b), undefined, { numeric: true }));
  return { files, others: visible.length - files.length };
}

/** The line of a sound in the list, with `draw` that shows its state. */
export function lineOf(item, onOpen, onRemove) {
  const [about, bar] = [element("span"), element("progress", { max: 1 })];
  const open = element("button", { className: "file", onclick: onOpen }, item.name, about);
  const remove = element("button", { className: "remove", textContent: "×", onclick: onRemove });
  remove.ariaLabel = `Remove ${item.name}`;
  bar.ariaLabel = `Progress of ${item.name}`;
  const line = element("li", {}, open, remove);
  line.draw = (isCurrent, text) => {
    open.ariaCurrent = isCurrent ? "true" : null;
    about.textContent = text;
    about.className = item.state === "failed" ? "bad" : "";
    if (item.state === "working") open.append(bar);
    else bar.remove();
    if (item.progress < 1) bar.value = item.progress;
    else bar.removeAttribute("value"); // sent: how long the model takes is not known
  };
  return line;
}
