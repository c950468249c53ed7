"""A journal of a long run: each file's result is kept as it comes, so that a run that was killed goes on where it was."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from audiorep.errors import AudioError, ConfigError
from audiorep.escape import visible
from audiorep.files import WriteError, write_errors
from audiorep.info.model_info import ModelInfo
from audiorep.predict.results import Detection, Failure, Recording

VERSION = 1
SYNC_SECONDS = 5.0  # between writes to the disk: so much work is lost at most, besides the file that is being heard
SUFFIX = ".journal"
_TABLES = """
    CREATE TABLE IF NOT EXISTS run (value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS files (
        path BLOB PRIMARY KEY, size INTEGER, changed INTEGER, failed INTEGER NOT NULL, results TEXT NOT NULL
    ) WITHOUT ROWID;
"""

Result = tuple[Recording | Failure, list[Detection]]


class Journal:
    """What was heard, in an SQLite file, as a context manager. One process uses it at a time.

    A file that changed since (its size, or the time of its last change) is heard again.

    Args:
        path: of the journal.
        run: what the results depend on: the model and the settings that change scores.
        info: the model's.

    Raises:
        ConfigError: the journal is of another run, of another process, or no journal.
        WriteError: it cannot be written.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], info: ModelInfo) -> None:
        self.path, self._info = path, info
        self._waiting: list[Result] = []  # of the file whose channels still come
        self._synced = time.monotonic()
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._table = sqlite3.connect(path, timeout=0.5, isolation_level=None)
        except sqlite3.Error as error:
            raise WriteError(f"{path} cannot be written: {error}.") from None
        try:
            self._open({**run, "version": VERSION})
        except BaseException:
            self._table.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._write()
        self._table.execute("COMMIT")
        self._table.close()

    def state(self, file: Path) -> str:
        """`done`, `failed`, or empty for a file that is to be heard."""
        row = self._table.execute("SELECT size, changed, failed FROM files WHERE path = ?", [_key(file)]).fetchone()
        if row is None or row[:2] != _stamp(file):
            return ""
        return "failed" if row[2] else "done"

    def add(self, result: Recording | Failure, detections: Sequence[Detection]) -> None:
        """Keeps a result; of a file with a result for each channel, when the next file's comes, or the run ends well."""
        if isinstance(result, Recording) and not result.complete:
            self._waiting.clear()
            return
        if self._waiting and self._waiting[0][0].path != result.path:
            self._write()
        self._waiting.append((result, list(detections)))
        if result.channel is None:
            self._write()

    def results(self, files: Sequence[Path]) -> Iterator[Result]:
        """What is kept of files, in their order; those that were not heard are left out."""
        for file in files:
            row = self._table.execute("SELECT results FROM files WHERE path = ?", [_key(file)]).fetchone()
            for values in json.loads(row[0]) if row is not None else []:
                yield self._result(file, values)

    def remove(self) -> None:
        """Deletes it, after all is written elsewhere and it was closed."""
        self.path.unlink(missing_ok=True)

    def _open(self, run: dict[str, Any]) -> None:
        try:
            self._table.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._table.execute("PRAGMA synchronous = FULL")
            self._table.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT; BEGIN IMMEDIATE;")
            row = self._table.execute("SELECT value FROM run").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise ConfigError(f"{self.path} is in use: another run writes the same output.") from None
            raise WriteError(f"{self.path} cannot be written: {error}.") from None
        except sqlite3.DatabaseError:
            raise ConfigError(f"{self.path} is no journal; delete it, or name another output.") from None
        if row is None:
            self._table.execute("INSERT INTO run VALUES (?)", [json.dumps(run)])
            self._commit()
            return
        self._refuse_other(json.loads(row[0]), run)

    def _refuse_other(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        before, now = json.loads(json.dumps(before)), json.loads(json.dumps(now))
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise ConfigError(
                    f"{self.path} is of a run with another {name} ({_short(before.get(name))}, now {_short(now.get(name))}). "
                    "Name another output, delete that file, or give --no-resume, which does."
                )

    def _write(self) -> None:
        """Keeps the results of the file that is complete."""
        if not self._waiting:
            return
        file, results = self._waiting[0][0].path, self._waiting
        self._waiting = []
        failed = any(isinstance(result, Failure) for result, _ in results)
        text = json.dumps([_values(result, detections) for result, detections in results])
        with write_errors(self.path):
            self._table.execute("REPLACE INTO files VALUES (?, ?, ?, ?, ?)", [_key(file), *_stamp(file), failed, text])
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._commit()

    def _commit(self) -> None:
        try:
            self._table.execute("COMMIT")
            self._table.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise WriteError(f"{self.path} cannot be written: {error}.") from None
        self._synced = time.monotonic()

    def _result(self, file: Path, values: dict[str, Any]) -> Result:
        channel = values["channel"]
        if "error" in values:
            return Failure(file, AudioError(values["error"], values["kind"]), channel), []
        detections = [Detection(**each) for each in values["detections"]]
        found = Recording(file, self._info, values["seconds"], np.zeros(0), {}, channel=channel, notes=tuple(values["notes"]))
        return found, detections


def _values(result: Recording | Failure, detections: Sequence[Detection]) -> dict[str, Any]:
    """A result as plain values."""
    if isinstance(result, Failure):
        kind = result.error.kind if isinstance(result.error, AudioError) else "unreadable"
        return {"channel": result.channel, "error": str(result.error), "kind": kind}
    about = {"channel": result.channel, "seconds": result.seconds, "notes": result.notes}
    return {**about, "detections": [asdict(each) for each in detections]}


def _key(file: Path) -> bytes:
    return os.fsencode(file)


def _stamp(file: Path) -> tuple[int | None, int | None]:
    """Size and time of the last change; nothing where it is not there."""
    try:
        about = file.stat()
    except (OSError, ValueError):
        return None, None
    return about.st_size, about.st_mtime_ns


def _short(value: Any) -> str:
    text = "none" if value is None else visible(str(value))
    return text if len(text) <= 40 else f"{text[:37]}…"
