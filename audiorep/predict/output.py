"""Writes predictions to files that other programs read: CSV, JSON lines, Audacity labels, Raven selection tables."""

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
from audiorep.predict.events import Event
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
    """Writes results one after another; the files are complete after `close`, and absent or unchanged after `discard`."""

    file_per_recording: bool
    """Whether each recording has a file of its own."""
    is_stream: bool
    """Whether results go to a device or a pipe, where a write may wait for the reader."""

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds the complete result of one file."""
        ...

    def close(self) -> None:
        """Completes the files and gives them their final names."""
        ...

    def discard(self) -> None:
        """Removes files that are not complete."""
        ...


class _File:
    """A text file that has a temporary name until it is closed; a device or a pipe is written to at once."""

    file_per_recording = False

    def __init__(self, path: Path) -> None:
        self._path, self._context = path, ExitStack()
        with write_errors(path):
            if path.is_dir():
                raise ConfigError(f"{path} is a folder; this format writes one file for all recordings.")
            self.is_stream = is_stream(path)
            if self.is_stream:
                self._file = self._context.enter_context(open_text_stream(path))
            else:
                self._file = self._context.enter_context(open_text(self._context.enter_context(replacing(path))))

    def write_text(self, text: str) -> None:
        """Writes the text of one result."""
        with write_errors(self._path):
            self._file.write(text)
            if self.is_stream:
                self._file.flush()

    def close(self) -> None:
        with write_errors(self._path):
            self._context.close()

    def discard(self) -> None:
        with suppress(OSError, ConfigError):  # the last buffered text cannot be written, and that error was reported before
            self._context.__exit__(ConfigError, ConfigError(), None)


class CsvWriter(_File):
    """Writes one row for each label, or one with the error of a file; separate channels have a column after the path."""

    def __init__(self, path: Path, separate_channels: bool = False) -> None:
        super().__init__(path)
        self._channels_apart = separate_channels
        self.write_text(_as_rows([(COLUMNS[0], *(["channel"] if separate_channels else []), *COLUMNS[1:])]))

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds the rows of one file."""
        self.write_text(_as_rows(_rows(result, detections, self._channels_apart)))


def csv_text(result: Recording | Failure, detections: Sequence[Detection]) -> str:
    """The table of one file, with its header."""
    return _as_rows([COLUMNS, *_rows(result, detections, separate_channels=False)])


def _rows(result: Recording | Failure, detections: Sequence[Detection], separate_channels: bool) -> list[Sequence[object]]:
    source = (result.path, *([result.channel] if separate_channels else []))
    errors = [(*source, "", "", "", "", "", result.error)] if isinstance(result, Failure) else []
    labels = [(*source, f"{d.start:.3f}", f"{d.end:.3f}", d.head, d.label, f"{d.score:.4f}", "") for d in detections]
    return [*errors, *labels]


def _as_rows(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


class JsonLinesWriter(_File):
    """Writes one JSON object for each file."""

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds the line of one file."""
        self.write_text(json.dumps(as_dict(result, detections), ensure_ascii=False) + "\n")


class LabelFiles:
    """Writes one label file for each recording, in a folder with the same subfolders as the recordings; names are unique."""

    suffix: str
    file_per_recording, is_stream = True, False

    def __init__(self, folder: Path, root: Path) -> None:
        with write_errors(folder):
            if folder.exists() and not folder.is_dir():
                raise ConfigError(f"{folder} is a file; this format writes one file for each recording into a folder.")
        self._folder, self._root = link_target(folder), root
        self._written: set[tuple[int, int]] = set()

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Writes the file of one recording; a failure has no file."""
        if isinstance(result, Failure):
            return
        place = self._folder / _relative_path(result.path, self._root)
        if result.channel is not None:
            place = place.with_name(f"{place.name}.channel{result.channel}")
        with write_errors(place.with_name(place.name + self.suffix)):
            path = next(path for path in _candidate_paths(place, self.suffix) if _identity(path) not in self._written)
            write_text(path, self.text(result, detections))
            if (identity := _identity(path)) is not None:
                self._written.add(identity)

    def text(self, recording: Recording, detections: Sequence[Detection]) -> str:
        """The content of the file of one recording."""
        raise AssertionError("each format defines its own text")

    def close(self) -> None:
        """Does nothing: each file is complete when it is written."""

    def discard(self) -> None:
        """Does nothing: each file is complete when it is written."""


def _relative_path(recording: Path, root: Path) -> Path:
    """The path of a recording relative to the common folder of all recordings, as given, without following links."""
    place = Path(os.path.relpath(_absolute(recording), root))
    return Path(place.name) if os.pardir in place.parts else place


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.normpath(Path(path).absolute()))


