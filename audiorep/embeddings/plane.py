"""A collection in a plane: its sounds as points, near each other where a model finds them alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from audiorep.embeddings.index import SMALLEST, Index, unit
from audiorep.embeddings.suggest import reading
from audiorep.errors import DataError, require

Method = Literal["pca", "umap"]
MOST_SOUNDS = 20_000  # points of a map
NEIGHBOURS = 15  # that UMAP keeps together, its own default; of fewer sounds, all


@dataclass(frozen=True, eq=False)
class Plane:
    """Sounds as points."""

    paths: list[Path]
    points: np.ndarray
    """(N, 2) in 0..1."""
    labels: list[str]
    scores: np.ndarray | None = None
    """(N,) in 0..1, of each sound's best window; None: they were not asked for."""


def of_index(
    index: Index,
    labels: Mapping[Path, str] | None = None,
    method: Method = "pca",
    score: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Plane:
    """The sounds of an index in a plane.

    Args:
        index: the collection; of more than `MOST_SOUNDS` some are taken, evenly.
        labels: {path: label}; others, or all, have the name of their folder.
        method: the two directions in which the sounds differ most (principal components), or UMAP (McInnes et al. 2018),
            which keeps neighbours together.
        score: gives the scores (W,) of embeddings (W, C), as `scores.of_label` does.

    Raises:
        DataError: there are fewer than three sounds.
        MissingExtraError: umap-learn is not installed.
    """
    paths = index.paths()
    if len(paths) > MOST_SOUNDS:
        paths = [paths[k] for k in np.linspace(0, len(paths) - 1, MOST_SOUNDS).astype(int)]
    if len(paths) < 3:
        raise DataError(f"{index.folder} holds {len(paths)} {'sound' if len(paths) == 1 else 'sounds'}; a map needs three.")
    means, scores = np.empty((len(paths), index.size), np.float32), np.empty(len(paths), np.float32)
    for k, path in enumerate(paths):
        vectors = index.vectors([place.row for place in index.rows_of(path)])
        means[k] = vectors.mean(axis=0)
        if score is not None:
            scores[k] = score(vectors).max()
    points = _umap(unit(means)) if method == "umap" else _principal(unit(means))
    low, high = points.min(axis=0), points.max(axis=0)
    known = labels or {}
    names = [known.get(path, path.parent.name) for path in paths]
    return Plane(paths, (points - low) / np.maximum(high - low, SMALLEST), names, None if score is None else scores)


def labels_of(table: Path) -> dict[Path, str]:
    """{path: label} of a table with these columns.

    Raises:
        DataError: it is none.
    """
    with reading(table, ("path", "label")) as rows:
        return {Path(row["path"]).absolute(): row["label"] for row in rows}


def _principal(vectors: np.ndarray) -> np.ndarray:
    """(N, 2) the two principal components."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    found = directions[:, -2:][:, ::-1]
    return centred @ (found * np.sign(found.sum(axis=0) + SMALLEST))


def _umap(vectors: np.ndarray) -> np.ndarray:
    """(N, 2) by UMAP, which starts from the principal components: groups that it cannot join lie where these lie."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow, which is not used, and of threads, which a seed leaves out
        umap = require("umap", extra="umap")
        settings = {"metric": "cosine", "init": "pca", "random_state": 0, "n_jobs": 1}
        made = umap.UMAP(n_neighbors=min(NEIGHBOURS, len(vectors) - 1), **settings)
        return np.asarray(made.fit_transform(vectors), float)
