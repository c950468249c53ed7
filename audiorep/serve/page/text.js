// Times, counts and the files that other programs read, as text.

/** Minutes and seconds, and hours where there are any: 1:02.5 */
export function clock(seconds, digits = 0) {
  const parts = 10 ** digits;
  const whole = Math.round(seconds * parts);
  const [hours, minutes] = [Math.floor(whole / parts / 3600), Math.floor(whole / parts / 60) % 60];
  const rest = ((whole / parts) % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** A number with its noun: 1 event, 2 events. */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

const COLUMNS = ["path", "start", "end", "head", "label", "score", "error"];

/** The table that `audiorep predict -o out.csv` writes. @param results [{path, seconds, events, notes, error}] */
export function csv(results) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const rows = results.flatMap(({ path, events, error }) =>
    error
      ? [[path, "", "", "", "", "", error]]
      : events.map((e) => [path, e.start.toFixed(3), e.end.toFixed(3), e.head, e.label, e.score.toFixed(4), ""]),
  );
  return [COLUMNS, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/** The objects that `audiorep predict -o out.jsonl` writes, one a line. */
export function jsonLines(results) {
  const round = (value, digits) => Number(value.toFixed(digits));
  const line = ({ path, seconds, events, notes, error }) => {
    if (error) return { path, error };
    const labels = events.map((e) => ({
      start: round(e.start, 3), end: round(e.end, 3), head: e.head, label: e.label, score: round(e.score, 4),
    }));
    return { path, seconds: round(seconds, 3), complete: true, labels, ...(notes.length ? { notes } : {}) };
  };
  return results.map((result) => `${JSON.stringify(line(result))}\n`).join("");
}

/** The labels that Audacity imports, as `audiorep predict --format audacity` writes them. */
export function audacity(events) {
  return events.map((e) => `${e.start.toFixed(6)}\t${e.end.toFixed(6)}\t${visible(e.label)} ${e.score.toFixed(2)}\n`).join("");
}

/** Text on one line, with what controls a line or the direction of writing escaped. */
function visible(text) {
  return text.replace(/[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (character) =>
    ({ "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f" })[character] ??
    `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
