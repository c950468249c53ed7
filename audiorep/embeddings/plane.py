"""A map of a collection: its sounds as points in a plane, near each other where a model finds them alike."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from audiorep.embeddings.index import SMALLEST, Index, unit
from audiorep.embeddings.suggest import reading
from audiorep.errors import ConfigError, DataError, require

Method = Literal["pca", "umap"]
MOST_SOUNDS = 20_000  # points of a map
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
    *("#393b79", "#637939", "#8c6d31", "#843c39", "#7b4173", "#3182bd", "#e6550d", "#31a354", "#756bb1", "#636363"),
)
"""Of labels, the most frequent first; the others are grey."""
OTHER = "#bbbbbb"


@dataclass(frozen=True, eq=False)
class Plane:
    """Sounds as points."""

    paths: list[Path]
    points: np.ndarray
    """(N, 2) in 0..1."""
    labels: list[str]
    method: Method

    def colours(self) -> dict[str, str]:
        """{label: its colour}, the most frequent first."""
        names, counts = np.unique(self.labels, return_counts=True)
        order = [str(names[k]) for k in np.argsort(-counts, kind="stable")]
        return {name: COLOURS[k] if k < len(COLOURS) else OTHER for k, name in enumerate(order)}


def of_index(index: Index, labels: Mapping[Path, str] | None = None, method: Method = "pca") -> Plane:
    """The sounds of an index in a plane.

    Args:
        index: the collection; of more than `MOST_SOUNDS` some are taken, evenly.
        labels: {path: label}; others, or all, have the name of their folder.
        method: the two directions in which the sounds differ most (principal components), or UMAP (McInnes et al. 2018),
            which keeps neighbours together.

    Raises:
        DataError: there are fewer than three sounds.
        MissingExtraError: umap-learn is not installed.
    """
    paths = index.paths()
    if len(paths) > MOST_SOUNDS:
        paths = [paths[k] for k in np.linspace(0, len(paths) - 1, MOST_SOUNDS).astype(int)]
    if len(paths) < 3:
        raise DataError(f"{index.folder} holds {len(paths)} sounds; a map needs three.")
    means = np.stack([index.vectors([place.row for place in index.rows_of(path)]).mean(axis=0) for path in paths])
    points = _umap(unit(means)) if method == "umap" else _principal(unit(means))
    low, high = points.min(axis=0), points.max(axis=0)
    known = labels or {}
    names = [known.get(path, path.parent.name) for path in paths]
    return Plane(paths, (points - low) / np.maximum(high - low, SMALLEST), names, method)


def labels_of(table: Path) -> dict[Path, str]:
    """{path: label} of a table with these columns.

    Raises:
        DataError: it is none.
    """
    with reading(table, ("path", "label")) as rows:
        return {Path(row["path"]).absolute(): row["label"] for row in rows}


def draw(plane: Plane, path: Path) -> None:
    """Writes a map as a picture (.png).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from audiorep.files import replacing

    figure_module = require("matplotlib.figure", extra="train")
    colours = plane.colours()
    figure = figure_module.Figure(figsize=(11, 8), layout="constrained")
    axes = figure.add_subplot()
    for label, colour in reversed(colours.items()):
        own = np.array([name == label for name in plane.labels])
        axes.scatter(*plane.points[own].T, s=14, c=colour, label=label if colour != OTHER else None, linewidths=0, alpha=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, markerscale=2, reverse=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120)


def as_page(plane: Plane) -> str:
    """A map as a page: a point tells its file, and plays it where the page can read it."""
    colours = plane.colours()
    points = [
        [round(float(x), 4), round(float(y), 4), colours[label], label, str(path), path.as_uri()]
        for (x, y), label, path in zip(plane.points, plane.labels, plane.paths, strict=True)
    ]
    rows = [(label, colour) for label, colour in colours.items() if colour != OTHER]
    legend = "".join(f'<li><i style="background:{colour}"></i>{html.escape(label)}</li>' for label, colour in rows)
    data = json.dumps(points, ensure_ascii=False).replace("</", "<\\/")
    return _PAGE.replace("LEGEND", legend).replace("COUNT", str(len(points))).replace("DATA", data)


def check(path: Path) -> None:
    """Checks, before long work, that a map can be written to a file.

    Raises:
        ConfigError: another suffix than .png and .html.
        MissingExtraError: matplotlib is not installed, for a picture.
    """
    if path.suffix.lower() not in (".png", ".html"):
        raise ConfigError(f"{path} must end in .png or .html.")
    if path.suffix.lower() == ".png":
        require("matplotlib", extra="train")


def _principal(vectors: np.ndarray) -> np.ndarray:
    """(N, 2) the two principal components."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    found = directions[:, -2:][:, ::-1]
    return centred @ (found * np.sign(found.sum(axis=0) + SMALLEST))


def _umap(vectors: np.ndarray) -> np.ndarray:
    umap = require("umap", extra="umap")
    return np.asarray(umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(vectors), float)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>A map of COUNT sounds</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 0; display: grid; grid-template-columns: 1fr 15rem; height: 100vh }
canvas { width: 100%; height: 100%; display: block; cursor: crosshair }
aside { padding: 1rem; overflow: auto; border-left: 1px solid #ddd; overflow-wrap: anywhere }
ul { list-style: none; padding: 0 }
i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .5em }
audio { width: 100% } h1 { font-size: 1.1rem; margin-top: 0 } p { min-height: 5em }
</style>
<main><canvas></canvas></main>
<aside><h1>COUNT sounds</h1><p>Point at a sound; click to hear it.</p><audio controls></audio><ul>LEGEND</ul></aside>
<script>
const points = DATA, canvas = document.querySelector("canvas"), text = document.querySelector("p")
const player = document.querySelector("audio"), pen = canvas.getContext("2d"), margin = 20
let nearest = null
const inside = (share, length) => margin + share * (length - 2 * margin)
const place = ([x, y]) => [inside(x, canvas.clientWidth), inside(1 - y, canvas.clientHeight)]
function draw() {
  const scale = devicePixelRatio
  canvas.width = canvas.clientWidth * scale; canvas.height = canvas.clientHeight * scale; pen.scale(scale, scale)
  for (const point of points) {
    const [x, y] = place(point)
    pen.fillStyle = point[2]; pen.globalAlpha = .8
    pen.beginPath(); pen.arc(x, y, point === nearest ? 8 : 4, 0, 7); pen.fill()
  }
}
canvas.onmousemove = event => {
  const away = point => { const [x, y] = place(point); return Math.hypot(x - event.offsetX, y - event.offsetY) }
  nearest = points.reduce((best, point) => away(point) < away(best) ? point : best)
  text.textContent = nearest[3] + ": " + nearest[4]; draw()
}
canvas.onclick = () => { if (nearest) { player.src = nearest[5]; player.play().catch(() => {}) } }
addEventListener("resize", draw); draw()
</script>
</html>
"""
