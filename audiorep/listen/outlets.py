"""Where reports go: lines of text or of a file, written by a thread of their own, which may be slow."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from audiorep.errors import ConfigError
from audiorep.listen.listener import Report

MOST_KEPT = 1000  # lines that wait for a slow reader
CLOSE_SECONDS = 2.0
COLUMNS = ("source", "time", "end_time", "start", "end", "head", "label", "score")


class Outlet:
    """Hands lines to `write` in a thread, so that a reader that is slow or gone never stalls hearing.

    The oldest of more than `MOST_KEPT` waiting lines are lost and counted. A line that cannot be written is lost too.
    """

    def __init__(self, name: str, write: Callable[[str], object], close: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.lost = 0
        self.error: OSError | None = None
        self._write, self._close = write, close
        self._kept: deque[str] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"outlet {name}", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Gives a line; never waits."""
        with self._changed:
            self._kept.append(line)
            if len(self._kept) > MOST_KEPT:
                self._kept.popleft()
                self.lost += 1
            self._changed.notify()

    def close(self) -> None:
        """Waits a moment for the lines that are left; what a stuck reader does not take by then is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)
        self.lost += len(self._kept) + self._thread.is_alive()  # which is stuck with a line
        if not self._thread.is_alive():
            with suppress(OSError):
                self._close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._kept or self._closing)
                if not self._kept:
                    return
                line = self._kept.popleft()
            try:
                self._write(line)
            except OSError as error:
                self.error, self.lost = error, self.lost + 1


def file_outlet(path: Path) -> tuple[Outlet, Callable[[Report], str]]:
    """An outlet to a file that grows by a line for each ended event, `.csv` or `.jsonl`, and what makes its lines.

    Raises:
        ConfigError: another suffix, or the file cannot be written.
    """
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise ConfigError(f"{path} must end in .csv or .jsonl.")
    try:
        file = path.open("a", encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None

    def write(line: str) -> None:
        file.write(line)
        file.flush()

    is_csv = path.suffix.lower() == ".csv"
    outlet = Outlet(str(path), write, file.close)
    if is_csv and file.tell() == 0:
        outlet.put(_row(COLUMNS))
    return outlet, _as_row if is_csv else _as_line


def as_dict(report: Report) -> dict[str, Any]:
    """A report as plain values for JSON."""
    found: dict[str, Any] = {"source": report.source, "time": _iso(report.at(report.seconds)), "seconds": report.seconds}
    if (event := report.event) is not None:
        times = {"time": _iso(report.at(event.start)), "start": event.start, "end": None if event.is_open else event.end}
        return {**found, **times, "head": report.head, "label": event.label, "score": event.score, "decided": event.decided}
    if report.gap is not None:
        return {**found, "gap_seconds": report.gap.seconds, "reason": report.gap.reason}
    return {**found, "ended": report.ended, "error": "" if report.error is None else str(report.error)}


def _as_row(report: Report) -> str:
    event = report.event
    assert event is not None
    times = (_iso(report.at(event.start)) or "", _iso(report.at(event.end)) or "", f"{event.start:.3f}", f"{event.end:.3f}")
    return _row((report.source, *times, report.head, event.label, f"{event.score:.4f}"))


def _as_line(report: Report) -> str:
    return json.dumps(as_dict(report), ensure_ascii=False) + "\n"


def _row(values: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue()


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")
