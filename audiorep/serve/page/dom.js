// Elements of the page. Labels and names of files are other people's words: they are set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** A new element with properties and children; a class is `className`. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** The hue of a label, the same everywhere, and far from those of its neighbors. */
export const hueOf = (model, { head, label }) => (190 + 137.5 * model.labels[head].indexOf(label)) % 360;

/** The color of a label. */
export function colorOf(model, found) {
  const lane = getComputedStyle(document.documentElement).getPropertyValue("--lane");
  return `oklch(${lane} ${hueOf(model, found)})`;
}
