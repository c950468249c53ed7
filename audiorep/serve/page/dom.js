// Elements of the page. Labels and names of files are other people's words: they are set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** A new element with properties and children. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
