// Times, numbers and the files that other programs read, as text.

/** Minutes and seconds, and hours where there are any: 1:02.5 */
export function clock(seconds, digits = 0) {
  const whole = Math.round(seconds * 10 ** digits) / 10 ** digits;
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** A number with its noun: 1 event, 2 events. */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** The table of `audiorep predict -o out.csv`. @param {object[]} results [{path, seconds, events, notes, error}] */
export function csv(results) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const rows = results.flatMap(({ path, events, error }) => [
    ...(error ? [[path, "", "", "", "", "", error]] : []),
    ...events.map((e) => [path, e.start.toFixed(3), e.end.toFixed(3), e.head, e.label, e.score.toFixed(4), ""]),
  ]);
  const columns = ["path", "start", "end", "head", "label", "score", "error"];
  return [columns, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/** The objects of `audiorep predict -o out.jsonl`, one a line. */
export function jsonLines(results) {
  const round = (value, digits) => Number(value.toFixed(digits));
  const asObject = ({ path, seconds, events, notes, error }) => {
    if (error) return { path, error };
    const labels = events.map(({ start, end, head, label, score }) => {
      return { start: round(start, 3), end: round(end, 3), head, label, score: round(score, 4) };
    });
    return { path, seconds: round(seconds, 3), complete: true, labels, ...(notes.length ? { notes } : {}) };
  };
  return results.map((result) => `${JSON.stringify(asObject(result))}\n`).join("");
}

/** The labels of `audiorep predict --format audacity`. */
export function audacity(events) {
  return events.map((e) => `${e.start.toFixed(6)}\t${e.end.toFixed(6)}\t${visible(e.label)} ${e.score.toFixed(2)}\n`).join("");
}

/** Text on one line: what controls a line or the direction of writing is escaped. */
function visible(text) {
  return text.replace(/[\p{Cc}\p{Cs}\u2028-\u202e\u2066-\u2069]/gu, (character) => {
    const escaped = JSON.stringify(character).slice(1, -1);
    return escaped === character ? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}` : escaped;
  });
}