def _candidate_paths(place: Path, suffix: str) -> Iterator[Path]:
    """Paths for the file of a recording; the second and later ones are for a path that is taken.

    Two recordings can have one path if the file system ignores case, or through links.
    """
    yield place.with_name(f"{place.name}{suffix}")
    for number in count(2):
        yield place.with_name(f"{place.name}.{number}{suffix}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, which are the same under all its names; None if it does not exist."""
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_dev, about.st_ino


class AudacityFiles(LabelFiles):
    """Writes start, end and label separated by tabs, for Audacity's File > Import > Labels."""

    suffix = ".audacity.txt"

    def text(self, recording: Recording, detections: Sequence[Detection]) -> str:
        """One line for each label."""
        return "".join(map(audacity_line, detections))


def audacity_line(found: Detection | Event) -> str:
    """A line of Audacity's labels."""
    return f"{found.start:.6f}\t{found.end:.6f}\t{visible(found.label)} {found.score:.2f}\n"


class RavenFiles(LabelFiles):
    """Writes selection tables for Raven."""

    suffix = ".raven.txt"

    def text(self, recording: Recording, detections: Sequence[Detection]) -> str:
        """A header and one line for each label, over all frequencies up to half the model's sample rate."""
        top, channel = recording.info.sample_rate / 2, recording.channel or 1
        rows = (raven_row(number, channel, d, top) for number, d in enumerate(detections, 1))
        return "\t".join(RAVEN_COLUMNS) + "\n" + "".join(rows)


def raven_row(number: int, channel: int, found: Detection | Event, top: float) -> str:
    """A row of a selection table, numbered from 1, over all frequencies up to `top` Hz."""
    place = f"Spectrogram 1\t{channel}\t{found.start:.6f}\t{found.end:.6f}\t0.0\t{top:.1f}"
    return f"{number}\t{place}\t{visible(found.label)}\t{found.score:.4f}\n"


FORMATS: dict[str, Callable[[Path, Path, bool], Writer]] = {
    "csv": lambda path, root, separate_channels: CsvWriter(path, separate_channels),
    "jsonl": lambda path, root, separate_channels: JsonLinesWriter(path),
    "audacity": lambda path, root, separate_channels: AudacityFiles(path, root),
    "raven": lambda path, root, separate_channels: RavenFiles(path, root),
}
"""{format: function from (output path, common folder of the recordings, whether channels are separate) to a writer}."""


class Outputs:
    """The writers of all outputs, as a context manager that completes their files at its end and after Ctrl-C.

    After any other exception, files are as they were before: a table that is cut off would look like a complete one.

    Args:
        paths: output files, or folders for `audacity` and `raven`.
        format: a key of `FORMATS`, for paths whose suffix is not one; or None.
        recordings: all files that will be recognized; none of them is overwritten.
        separate_channels: whether each channel is a recording of its own.

    Raises:
        ConfigError: an output cannot be written or is a recording, or its format is not known.
    """

    def __init__(
        self, paths: Sequence[Path], format: str | None, recordings: Sequence[Path], separate_channels: bool = False
    ) -> None:
        parents = [str(_absolute(recording).parent) for recording in recordings]
        root = Path(os.path.commonpath(parents)) if parents else Path()
        self._writers: list[Writer] = []
        if format and not paths:
            raise ConfigError(f"--format {format} needs an output: add --output PATH.")
        if len({os.path.realpath(path) for path in paths}) < len(paths):
            raise ConfigError(f"{', '.join(map(str, paths))}: the same output is given twice.")
        _refuse_recordings(paths, recordings)
        try:
            for path in paths:
                self._writers.append(_writer(path, format, root, separate_channels))
        except BaseException:  # nothing was written yet: existing files stay as they are
            for writer in self._writers:
                writer.discard()
            raise
        may_wait = any(writer.is_stream for writer in self._writers)
        self._delay_signals = nullcontext if may_wait else delay_signals  # Ctrl-C must end a wait for a reader

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        complete = kind is None or issubclass(kind, KeyboardInterrupt)
        with self._delay_signals(), ExitStack() as all_of_them:
            for writer in self._writers:
                all_of_them.callback(writer.close if complete else writer.discard)

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> list[WriteError]:
        """Adds the result of one file to every output; returns the errors of label files of this recording.

        Raises:
            WriteError: an output for all recordings cannot be written, or the disk is full or read-only.
        """
        errors = []
        with self._delay_signals():
            for writer in self._writers:
                try:
                    writer.write(result, detections)
                except WriteError as error:
                    if error.disk_unwritable or not writer.file_per_recording:
                        raise
                    errors.append(error)
        return errors


def _refuse_recordings(paths: Sequence[Path], recordings: Sequence[Path]) -> None:
    """Raises an error if an output is one of the recordings."""
    outputs: dict[object, Path] = {}
    for path in paths:
        with write_errors(path):
            if path.is_file():
                outputs[_identity(path)] = path
    for recording in recordings if outputs else ():
        try:
            output = outputs.get(_identity(Path(recording)))
        except OSError:  # the code that reads it reports the error
            continue
        if output is not None:
            raise ConfigError(f"{output} is one of the recordings, which are never overwritten; give another output.")


def _writer(path: Path, format: str | None, root: Path, separate_channels: bool) -> Writer:
    suffix = path.suffix.removeprefix(".").lower()
    name = suffix if suffix in FORMATS else format or suffix
    if name not in FORMATS:
        problem = f"the format {name!r} is not known" if name else "no format is given"
        raise ConfigError(f"{path}: {problem}; --format takes {', '.join(FORMATS)}.")
    return FORMATS[name](path, root, separate_channels)


def as_dict(result: Recording | Failure, detections: Sequence[Detection]) -> dict[str, object]:
    """The result of one file as values that JSON can hold."""
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
