"""Which places of a collection are worth a label next: likely ones and doubtful ones of a taught class, unlike each other."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiorep.audio.decode import Stretch
from audiorep.embeddings.head import taught
from audiorep.embeddings.index import Index, Place, unit
from audiorep.embeddings.onnx_file import onnx_file
from audiorep.embeddings.scores import of_label
from audiorep.errors import ConfigError, DataError
from audiorep.escape import visible
from audiorep.predict.classifier import load

BLOCK_ROWS = 1 << 14  # of which a general tagger has 34 MB of scores
CANDIDATES = 10  # sounds for each that is suggested, among which those are taken that are most unlike
COLUMNS = ("path", "start", "end", "score", "label")
NEAR = 5.0  # seconds around a place with a label in which no other is suggested: it is likely the same sound
HIGH = 0.4  # share of the places that score high
NONE = "none"
"""The label of a place that holds none of the classes."""


_Scored = tuple[float, Place]
"""A window and its score."""


@dataclass(frozen=True)
class Suggestion:
    """A place that is worth a label."""

    path: Path
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    score: float
    """What the model says: the probability of the class."""


def suggest(
    index: Index, model: str | os.PathLike[str], label: str, count: int = 20, known: Sequence[Stretch] = ()
) -> list[Suggestion]:
    """The places of an index that would teach a model most about a class that it was taught, one of a sound.

    Two of five score high, since the windows of which a model is least sure are hardly ever of a rare class; of the others it
    is least sure, since the highest alone teach nothing of a frequent one (`rounds` in results/embeddings.json). But for the
    first, they are unlike each other and what is known.

    Args:
        index: where to look. The sounds are not read again.
        model: a file that `teach` wrote.
        label: the class.
        count: places.
        known: places that have a label; they are left out, and what is near them.

    Raises:
        ConfigError: the model was not taught the class, or is of another trunk than the index.
    """
    path = onnx_file(model)
    names, *_ = taught(path, load(path).info)
    if label not in names:
        told = f"it was taught {', '.join(map(visible, names))}" if names else "audiorep teach makes one"
        raise ConfigError(f"{path} was not taught {visible(label)}; {told}.")
    return worth_a_label(index, of_label(index, label, path), count, known)


def worth_a_label(
    index: Index, score: Callable[[np.ndarray], np.ndarray], count: int, known: Sequence[Stretch] = ()
) -> list[Suggestion]:
    """The same for a class with the scores (W,) that `score` gives for embeddings (W, C)."""
    rows = _rows_of(index, known)
    highest, least_sure = _ranked(index, score, {*rows})
    units = unit(index.vectors(rows))
    chosen = highest[:1]
    _add(index, chosen, highest, round(HIGH * count) - 1, units)
    _add(index, chosen, least_sure, count - len(chosen), units)
    return [Suggestion(place.path, place.start, place.end, value) for value, place in chosen]


def as_csv(found: Sequence[Suggestion]) -> str:
    """A table with a column `label` to fill in."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")  # as an editor leaves it that adds labels
    table.writerow(COLUMNS)
    table.writerows((row.path, f"{row.start:.3f}", f"{row.end:.3f}", f"{row.score:.4f}", "") for row in found)
    return text.getvalue()


@contextmanager
def reading(table: Path, columns: Sequence[str]) -> Iterator[list[dict[str, str]]]:
    """The rows of a table of labels; what fails in the block is a fault of the table.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    try:
        yield list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeError, KeyError, TypeError, ValueError, csv.Error) as error:
        last = " and ".join(columns) if len(columns) == 2 else ", ".join(columns)
        reason = f"{error.strerror}" if isinstance(error, OSError) else f"columns {last} are needed"
        raise DataError(f"{table} is no table of labels: {reason}.") from None


def labelled(path: Path) -> dict[str, list[Stretch]]:
    """{label: places} of such a table that was filled in; rows without a label are left out, `none` is a label like any other.

    Raises:
        DataError: it is no such table, or holds no label.
    """
    found: dict[str, list[Stretch]] = {}
    with reading(path, COLUMNS) as rows:
        for row in rows:
            if name := (row["label"] or "").strip():
                found.setdefault(name, []).append(Stretch(Path(row["path"]), float(row["start"]), float(row["end"])))
    if not found:
        raise DataError(f"{path} holds no labels; write them into its column label.")
    return found


def _rows_of(index: Index, places: Sequence[Stretch]) -> list[int]:
    """The windows of an index at places, and `NEAR` them."""
    return [
        window.row
        for place in places
        for window in index.rows_of(place.path)
        if window.end > place.start - NEAR and (place.end is None or window.start < place.end + NEAR)
    ]


def _ranked(
    index: Index, score: Callable[[np.ndarray], np.ndarray], without: Collection[int]
) -> tuple[list[_Scored], list[_Scored]]:
    """The best window of each sound, the highest first; and the least sure one of each, the least sure first."""
    best: dict[Path, _Scored] = {}
    unsure: dict[Path, _Scored] = {}
    for first in range(0, index.written, BLOCK_ROWS):
        rows = range(first, min(first + BLOCK_ROWS, index.written))
        places = index.places(rows)
        for row, value in zip(rows, score(index.vectors(rows)).tolist(), strict=True):
            if row in without or (place := places.get(row)) is None:
                continue
            if place.path not in best or value > best[place.path][0]:
                best[place.path] = value, place
            if place.path not in unsure or _doubt(value) > _doubt(unsure[place.path][0]):
                unsure[place.path] = value, place
    return sorted(best.values(), key=lambda row: -row[0]), sorted(unsure.values(), key=lambda row: -_doubt(row[0]))


def _doubt(score: float) -> float:
    return -abs(score - 0.5)


def _add(index: Index, chosen: list[_Scored], ranked: Sequence[_Scored], count: int, known: np.ndarray) -> None:
    """Adds so many places to those that are chosen, of the first of other sounds those that are least like all of them."""
    taken = {place.path for _, place in chosen}
    left = [row for row in ranked if row[1].path not in taken][: CANDIDATES * max(count, 0)]
    units, before = (unit(index.vectors([place.row for _, place in rows])) for rows in (left, chosen))
    chosen += [left[k] for k in _unlike(units, count, np.concatenate([known, before]))]


def _unlike(units: np.ndarray, count: int, known: np.ndarray) -> list[int]:
    """Of unit vectors (n, C), each time the one that is least like those before and (m, C) `known` (Gonzalez 1985)."""
    chosen: list[int] = []
    nearest = np.max(units @ known.T, axis=1, initial=-1.0)
    while len(chosen) < min(count, len(units)):
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, units @ units[chosen[-1]])
        nearest[chosen] = np.inf
    return chosen
