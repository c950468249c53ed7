"""An index: the embeddings of a collection's windows in files, and where they are from in a table of SQLite.

A vector has unit length, in float16, so that a search need not compute it; its length lies in another file, in float32.

A sound is in the index when its rows are in the table. Vectors are written and synced before that, so that an end at any
moment costs at most the sounds that were not reported yet. What lies in the files behind the last row is overwritten.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.errors import ConfigError, DataError
from audiorep.escape import visible
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Embedding

FORMAT = 1
SHARD_ROWS = 1 << 18  # vectors in a file
TABLE, LOCK = "index.db", "lock.db"
SILENCE = 1e-3  # peak below which a window says nothing: 60 dB below full scale
LEAST_COSINE = 0.99  # of a probe in two files of one model, whatever their runtime and precision
_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sounds (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, changed INTEGER NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE windows (row INTEGER PRIMARY KEY, sound INTEGER NOT NULL, start REAL NOT NULL, "end" REAL NOT NULL);
CREATE INDEX windows_of_sound ON windows (sound);
"""


@dataclass(frozen=True)
class _Kind:
    """A kind of file with a value, or a vector, for each row."""

    name: str
    suffix: str
    type: np.dtype[Any]
    is_wide: bool


UNITS = _Kind("vectors", "f16", np.dtype("<f2"), True)
LENGTHS = _Kind("lengths", "f32", np.dtype("<f4"), False)
SMALLEST = 1e-12  # length of a vector that is divided by


@dataclass(frozen=True)
class Place:
    """A window of a sound in an index."""

    row: int
    path: Path
    start: float
    """Seconds."""
    end: float
    """Seconds."""


