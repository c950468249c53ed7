"""Predictions as files that other tools read: CSV, JSON lines, Audacity labels, Raven selection tables."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Protocol

from audiorep.errors import ConfigError
from audiorep.escape import visible
from audiorep.files import WriteError, is_stream, link_target, open_text, open_text_stream, replacing, write_errors, write_text
from audiorep.interrupts import delay_signals
from audiorep.predict.results import Detection, Failure, Recording

COLUMNS = ("path", "start", "end", "head", "label", "score", "error")
RAVEN_COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Label",
    "Score",
)


class Writer(Protocol):
    """Takes results as they come; leaves complete files behind, or on request none."""

    apart: bool
    """Each recording has a file of its own."""
    streams: bool
    """What is written is seen at once by whoever reads, and may have to wait for that."""

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds one file's result, as a whole."""
        ...

    def close(self) -> None:
        """Gives the files their names."""
        ...

    def discard(self) -> None:
        """Leaves nothing behind that is not complete."""
        ...


class _File:
    """A text file under a temporary name until it is closed; a device or pipe is written to as results come."""

    apart = False

    def __init__(self, path: Path) -> None:
        self._path, self._given = path, ExitStack()
        with write_errors(path):
            if path.is_dir():
                raise ConfigError(f"{path} is a folder; this format writes one file for all recordings.")
            self.streams = is_stream(path)
            if self.streams:
                self._file = self._given.enter_context(open_text_stream(path))
            else:
                self._file = self._given.enter_context(open_text(self._given.enter_context(replacing(path))))

    def put(self, text: str) -> None:
        """Writes what belongs together."""
        with write_errors(self._path):
            self._file.write(text)
            if self.streams:
                self._file.flush()

    def close(self) -> None:
        with write_errors(self._path):
            self._given.close()

    def discard(self) -> None:
        with suppress(OSError, ConfigError):  # what is left to write has no place to go, which was told already
            self._given.__exit__(ConfigError, ConfigError(), None)


class CsvWriter(_File):
    """A row for each label; a file that failed has a row with its error. Channels heard apart have a column after the path."""

    def __init__(self, path: Path, channels_apart: bool = False) -> None:
        super().__init__(path)
        self._channels_apart = channels_apart
        self.put(_as_rows([(COLUMNS[0], *(["channel"] if channels_apart else []), *COLUMNS[1:])]))

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds one file's rows."""
        source = (result.path, *([result.channel] if self._channels_apart else []))
        failed = [(*source, "", "", "", "", "", result.error)] if isinstance(result, Failure) else []
        found = [(*source, f"{d.start:.3f}", f"{d.end:.3f}", d.head, d.label, f"{d.score:.4f}", "") for d in detections]
        self.put(_as_rows([*failed, *found]))


def _as_rows(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


class JsonLinesWriter(_File):
    """An object for each file."""

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds one file's line."""
        self.put(json.dumps(as_dict(result, detections), ensure_ascii=False) + "\n")


class LabelFiles:
    """A label file for each recording, in a folder that mirrors the recordings' own; no two have one name."""

    suffix: str
    apart, streams = True, False

    def __init__(self, folder: Path, root: Path) -> None:
        with write_errors(folder):
            if folder.exists() and not folder.is_dir():
                raise ConfigError(f"{folder} is a file; this format writes one file a recording into a folder.")
        self._folder, self._root = link_target(folder), root
        self._written: set[tuple[int, int]] = set()

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Writes one recording's file; a failure has none."""
        if isinstance(result, Failure):
            return
        place = self._folder / _below(result.path, self._root)
        if result.channel is not None:
            place = place.with_name(f"{place.name}.channel{result.channel}")
        with write_errors(place.with_name(place.name + self.suffix)):
            path = next(path for path in _numbered(place, self.suffix) if _identity(path) not in self._written)
            write_text(path, self.text(result, detections))
            if (made := _identity(path)) is not None:
                self._written.add(made)

    def text(self, recording: Recording, detections: Sequence[Detection]) -> str:
        """The file's content."""
        raise AssertionError("each format has its own")

    def close(self) -> None:
        """Nothing is left to do."""

    def discard(self) -> None:
        """Nothing is left to do."""


def _below(recording: Path, root: Path) -> Path:
    """Where a recording lies below the recordings' common folder, by the names it was given and not by where links lead."""
    place = Path(os.path.relpath(_spelt_out(recording), root))
    return Path(place.name) if os.pardir in place.parts else place


def _spelt_out(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.normpath(Path(path).absolute()))


def _numbered(place: Path, suffix: str) -> Iterator[Path]:
    """Names for a recording's file, for where its own is taken: of a file system without capitals, or by way of links."""
    yield place.with_name(f"{place.name}{suffix}")
    for number in count(2):
        yield place.with_name(f"{place.name}.{number}{suffix}")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from others, however it is named; None where there is none."""
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_dev, about.st_ino


class AudacityFiles(LabelFiles):
    """Tab-separated start, end and label, for Audacity's File > Import > Labels."""

    suffix = ".audacity.txt"

    def text(self, recording: Recording, detections: Sequence[Detection]) -> str:
        """A line for each label."""
        return "".join(f"{d.start:.6f}\t{d.end:.6f}\t{visible(d.label)} {d.score:.2f}\n" for d in detections)


class RavenFiles(LabelFiles):
    """Selection tables for Raven."""

    suffix = ".raven.txt"

    def text(self, recording: Recording, detections: Sequence[Detection]) -> str:
        """A header and a line for each label, over all frequencies the model hears."""
        lines = ["\t".join(RAVEN_COLUMNS)]
        top, channel = recording.info.sample_rate / 2, recording.channel or 1
        for number, d in enumerate(detections, 1):
            place = f"Spectrogram 1\t{channel}\t{d.start:.6f}\t{d.end:.6f}\t0.0\t{top:.1f}"
            lines.append(f"{number}\t{place}\t{visible(d.label)}\t{d.score:.4f}")
        return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Path, Path, bool], Writer]] = {
    "csv": lambda path, root, channels_apart: CsvWriter(path, channels_apart),
    "jsonl": lambda path, root, channels_apart: JsonLinesWriter(path),
    "audacity": lambda path, root, channels_apart: AudacityFiles(path, root),
    "raven": lambda path, root, channels_apart: RavenFiles(path, root),
}
"""What to write where: (output path, common folder of the recordings, whether channels are heard apart) to a writer."""


