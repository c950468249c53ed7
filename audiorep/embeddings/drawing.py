"""A map of a collection as a picture and as a page, with a colour for each label or for how high each sound scores."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiorep.embeddings.plane import Plane
from audiorep.errors import ConfigError, require
from audiorep.evaluation import plotting
from audiorep.files import reserve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
    *("#393b79", "#637939", "#8c6d31", "#843c39", "#7b4173", "#3182bd", "#e6550d", "#31a354", "#756bb1", "#636363"),
)
"""Of labels, the most frequent first; the others are grey."""
OTHER = "#bbbbbb"
SCALE = ("#dcd8cc", "#f9c074", "#ec7445", "#b5285f", "#3d0f52")
"""Of scores from 0 to 1: the higher, the darker, so that they can be told without their hues, too."""


def colours_of(labels: list[str]) -> dict[str, str]:
    """{label: its colour}, the most frequent first."""
    names, counts = np.unique(labels, return_counts=True)
    order = [str(names[k]) for k in np.argsort(-counts, kind="stable")]
    return {name: COLOURS[k] if k < len(COLOURS) else OTHER for k, name in enumerate(order)}


def on_scale(scores: np.ndarray) -> list[str]:
    """The colours of scores (N,)."""
    stops = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in SCALE])
    at = np.linspace(0, 1, len(SCALE))
    channels = np.stack([np.interp(scores, at, stops[:, k]) for k in range(3)], axis=-1).round().astype(int)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in channels.tolist()]


def draw(plane: Plane, path: Path, title: str) -> None:
    """Writes a map as a picture (.png).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", extra="train")
    with plotting.look():
        figure = plotting.card(9, 7)
        plotting.title(figure, title)
        axes = figure.add_subplot()
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set_visible(False)
        (_scatter_labels if plane.scores is None else _scatter_scores)(axes, plane)
        plotting.save(figure, path)


def as_page(plane: Plane, title: str) -> str:
    """A map as a page: a point tells its file, and plays it where the page can read it."""
    names = colours_of(plane.labels)
    colours = [names[label] for label in plane.labels] if plane.scores is None else on_scale(plane.scores)
    points = []
    for k in _order(plane):
        label, path = plane.labels[k], plane.paths[k]
        about = label if plane.scores is None else f"{plane.scores[k]:.0%}, {label}"
        points.append([*np.round(plane.points[k], 4).tolist(), colours[k], about, str(path), path.as_uri()])
    data = json.dumps(points, ensure_ascii=False).replace("<", "\\u003c")  # a name may look like the end of the script
    legend = _legend(plane.labels) if plane.scores is None else _scale()
    parts = {"TITLE": html.escape(title), "LEGEND": legend, "POINTS": data}
    return re.sub("|".join(parts), lambda found: parts[found[0]], _PAGE)


def check(path: Path) -> None:
    """Checks, before long work, that a map can be written to a file.

    Raises:
        ConfigError: another suffix than .png and .html, or the file cannot be written.
        MissingExtraError: matplotlib is not installed, for a picture.
    """
    if path.suffix.lower() not in (".png", ".html"):
        raise ConfigError(f"{path} must end in .png or .html.")
    reserve(path)
    if path.suffix.lower() == ".png":
        require("matplotlib", extra="train")


def _order(plane: Plane) -> np.ndarray:
    """The points as they are drawn: high scores over low ones, and rare labels over frequent ones, which lie over the grey."""
    if plane.scores is not None:
        return np.argsort(plane.scores, kind="stable")
    rank = {label: -1 if colour == OTHER else k for k, (label, colour) in enumerate(colours_of(plane.labels).items())}
    return np.argsort([rank[label] for label in plane.labels], kind="stable")


def _scatter_labels(axes: Axes, plane: Plane) -> None:
    colours = colours_of(plane.labels)
    names, order = np.array(plane.labels, object), _order(plane)
    across, up = plane.points[order].T
    axes.scatter(across, up, s=14, c=[colours[name] for name in names[order]], linewidths=0, alpha=0.8)
    for name, colour, count in _rows(plane.labels):
        axes.scatter([], [], s=50, c=colour, linewidths=0, label=f"{plotting.drawable(name)}  {count}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _scatter_scores(axes: Axes, plane: Plane) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap

    assert plane.scores is not None
    scale, order = LinearSegmentedColormap.from_list("scores", SCALE), _order(plane)
    across, up = plane.points[order].T
    axes.scatter(across, up, s=14, c=plane.scores[order], cmap=scale, vmin=0, vmax=1, linewidths=0)
    bar = axes.figure.colorbar(ScalarMappable(cmap=scale), ax=axes, shrink=0.5, aspect=25, format=lambda at, _: f"{at:.0%}")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)


def _rows(labels: list[str]) -> list[tuple[str, str, int]]:
    """(label, colour, sounds) of each label with a colour of its own, and of the others together."""
    counts = Counter(labels)
    rows = [(name, colour, counts[name]) for name, colour in colours_of(labels).items() if colour != OTHER]
    rest = len(labels) - sum(count for _, _, count in rows)
    others = len(counts) - len(rows)
    return [*rows, (f"{others} {'other' if others == 1 else 'others'}", OTHER, rest)] if others else rows


def _legend(labels: list[str]) -> str:
    rows = "".join(
        f'<li><i style="background:{colour}"></i>{html.escape(name)} {count}</li>' for name, colour, count in _rows(labels)
    )
    return f"<ul>{rows}</ul>"


def _scale() -> str:
    bar = f'<div class="scale" style="background: linear-gradient(to right, {", ".join(SCALE)})"></div>'
    return f'{bar}<div class="ends"><span>0%</span><span>50%</span><span>100%</span></div>'


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>TITLE</title>
<style>
:root { color-scheme: light }
body { font: 14px/1.4 system-ui, sans-serif; margin: 0; display: grid; grid-template-columns: 1fr 15rem; height: 100vh }
body { color: #222; background: #fff }
canvas { width: 100%; height: 100%; display: block; cursor: crosshair }
aside { padding: 1rem; overflow: auto; border-left: 1px solid #ddd; overflow-wrap: anywhere }
ul { list-style: none; padding: 0 }
i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .5em }
.scale { height: .8rem; border-radius: .2rem; margin-top: 1rem }
.ends { display: flex; justify-content: space-between; font-size: .85rem }
audio { width: 100% } h1 { font-size: 1.1rem; margin-top: 0 } p { min-height: 5em }
</style>
<main><canvas></canvas></main>
<aside><h1>TITLE</h1><p>Point at a sound; click to hear it.</p><audio controls></audio>LEGEND</aside>
<script>
const points = POINTS, canvas = document.querySelector("canvas"), text = document.querySelector("p")
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
