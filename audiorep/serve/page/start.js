// The one script of a site that browsers run from `file:`, to say why the others do not run. It is no module, as those are.

if (location.protocol === "file:") {
  document.addEventListener("DOMContentLoaded", () => {
    const lines = [
      "Browsers run this page from a web server only, not from a file: they load no models from there.",
      "To open it here, type in a terminal in the folder of this file:",
      "python -m http.server",
      "and open http://localhost:8000 in the browser.",
    ];
    const paragraphs = lines.map((text, k) => {
      const paragraph = document.createElement(k === 2 ? "pre" : "p");
      paragraph.textContent = text;
      return paragraph;
    });
    const hint = document.createElement("main");
    hint.style.padding = "1rem";
    hint.append(...paragraphs);
    document.body.replaceChildren(hint);
  });
}
