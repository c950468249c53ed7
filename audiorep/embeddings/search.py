"""Exact search in an index, block by block: every vector is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiorep.embeddings.index import Index, Place, unit

BLOCK_ROWS = 1 << 16  # vectors for one of the threads
SMALL_PRODUCT = 1 << 18  # multiplications of a product that OpenBLAS gives to one thread
MOST_VECTORS = 32  # of a query
THREADS = 2
MORE = 8  # candidates for each result that is asked for, since windows of one sound crowd each other out


@dataclass(frozen=True)
class Match:
    """A window that is like the one asked for.

    >>> audiorep.embed(["samples"], "samples_index").added > 10
    True
    >>> match = audiorep.similar("samples_index", audiorep.Stretch("samples/recording.flac", 46.2, 51.2))[0]
    >>> match.path.name, match.score > 0.9
    ('siren.flac', True)
    """

    path: Path
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    score: float
    """How alike the embeddings are, in -1..1 (see `Query`)."""


@dataclass(frozen=True)
class Query:
    """What is looked for.

    The score of a window is its mean cosine with that half of the vectors that it is most like: a sound of several windows
    holds pauses and other sounds too.
    """

    vectors: np.ndarray
    """(Q, C) one for each window of the sound that is looked for; of more than `MOST_VECTORS` some are taken, evenly."""
    path: Path | None = None
    """The file that it is from, whose own stretch is no result."""
    start: float = 0.0
    """Seconds."""
    end: float = float("inf")
    """Seconds."""

    def __post_init__(self) -> None:
        if len(self.vectors) > MOST_VECTORS:
            some = np.linspace(0, len(self.vectors) - 1, MOST_VECTORS).round().astype(int)
            object.__setattr__(self, "vectors", self.vectors[some])

    def holds(self, place: Place) -> bool:
        """Whether a window is part of what is looked for."""
        same = self.path is not None and self.path.absolute() == place.path
        return same and place.start < self.end and place.end > self.start


Search = Callable[[Index, Query, int], tuple[np.ndarray, np.ndarray]]
"""Rows and scores of so many windows, best first."""


def exactly(index: Index, query: Query, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The best of all windows."""
    return nearest(index, query.vectors, count)


def similar(index: Index, query: Query, count: int = 10, per_sound: bool = True, search: Search = exactly) -> list[Match]:
    """The windows of an index that are most like a sound, best first.

    Args:
        index: where to look.
        query: what for.
        count: results.
        per_sound: whether each file is a result once, with its best window; or else windows that do not overlap.
        search: how.
    """
    wanted = count
    while True:
        rows, scores = search(index, query, MORE * wanted)
        places = index.places(rows.tolist())
        found = list(
            _distinct(
                ((places[row], score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True) if row in places),
                query,
                per_sound,
            )
        )
        if len(found) >= count or MORE * wanted >= index.written:
            return found[:count]
        wanted *= 4


def scores_of(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(n,) the scores of vectors (n, C) for those of a query (Q, C), neither of unit length."""
    return _scores(unit(vectors), np.ascontiguousarray(unit(queries).T, np.float32))


def nearest(index: Index, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of largest score for `vectors` (Q, C), and these scores, best first (see `Query`)."""
    queries = np.ascontiguousarray(unit(vectors).T, np.float32)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda block: _best(block[0], _scores(block[1], queries), count), index.blocks(BLOCK_ROWS)))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    rows, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(-scores, kind="stable")[:count]
    return rows[order], scores[order]


def _scores(block: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(n,) the mean cosine of each unit vector (n, C) with the half of the queries (C, Q) that it is most like.

    A few vectors at a time, which stay in the cache, and are too few for threads of the linear algebra: those of several
    blocks would wait for each other.
    """
    count = queries.shape[1]
    if count == 1:
        queries = np.repeat(queries, 2, axis=1)  # a product of matrices, for the same reason
    size = max(1, SMALL_PRODUCT // queries.size)
    vectors, scores = np.empty((size, len(queries)), np.float32), np.empty(len(block), np.float32)
    for first in range(0, len(block), size):
        some = block[first : first + size]
        np.copyto(vectors[: len(some)], some)
        cosines = (vectors[: len(some)] @ queries)[:, :count]
        kept = (count + 1) // 2
        scores[first : first + len(some)] = np.partition(cosines, count - kept, axis=1)[:, count - kept :].mean(axis=1)
    return scores


def _best(first: int, scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    best = np.argpartition(-scores, count)[:count] if count < len(scores) else np.arange(len(scores))
    return first + best, scores[best]


def _distinct(found: Iterator[tuple[Place, float]], query: Query, per_sound: bool) -> Iterator[Match]:
    """Matches of which none is part of the query, or crowded out by a better one of its sound."""
    taken: dict[Path, list[Place]] = {}
    for place, score in found:
        near = taken.setdefault(place.path, [])
        if (
            query.holds(place)
            or (near and per_sound)
            or any(place.start < other.end and place.end > other.start for other in near)
        ):
            continue
        near.append(place)
        yield Match(place.path, place.start, place.end, score)
