"""The vectors of an index as one file for other programs: NumPy with a table beside it, or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from audiorep.embeddings.index import Index, Place
from audiorep.errors import ConfigError, require
from audiorep.files import open_text, replacing, reserve

BLOCK_ROWS = 1 << 15
COLUMNS = ("path", "start", "end")


def check(path: Path) -> None:
    """Checks, before long work, that vectors can be written to a file.

    Raises:
        ConfigError: another suffix than .npy and .parquet, or the file cannot be written.
        MissingExtraError: pyarrow is not installed, for Parquet.
    """
    if path.suffix.lower() not in _WRITERS:
        raise ConfigError(f"{path} must end in {' or '.join(_WRITERS)}.")
    if path.suffix.lower() == ".parquet":
        require("pyarrow", extra="embeddings")
    reserve(path)


def write(index: Index, path: Path) -> int:
    """Writes all windows of an index, in order of sounds and time, and gives their number.

    `.npy` holds (N, C) float32, and a `.csv` beside it path, start and end of each row. `.parquet` holds all in columns.

    Raises:
        ConfigError: the file cannot be written.
    """
    return _WRITERS[path.suffix.lower()](index, path)


def blocks(index: Index) -> Iterator[tuple[list[Place], np.ndarray]]:
    """The windows in order of sounds and time, with their vectors (n, C) float32."""
    waiting: list[Place] = []
    for path in index.paths():
        waiting += index.rows_of(path)
        if len(waiting) >= BLOCK_ROWS:
            yield waiting, index.vectors([place.row for place in waiting])
            waiting = []
    if waiting:
        yield waiting, index.vectors([place.row for place in waiting])


def _npy(index: Index, path: Path) -> int:
    done = 0
    with replacing(path) as partial, replacing(path.with_suffix(".csv")) as table, open_text(table) as text:
        values = np.lib.format.open_memmap(partial, "w+", np.float32, (len(index), index.size))
        rows = csv.writer(text)
        rows.writerow(COLUMNS)
        for places, vectors in blocks(index):
            values[done : done + len(places)] = vectors
            rows.writerows((place.path, f"{place.start:.4f}", f"{place.end:.4f}") for place in places)
            done += len(places)
        values.flush()
        del values
    return done


def _parquet(index: Index, path: Path) -> int:
    arrow, parquet = require("pyarrow", extra="embeddings"), require("pyarrow.parquet", extra="embeddings")
    columns = [("path", arrow.string()), ("start", arrow.float64()), ("end", arrow.float64())]
    schema = arrow.schema([*columns, ("embedding", arrow.list_(arrow.float32(), index.size))])
    done = 0
    with replacing(path) as partial, parquet.ParquetWriter(partial, schema) as writer:
        for places, vectors in blocks(index):
            told = [[str(place.path) for place in places], [place.start for place in places], [place.end for place in places]]
            flat = arrow.array(vectors.ravel(), arrow.float32())
            writer.write_table(arrow.table([*told, arrow.FixedSizeListArray.from_arrays(flat, index.size)], schema=schema))
            done += len(places)
    return done


_WRITERS: dict[str, Callable[[Index, Path], int]] = {".npy": _npy, ".parquet": _parquet}
