"""Lines of text about reports: for people, and for files that grow: CSV, JSON lines, Audacity and Raven labels."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import IO, Generic, TypeVar

from audiorep.errors import ConfigError
from audiorep.files import is_stream, open_text_stream
from audiorep.listen.reports import Report, as_dict, iso
from audiorep.predict.events import Event
from audiorep.predict.output import RAVEN_COLUMNS, audacity_line, raven_row

T = TypeVar("T", contravariant=True)
COLUMNS = ("source", "time", "end_time", "start", "end", "head", "label", "score")
SUFFIXES = (".csv", ".jsonl", ".audacity.txt", ".raven.txt")


class TextSink(Generic[T]):
    """Writes a line for each report (or other thing) that it wants, at once.

    Args:
        name: for the user.
        open: opens what is written to, when the first line comes: a pipe may wait for its reader.
        line_of: the line of a thing.
        wants: whether a thing has a line.
        header: the line before all others.
    """

    def __init__(
        self,
        name: str,
        open: Callable[[], IO[str]],
        line_of: Callable[[T], str],
        wants: Callable[[T], bool] = lambda thing: True,
        header: str = "",
    ) -> None:
        self.name, self.wants = name, wants
        self._open, self._line_of, self._header = open, line_of, header
        self._file: IO[str] | None = None

    def write(self, thing: T, closing: threading.Event) -> None:
        """Adds its line.

        Raises:
            OSError: it cannot be written.
        """
        line = self._line_of(thing)
        if self._file is None:
            self._file = self._open()
            line = self._header + line
        self._file.write(line)
        self._file.flush()

    def missed(self, thing: T) -> None:
        """Nothing follows from a lost line."""

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def stream_sink(
    number: int, name: str, line_of: Callable[[T], str], wants: Callable[[T], bool] = lambda thing: True
) -> TextSink[T]:
    """Standard output (1) or the error stream (2), by a descriptor of its own.

    The interpreter could not end while a thread waits in one of its own streams.
    """
    return TextSink(name, lambda: os.fdopen(os.dup(number), "w", encoding="utf-8", errors="backslashreplace"), line_of, wants)


def json_line(report: Report) -> str:
    """A JSON object."""
    return json.dumps(as_dict(report), ensure_ascii=False) + "\n"


def is_ended_event(report: Report) -> bool:
    """Whether it tells an event with its end."""
    return report.event is not None and not report.event.is_open


def file_sink(path: Path, sample_rate: int, sources: int = 1) -> TextSink[Report]:
    """A file that grows by a line for each ended event, in the format that its suffix names.

    A table or a file of JSON lines goes on where it was. Labels for Audacity and Raven have the times of one recording.

    Args:
        path: the file, with one of `SUFFIXES`.
        sample_rate: Hz of the model, for Raven's boxes.
        sources: how many sources there are.

    Raises:
        ConfigError: another suffix, the file cannot be written or has other columns, or it can only hold one recording.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise ConfigError(f"{path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    line_of, header = _format(name, sample_rate)
    if is_stream(path):
        return TextSink(str(path), lambda: open_text_stream(path), line_of, is_ended_event, header)
    if name.endswith(".txt"):
        _refuse_label_file(path, sources)
    file = _file(path, header)
    return TextSink(str(path), lambda: file, line_of, is_ended_event)


def _file(path: Path, header: str) -> IO[str]:
    """The file opened where it ends, with its header."""
    try:
        first = ""
        if path.exists():
            with path.open(encoding="utf-8", newline="") as existing:
                first = existing.readline(10_000)
        if first and header and first.strip() != header.strip():
            raise ConfigError(f"{path} has other columns than {header.strip()!r}. Give another file.")
        file = path.open("a", encoding="utf-8", newline="")
        if not first:
            file.write(header)
            file.flush()
        return file
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path} cannot be written: {getattr(error, 'strerror', None) or 'it is no text'}.") from None


def _refuse_label_file(path: Path, sources: int) -> None:
    if sources > 1:
        raise ConfigError(f"{path} can hold the labels of one source; {sources} are heard. Give a .csv or .jsonl.")
    if path.exists():
        raise ConfigError(f"{path} exists, and its times count from another beginning. Give another file.")


def _format(name: str, sample_rate: int) -> tuple[Callable[[Report], str], str]:
    """What makes the lines of a file of this name, of ended events, and its first line."""
    if name.endswith(".csv"):
        return _row, _csv(COLUMNS)
    if name.endswith(".jsonl"):
        return json_line, ""
    if name.endswith(".audacity.txt"):
        return lambda report: audacity_line(_event(report)), ""
    numbers = count(1)
    header = "\t".join(RAVEN_COLUMNS) + "\n"
    return lambda report: raven_row(next(numbers), 1, _event(report), sample_rate / 2), header


def _row(report: Report) -> str:
    event = _event(report)
    times = (iso(report.at(event.start)) or "", iso(report.at(event.end)) or "", f"{event.start:.3f}", f"{event.end:.3f}")
    return _csv((report.source, *times, report.head, event.label, f"{event.score:.4f}"))


def _event(report: Report) -> Event:
    assert report.event is not None
    return report.event


def _csv(values: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue()
