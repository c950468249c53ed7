"""Predictions as files that other tools read: CSV, JSON lines, Audacity labels, Raven selection tables."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from audiorep.errors import ConfigError
from audiorep.escape import visible
from audiorep.files import open_text, replacing
from audiorep.predict import Detection, Failure, Recording

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
    """Takes results as they come; leaves complete files behind, also when it is stopped early."""

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds one file's result."""
        ...

    def close(self) -> None:
        """Gives the files their names."""
        ...

    def discard(self) -> None:
        """Leaves nothing behind."""
        ...


class _File:
    """A text file under a temporary name until it is closed."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; this format writes one file for all recordings.")
        self._given = ExitStack()
        partial = self._given.enter_context(replacing(path))
        self.file: IO[str] = self._given.enter_context(open_text(partial))

    def close(self) -> None:
        self._given.close()

    def discard(self) -> None:
        self._given.__exit__(ConfigError, ConfigError(), None)


class CsvWriter(_File):
    """A row for each label; a file that failed has a row with its error."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._rows = csv.writer(self.file)
        self._rows.writerow(COLUMNS)

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds one file's rows."""
        if isinstance(result, Failure):
            self._rows.writerow([result.path, "", "", "", "", "", result.error])
        for d in detections:
            self._rows.writerow([result.path, f"{d.start:.3f}", f"{d.end:.3f}", d.head, d.label, f"{d.score:.4f}", ""])


class JsonLinesWriter(_File):
    """An object for each file."""

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds one file's line."""
        self.file.write(json.dumps(as_dict(result, detections), ensure_ascii=False) + "\n")


class LabelFiles:
    """A label file for each recording, in a folder that mirrors the recordings' own."""

    suffix: str

    def __init__(self, folder: Path, root: Path) -> None:
        if folder.is_file():
            raise ConfigError(f"{folder} is a file; this format writes one file a recording into a folder.")
        self._folder, self._root = folder, root

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Writes one recording's file; a failure has none."""
        if isinstance(result, Failure):
            return
        path = Path(os.path.relpath(Path(result.path).resolve(), self._root))
        output = _File(self._folder / path.with_name(f"{path.name}{self.suffix}"))
        output.file.write(self.text(result, detections))
        output.close()

    def text(self, recording: Recording, detections: Sequence[Detection]) -> str:
        """The file's content."""
        raise AssertionError("each format has its own")

    def close(self) -> None:
        """Nothing is left to do."""

    def discard(self) -> None:
        """Nothing is left to do."""


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
        top = recording.info.sample_rate / 2
        for number, d in enumerate(detections, 1):
            lines.append(
                f"{number}\tSpectrogram 1\t1\t{d.start:.6f}\t{d.end:.6f}\t0.0\t{top:.1f}\t{visible(d.label)}\t{d.score:.4f}"
            )
        return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Path, Path], Writer]] = {
    "csv": lambda path, root: CsvWriter(path),
    "jsonl": lambda path, root: JsonLinesWriter(path),
    "audacity": AudacityFiles,
    "raven": RavenFiles,
}
"""What to write where: (output path, common folder of the recordings) to a writer."""


class Outputs:
    """Several writers as a context, which completes their files however it is left."""

    def __init__(self, paths: Sequence[Path], format: str | None, recordings: Sequence[Path]) -> None:
        parents = [str(Path(recording).resolve().parent) for recording in recordings]
        root = Path(os.path.commonpath(parents)) if parents else Path()
        self._writers: list[Writer] = []
        if format and not paths:
            raise ConfigError(f"--format {format} says how to write; name the output too: --output PATH.")
        if len({path.resolve() for path in paths}) < len(paths):
            raise ConfigError(f"{', '.join(map(str, paths))}: the same output is named twice.")
        try:
            for path in paths:
                self._writers.append(_writer(path, format, root))
        except ConfigError:  # nothing was written yet: older files of the other names stay as they are
            for writer in self._writers:
                writer.discard()
            raise

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with ExitStack() as all_of_them:
            for writer in self._writers:
                all_of_them.callback(writer.close)

    def write(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Adds one file's result to every output."""
        for writer in self._writers:
            writer.write(result, detections)


def _writer(path: Path, format: str | None, root: Path) -> Writer:
    suffix = path.suffix.removeprefix(".").lower()
    name = suffix if suffix in FORMATS else format or suffix
    if name not in FORMATS:
        problem = f"the format {name!r} is not known" if name else "no format is given"
        raise ConfigError(f"{path}: {problem}; --format takes {', '.join(FORMATS)}.")
    return FORMATS[name](path, root)


def as_dict(result: Recording | Failure, detections: Sequence[Detection]) -> dict[str, object]:
    """One file's result as plain values."""
    if isinstance(result, Failure):
        return {"path": str(result.path), "error": str(result.error)}
    labels = [
        {"start": round(d.start, 3), "end": round(d.end, 3), "head": d.head, "label": d.label, "score": round(d.score, 4)}
        for d in detections
    ]
    return {"path": str(result.path), "seconds": round(result.seconds, 3), "complete": result.complete, "labels": labels}
