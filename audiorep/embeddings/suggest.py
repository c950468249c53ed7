"""Which places of a collection are worth a label next: those of which a taught model is least sure, and unlike each other."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiorep.audio.decode import Stretch
from audiorep.embeddings.head import taught
from audiorep.embeddings.index import Index, unit
from audiorep.embeddings.onnx_file import onnx_file
from audiorep.errors import ConfigError, DataError
from audiorep.escape import visible
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import load

BLOCK_ROWS = 1 << 16
CANDIDATES = 10  # least sure sounds for each that is suggested, among which those are taken that are most unlike
COLUMNS = ("path", "start", "end", "score", "label")
NONE = "none"
"""The label of a place that holds none of the classes."""


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


def suggest(index: Index, model: str | os.PathLike[str], label: str, count: int = 20) -> list[Suggestion]:
    """The places of an index that would teach a model most about a class that it was taught, one of a sound.

    Args:
        index: where to look. The sounds are not read again.
        model: a file that `teach` wrote.
        label: the class.
        count: places.

    Raises:
        ConfigError: the model was not taught the class, or is of another trunk than the index.
    """
    path = onnx_file(model)
    classifier = load(path)
    weight, bias = _layer(path, classifier.info, label)
    index.check(classifier)
    rows, logits, units = _least_sure(index, weight, bias, CANDIDATES * count)
    chosen = _unlike(units, count)
    places = index.places(rows.tolist())
    scores = 1 / (1 + np.exp(-logits))
    found = [(places[int(rows[k])], float(scores[k])) for k in chosen]
    return [Suggestion(place.path, place.start, place.end, score) for place, score in found]


def as_csv(found: Sequence[Suggestion]) -> str:
    """A table with a column `label` to fill in."""
    text = io.StringIO()
    table = csv.writer(text)
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


def _layer(path: Path, info: ModelInfo, label: str) -> tuple[np.ndarray, float]:
    """Weights (C,) and bias of a class that was taught.

    Raises:
        ConfigError: it was not.
    """
    names, weight, bias = taught(path, info)
    if label not in names:
        told = f"it was taught {', '.join(map(visible, names))}" if names else "audiorep teach makes one"
        raise ConfigError(f"{path} was not taught {visible(label)}; {told}.")
    place = names.index(label)
    return weight[place], float(bias[place])


def _least_sure(index: Index, weight: np.ndarray, bias: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, logits and unit vectors (n, C) of the windows that are least sure, one of a sound, the least sure first."""
    best: dict[Path, tuple[float, int, np.ndarray]] = {}
    for rows, vectors in _blocks(index):
        logits = vectors @ weight + bias
        places = index.places(rows.tolist())
        for row, logit, vector in zip(rows.tolist(), logits.tolist(), vectors, strict=True):
            place = places.get(row)
            if place is not None and (place.path not in best or abs(logit) < abs(best[place.path][0])):
                best[place.path] = (logit, row, unit(vector))
        if len(best) > 2 * count:
            best = dict(sorted(best.items(), key=lambda item: abs(item[1][0]))[:count])
    found = sorted(best.values(), key=lambda item: abs(item[0]))[:count]
    size = index.size
    return (
        np.array([row for _, row, _ in found], np.int64),
        np.array([logit for logit, _, _ in found]),
        np.array([vector for _, _, vector in found]).reshape(-1, size),
    )


def _blocks(index: Index) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first in range(0, index.written, BLOCK_ROWS):
        rows = np.arange(first, min(first + BLOCK_ROWS, index.written))
        yield rows, index.vectors(rows)


def _unlike(units: np.ndarray, count: int) -> list[int]:
    """Of vectors (n, C), the first, and then each time the one that is least like those before (Gonzalez 1985)."""
    if not len(units):
        return []
    chosen, nearest = [0], units @ units[0]
    while len(chosen) < min(count, len(units)):
        nearest[chosen[-1]] = np.inf
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, units @ units[chosen[-1]])
    return chosen