class Outputs:
    """Several writers as a context, which completes their files at its end and when the user stops it.

    Left by any other exception it leaves files as they were before: a table that is cut off looks like one that is not.
    """

    def __init__(
        self, paths: Sequence[Path], format: str | None, recordings: Sequence[Path], channels_apart: bool = False
    ) -> None:
        parents = [str(_spelt_out(recording).parent) for recording in recordings]
        root = Path(os.path.commonpath(parents)) if parents else Path()
        self._writers: list[Writer] = []
        if format and not paths:
            raise ConfigError(f"--format {format} says how to write; name the output too: --output PATH.")
        if len({os.path.realpath(path) for path in paths}) < len(paths):
            raise ConfigError(f"{', '.join(map(str, paths))}: the same output is named twice.")
        _refuse_recordings(paths, recordings)
        try:
            for path in paths:
                self._writers.append(_writer(path, format, root, channels_apart))
        except BaseException:  # nothing was written yet: older files of the other names stay as they are
            for writer in self._writers:
                writer.discard()
            raise
        waits = any(writer.streams for writer in self._writers)
        self._undisturbed = nullcontext if waits else delay_signals  # who waits for a reader must hear Ctrl-C

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        complete = kind is None or issubclass(kind, KeyboardInterrupt)
        with self._undisturbed(), ExitStack() as all_of_them:
            for writer in self._writers:
                all_of_them.callback(writer.close if complete else writer.discard)

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> list[WriteError]:
        """Adds one file's result to every output; gives why the recording's own label files cannot be written.

        Raises:
            WriteError: an output of all recordings cannot be written, or there is no room for anything.
        """
        lost = []
        with self._undisturbed():
            for writer in self._writers:
                try:
                    writer.write(result, detections)
                except WriteError as error:
                    if error.disk_unwritable or not writer.apart:
                        raise
                    lost.append(error)
        return lost


def _refuse_recordings(paths: Sequence[Path], recordings: Sequence[Path]) -> None:
    """Refuses to write over what is to be heard."""
    outputs: dict[object, Path] = {}
    for path in paths:
        with write_errors(path):
            if path.is_file():
                outputs[_identity(path)] = path
    for recording in recordings if outputs else ():
        try:
            output = outputs.get(_identity(Path(recording)))
        except OSError:  # its reader reports it
            continue
        if output is not None:
            raise ConfigError(f"{output} is one of the recordings, which are never overwritten; name another output.")


def _writer(path: Path, format: str | None, root: Path, channels_apart: bool) -> Writer:
    suffix = path.suffix.removeprefix(".").lower()
    name = suffix if suffix in FORMATS else format or suffix
    if name not in FORMATS:
        problem = f"the format {name!r} is not known" if name else "no format is given"
        raise ConfigError(f"{path}: {problem}; --format takes {', '.join(FORMATS)}.")
    return FORMATS[name](path, root, channels_apart)


def as_dict(result: Recording | Failure, detections: Sequence[Detection]) -> dict[str, object]:
    """One file's result as plain values."""
    source: dict[str, object] = {"path": str(result.path)}
    if result.channel is not None:
        source["channel"] = result.channel
    if isinstance(result, Failure):
        return {**source, "error": str(result.error)}
    labels = [
        {"start": round(d.start, 3), "end": round(d.end, 3), "head": d.head, "label": d.label, "score": round(d.score, 4)}
        for d in detections
    ]
    notes = {"notes": list(result.notes)} if result.notes else {}
    return {**source, "seconds": round(result.seconds, 3), "complete": result.complete, "labels": labels, **notes}
