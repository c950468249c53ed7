"""Sounds that a collection holds twice: the same, encoded again, cut, or louder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiorep.embeddings.index import Index, unit

BLOCK_SOUNDS = 2048
MARGIN = 0.05  # by which the means of two sounds may be less alike than their windows


@dataclass(frozen=True)
class Pair:
    """Two sounds that are alike from beginning to end."""

    first: Path
    second: Path
    score: float
    """Mean over the windows of the shorter one of the cosine with the nearest window of the other."""


def duplicates(index: Index, above: float = 0.98) -> list[Pair]:
    """The pairs of sounds of which each window of the shorter one is found in the other, the most alike first.

    All sounds are compared with each other by their means, and those that may be alike by their windows.

    Args:
        index: the collection.
        above: least score.
    """
    paths = index.paths()
    rows = [[place.row for place in index.rows_of(path)] for path in paths]
    means = unit(np.stack([unit(index.vectors(own)).mean(0) for own in rows])) if paths else np.zeros((0, index.size))
    found = []
    for first, second in _candidates(means, above - MARGIN):
        score = _alike(index, rows[first], rows[second])
        if score >= above:
            found.append(Pair(paths[first], paths[second], score))
    return sorted(found, key=lambda pair: -pair.score)


def _candidates(means: np.ndarray, above: float) -> Iterator[tuple[int, int]]:
    for first in range(0, len(means), BLOCK_SOUNDS):
        cosines = means[first : first + BLOCK_SOUNDS] @ means.T
        for row, column in zip(*np.nonzero(cosines >= above), strict=True):
            if first + row < column:
                yield int(first + row), int(column)


def _alike(index: Index, one: list[int], other: list[int]) -> float:
    cosines = unit(index.vectors(one)) @ unit(index.vectors(other)).T
    return float((cosines if len(one) <= len(other) else cosines.T).max(axis=1).mean())
