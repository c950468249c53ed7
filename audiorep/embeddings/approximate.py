"""Approximate search for very large collections: a graph of neighbours (HNSW, arXiv 1603.09320) beside an index, by usearch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from audiorep.embeddings.index import Index, unit
from audiorep.embeddings.search import MORE, Query, nearest, scores_of
from audiorep.errors import ConfigError, require
from audiorep.files import replacing, write_json
from audiorep.untrusted import from_json

FILE, ABOUT = "neighbours.usearch", "neighbours.json"
CONNECTIVITY, EXPANSION_ADD = 16, 128
EXPANSIONS = (64, 128, 256, 512, 1024, 2048, 4096)  # of a search, tried until it finds enough
LEAST_RECALL = 0.98
ROUNDING = 1e-3  # of a cosine of vectors in float16
PROBES, FIRST = 200, 10  # vectors that are looked for, and results of each that are compared with the exact ones
ADD_ROWS = 1 << 14


@dataclass(frozen=True)
class Neighbours:
    """The graph of an index."""

    rows: int
    """Vectors in it; those that came later are compared one by one."""
    expansion: int
    recall: float
    """Share of its first `FIRST` results that are as near as those of an exact search, for vectors of the index itself."""


def build(index: Index, threads: int = 2) -> Neighbours:
    """Makes the graph of an index, or adds the vectors that came later, and measures it.

    Raises:
        MissingExtraError: usearch is not installed.
    """
    before = about(index.folder)
    graph = _empty(index.size) if before is None else _graph(index.folder, index.size, before)
    for first in range(0 if before is None else before.rows, index.written, ADD_ROWS):
        rows = np.arange(first, min(first + ADD_ROWS, index.written))
        graph.add(rows.astype(np.uint64), unit(index.vectors(rows)).astype(np.float16), threads=threads)
    found = _measured(index, graph)
    with replacing(index.folder / FILE) as partial:
        graph.save(str(partial))
    write_json(index.folder / ABOUT, {"rows": found.rows, "expansion": found.expansion, "recall": found.recall})
    return found


def about(folder: Path) -> Neighbours | None:
    """What is known of the graph of an index; None if it has none.

    Raises:
        ConfigError: it is damaged.
    """
    if not (folder / ABOUT).exists():
        return None
    try:
        told = from_json((folder / ABOUT).read_text())
        return Neighbours(int(told["rows"]), int(told["expansion"]), float(told["recall"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / ABOUT} is damaged; delete it, and build the neighbours again.") from None


def candidates(index: Index, query: Query, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores as `search.nearest` gives, of what the graph finds near each vector of the query, and of later rows.

    Raises:
        ConfigError: the index has no graph.
    """
    known = about(index.folder)
    if known is None:
        raise ConfigError(f"{index.folder} has no neighbours; audiorep embed … --neighbours builds them.")
    graph = _graph(index.folder, index.size, known)
    graph.expansion_search = max(known.expansion, MORE * count)
    units = unit(query.vectors).astype(np.float16)
    found = np.unique(np.concatenate([np.ravel(graph.search(unit, MORE * count).keys) for unit in units]).astype(np.int64))
    rows = np.concatenate([found, np.arange(known.rows, index.written)])
    scores = scores_of(index.vectors(rows.tolist()), query.vectors)
    order = np.argsort(-scores, kind="stable")[:count]
    return rows[order], scores[order]


def _measured(index: Index, graph: Any) -> Neighbours:
    """The least expansion that finds enough of what an exact search finds."""
    random = np.random.default_rng(0)
    probes = random.choice(index.written, min(PROBES, index.written), replace=False)
    vectors = index.vectors(probes.tolist())
    first = min(FIRST, index.written)
    least = np.array([nearest(index, vector[None], first)[1][-1] for vector in vectors])  # of many that are equal, any will do
    recall = 0.0
    for expansion in EXPANSIONS:
        graph.expansion_search = expansion
        cosines = 1 - np.atleast_2d(graph.search(unit(vectors).astype(np.float16), first).distances)
        recall = float((cosines >= least[:, None] - ROUNDING).mean())
        if recall >= LEAST_RECALL:
            break
    return Neighbours(index.written, expansion, recall)


def check() -> ModuleType:
    """The package that searches.

    Raises:
        MissingExtraError: usearch is not installed.
    """
    require("onnxruntime", extra="")  # of the base install; imported after usearch it ends the process (1.32 after 2.26)
    return require("usearch.index", extra="embeddings")


def _empty(size: int) -> Any:
    return check().Index(ndim=size, metric="cos", dtype="f16", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD)


def _graph(folder: Path, size: int, known: Neighbours) -> Any:
    graph = _empty(size)
    try:
        graph.load(str(folder / FILE))
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            f"{folder / FILE} cannot be read; delete {ABOUT}, and build the neighbours again ({error})."
        ) from None
    if len(graph) != known.rows:
        raise ConfigError(f"{folder / FILE} is of another state of the index; delete {ABOUT}, and build the neighbours again.")
    return graph