class Index:
    """A folder with the embeddings of a collection.

    >>> classifier = audiorep.load("nano")
    >>> with audiorep.Index.create("two_sounds", classifier) as index:
    ...     for embedding in classifier.embed_files(["samples/crow.flac", "samples/rain.flac"]):
    ...         index.add(embedding)
    ...     index.commit()
    >>> with audiorep.Index("two_sounds") as index:
    ...     [path.name for path in index.paths()], len(index)
    (['crow.flac', 'rain.flac'], 20)

    Args:
        folder: of an index.
        writable: whether sounds can be added; only one process at a time can.

    Raises:
        ConfigError: it is no index, one of another version, or is being written by another process.
    """

    def __init__(self, folder: str | os.PathLike[str], writable: bool = False) -> None:
        self.folder = Path(folder)
        if not (self.folder / TABLE).is_file():
            raise ConfigError(f"{folder} is no index; audiorep embed makes one.")
        self._lock = _locked(self.folder) if writable else None
        self._table = sqlite3.connect(self.folder / TABLE, timeout=30.0)
        try:
            about = dict(self._table.execute("SELECT key, value FROM about"))
            version, self.size, self._rows = (int(about[key]) for key in ("format", "size", "rows"))
            self.window_seconds, self.hop_seconds = float(about["window_seconds"]), float(about["hop_seconds"])
            self._probe, self.model = np.array(json.loads(about["probe"]), np.float32), str(about["model"])
        except (sqlite3.Error, KeyError, ValueError):
            self.close()
            raise ConfigError(f"{folder} is no index, or it is damaged.") from None
        if version != FORMAT:
            self.close()
            raise ConfigError(f"{folder} is an index of format {version}; this version of audiorep reads {FORMAT}.")
        self._added: list[tuple[int, np.ndarray]] = []  # (first row, vectors) that are not written yet
        self.committed = time.monotonic()
        """When the last commit was."""

    @classmethod
    def create(cls, folder: str | os.PathLike[str], classifier: Classifier, model: str = "") -> Index:
        """A new index for what a model hears, ready to be written; an index of that model that exists goes on.

        Args:
            folder: which is made.
            classifier: the model.
            model: its name or path, for those who search.

        Raises:
            BundleError: the model's file gives no embedding.
            ConfigError: the folder holds something else, or an index of another model, hop or window.
        """
        place = Path(folder)
        classifier.session.refuse_missing(["embedding"])
        if not (place / TABLE).exists():
            if place.exists() and (not place.is_dir() or any(entry.name != LOCK for entry in place.iterdir())):
                raise ConfigError(f"{folder} exists and is no index; name another folder.")
            place.mkdir(parents=True, exist_ok=True)
            _make(place, classifier, model)
        index = cls(place, writable=True)
        try:
            index.check(classifier)
            if (index.window_seconds, index.hop_seconds) != (classifier.info.window_seconds, classifier.info.hop_seconds):
                raise ConfigError(
                    f"{folder} holds windows of {index.window_seconds:g} s every {index.hop_seconds:g} s, the model gives "
                    f"{classifier.info.window_seconds:g} s every {classifier.info.hop_seconds:g} s."
                )
        except BaseException:
            index.close()
            raise
        return index

    def check(self, classifier: Classifier) -> None:
        """Refuses another model than the one that the index is of.

        Raises:
            ConfigError: it hears other things in a probe.
        """
        classifier.session.refuse_missing(["embedding"])
        found = probe(classifier)
        if len(found) != self.size or cosine(found, self._probe) < LEAST_COSINE:
            name = f", {visible(self.model)}" if self.model else ""
            raise ConfigError(f"{self.folder} was made with another model{name}; give that one.")

    def __len__(self) -> int:
        """Windows in it."""
        return int(self._table.execute("SELECT count(*) FROM windows").fetchone()[0])

    @property
    def written(self) -> int:
        """Rows that were ever written, those of earlier states of sounds included."""
        return self._rows

    @property
    def waiting(self) -> int:
        """Windows that were added and not committed."""
        return sum(len(vectors) for _, vectors in self._added)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the files; what was not committed is not in it."""
        self._table.close()
        if self._lock is not None:
            self._lock.close()

    def has(self, path: Path) -> bool:
        """Whether a file is in it as it is now."""
        with suppress(OSError):
            about = path.stat()
            found = self._table.execute("SELECT bytes, changed FROM sounds WHERE path = ?", [_name(path)]).fetchone()
            return found == (about.st_size, about.st_mtime_ns)
        return False

    def add(self, embedding: Embedding) -> None:
        """Takes the windows of a file, in place of those of an earlier state of it; they are in it after `commit`.

        Raises:
            DataError: the file is gone.
        """
        try:
            about = embedding.path.stat()
        except OSError as error:
            raise DataError(f"{embedding.path} is gone: {error.strerror}.") from None
        name, first = _name(embedding.path), self._rows
        self._table.execute("DELETE FROM windows WHERE sound = (SELECT id FROM sounds WHERE path = ?)", [name])
        self._table.execute(
            "INSERT INTO sounds (path, bytes, changed, seconds) VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET "
            "bytes = excluded.bytes, changed = excluded.changed, seconds = excluded.seconds",
            [name, about.st_size, about.st_mtime_ns, embedding.seconds],
        )
        [sound] = self._table.execute("SELECT id FROM sounds WHERE path = ?", [name]).fetchone()
        ends = np.minimum(embedding.starts + self.window_seconds, embedding.seconds)
        rows = zip(range(first, first + len(ends)), embedding.starts.tolist(), ends.tolist(), strict=True)
        self._table.executemany("INSERT INTO windows VALUES (?, ?, ?, ?)", ((row, sound, a, b) for row, a, b in rows))
        self._added.append((first, embedding.vectors))
        self._rows = first + len(ends)

    def commit(self) -> None:
        """Puts what was added into the index for good."""
        for first, vectors in self._added:
            self._write(first, vectors)
        self._added.clear()
        self._table.execute("UPDATE about SET value = ? WHERE key = 'rows'", [str(self._rows)])
        self._table.commit()
        self.committed = time.monotonic()

    def paths(self) -> list[Path]:
        """The sounds in it."""
        return [Path(name) for (name,) in self._table.execute("SELECT path FROM sounds ORDER BY path")]

    def places(self, rows: Sequence[int]) -> dict[int, Place]:
        """{row: where it is from}; without rows of sounds that have changed since."""
        found: dict[int, Place] = {}
        for first in range(0, len(rows), 500):
            some = [int(row) for row in rows[first : first + 500]]
            marks = ",".join("?" * len(some))
            query = (
                f'SELECT row, path, start, "end" FROM windows JOIN sounds ON sounds.id = windows.sound WHERE row IN ({marks})'
            )
            found.update(
                (row, Place(row, Path(path), start, end)) for row, path, start, end in self._table.execute(query, some)
            )
        return found

    def rows_of(self, path: Path) -> list[Place]:
        """The windows of a sound, in order of time."""
        query = 'SELECT row, start, "end" FROM windows WHERE sound = (SELECT id FROM sounds WHERE path = ?) ORDER BY start'
        return [Place(row, path, start, end) for row, start, end in self._table.execute(query, [_name(path)])]

    def blocks(self, rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, unit vectors (n, C) of float16), of all rows that were ever written."""
        for first in range(0, self._rows, SHARD_ROWS):
            shard = self._read(UNITS, first)
            for begin in range(0, len(shard), rows):
                yield first + begin, shard[begin : begin + rows]

    def vectors(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, C) float32 embeddings of some rows, as the model gave them but for rounding."""
        wanted = np.asarray(rows, np.int64)
        found = np.empty((len(wanted), self.size), np.float32)
        for number in np.unique(wanted // SHARD_ROWS):
            there, first = wanted // SHARD_ROWS == number, int(number) * SHARD_ROWS
            units, lengths = (self._read(kind, first)[wanted[there] - first] for kind in (UNITS, LENGTHS))
            found[there] = units * lengths
        return found

    def _read(self, kind: _Kind, first: int) -> np.ndarray:
        """What is in the file of a kind that begins with a row, (n, width).

        Raises:
            DataError: the file is missing or too short.
        """
        path, rows = self._path(kind, first), min(SHARD_ROWS, self._rows - first)
        width = self.size if kind.is_wide else 1
        if not path.exists() or path.stat().st_size < rows * width * kind.type.itemsize:
            raise DataError(f"{path} is missing or cut short; make the index again.")
        return np.memmap(path, kind.type, "r", shape=(rows, width))

    def _write(self, first: int, vectors: np.ndarray) -> None:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
        units = vectors / np.maximum(lengths, SMALLEST)
        while len(units):
            size = SHARD_ROWS - first % SHARD_ROWS
            for kind, values in ((UNITS, units[:size]), (LENGTHS, lengths[:size])):
                path = self._path(kind, first)
                with path.open("r+b" if path.exists() else "w+b") as file:
                    file.seek(first % SHARD_ROWS * values.shape[1] * kind.type.itemsize)
                    file.write(values.astype(kind.type).tobytes())
                    file.flush()
                    os.fsync(file.fileno())
            first, units, lengths = first + size, units[size:], lengths[size:]

    def _path(self, kind: _Kind, row: int) -> Path:
        return self.folder / f"{kind.name}-{row // SHARD_ROWS:04d}.{kind.suffix}"


def probe(classifier: Classifier) -> np.ndarray:
    """(C,) what a model hears in a fixed noise: it tells models apart, and not the files of one."""
    samples = classifier.info.window_samples
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, samples)).astype(np.float32)
    return classifier.session.run(noise, ["embedding"])["embedding"][0].astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (…, C) at length 1; one of nothing but zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), SMALLEST)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """How alike two vectors are, in -1..1."""
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size else 0.0


def _make(folder: Path, classifier: Classifier, model: str) -> None:
    """Writes the table of an empty index; it has its name when it is whole."""
    found, info, partial = probe(classifier), classifier.info, folder / f".{TABLE}.part"
    partial.unlink(missing_ok=True)
    about: dict[str, Any] = {
        "format": FORMAT,
        "size": len(found),
        "rows": 0,
        "window_seconds": info.window_seconds,
        "hop_seconds": info.hop_seconds,
        "model": model,
        "probe": json.dumps(found.tolist()),
    }
    with closing(sqlite3.connect(partial)) as table:
        table.executescript(_TABLES)
        table.executemany("INSERT INTO about VALUES (?, ?)", [(key, str(value)) for key, value in about.items()])
        table.commit()
    partial.replace(folder / TABLE)


def _locked(folder: Path) -> sqlite3.Connection:
    """A lock that the system lifts when the process ends, however it ends.

    Raises:
        ConfigError: another process has it.
    """
    lock = sqlite3.connect(folder / LOCK, timeout=0.5, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error:
        lock.close()
        raise ConfigError(f"{visible(str(folder))} is being written by another process.") from None
    return lock


def _name(path: Path) -> str:
    return str(path.absolute())
