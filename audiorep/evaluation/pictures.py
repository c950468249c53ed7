"""Pictures of a training, an evaluation, a search, a compression and a benchmark."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep.escape import visible
from audiorep.evaluation.metrics import Scorecard
from audiorep.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

COUNTED = 20  # classes up to which every cell shows its count
MARKS = "osD^vP*Xhd<>p8"
LONGEST = 28  # characters of a name; of longer ones the middle is left out
FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Micro Hei", "Microsoft YaHei", "Yu Gothic",
    "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS", "Noto Sans", "Noto Sans Arabic",
    "Noto Sans Devanagari", "Noto Sans Thai", "Segoe UI Symbol", "Noto Emoji", "Symbola",
)  # fmt: skip
"""For what the usual font lacks, where they are installed."""
INK, MUTED, BLUE, ORANGE = "#222222", "#8a8a8a", "#1f6fb4", "#d9730d"


@contextmanager
def _plainly() -> Iterator[None]:
    """Texts are drawn as they are: no formulas between dollar signs, no LaTeX, and other alphabets by other fonts."""
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False, "text.usetex": False, "font.family": _families()}):
        yield


@_plainly()
def curves(logs: Path, path: Path) -> None:
    """Loss, accuracy and learning rate by epoch, from all `metrics.csv` files below `logs`, to a PNG."""
    from matplotlib.ticker import MaxNLocator

    series = _series(logs)
    panels = [panel for panel in _PANELS if any(name in series for name, _, _ in panel[1])]
    figure = _figure(4.2 * len(panels) + 0.4, 3.4)
    for index, (title, lines) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), index)
        for name, label, color in lines:
            if name in series:
                epochs, values = zip(*sorted(series[name].items()), strict=True)
                axes.plot(np.array(epochs) + 1, values, color=color, label=label, marker="." if len(epochs) == 1 else None)
        _dress(axes, title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if title.endswith("accuracy"):
            axes.set_ylim(0, 1)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        if len(lines) > 1 and len(axes.lines) > 1:
            axes.legend(frameon=False)
    _save(figure, path)


@_plainly()
def confusion(card: Scorecard, labels: list[str], title: str, path: Path) -> None:
    """The confusion matrix as shares of each true class, with its largest confusions named beside it, to a PNG."""
    if card.confusion is None:
        return
    counts = card.confusion.astype(float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(4.0 + 0.17 * len(labels), 16.0)
    figure = _figure(side + 3.2, side)
    axes = figure.add_subplot(1, 1, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if len(labels) <= 12 else 6.5
    names = [_drawn(label) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(labels)), names, fontsize=size)
    axes.set_xlabel("recognized as")
    axes.set_ylabel("true class")
    axes.set_title("\n".join(_drawn(line, 3 * LONGEST) for line in title.split("\n")), loc="left", fontsize=11, color=INK)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(labels) <= COUNTED:
        _write_counts(axes, counts, shares)
    lines = [f"{names[true]} → {names[given]}: {int(counts[true, given])}" for true, given in _worst(counts)]
    text = "Most confused\n" + "\n".join(lines) if lines else "No confusions"
    axes.text(1.03, 1.0, text, transform=axes.transAxes, va="top", fontsize=9, color=INK, linespacing=1.6)
    _save(figure, path)


@_plainly()
def tradeoff(points: list[tuple[str, str, float, float]], axis: str, path: Path, size: str = "parameters") -> None:
    """Size against time of (network, way of running, milliseconds, size), to a PNG: lower and further left is better."""
    figure = _figure(8.6, 5.0)
    axes = figure.add_subplot()
    networks, ways = (list(dict.fromkeys(point[i] for point in points)) for i in (0, 1))
    for number, way in enumerate(ways):
        chosen = [point for point in points if point[1] == way]
        axes.scatter(
            [point[2] for point in chosen], [point[3] for point in chosen], s=34, marker=MARKS[number % len(MARKS)], label=way
        )
    for network in networks:
        fastest = min((point for point in points if point[0] == network), key=lambda point: point[2])
        axes.annotate(
            _drawn(str(network)),
            (fastest[2], fastest[3]),
            xytext=(0, 7),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            ha="center",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _in_decades(axes.xaxis)
    _in_decades(axes.yaxis)
    _dress(axes, "")
    axes.set_xlabel(axis)
    axes.set_ylabel(size)
    axes.margins(0.12)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


@_plainly()
def pareto(
    done: list[tuple[float, float]],
    stopped: list[tuple[float, float]],
    front: list[tuple[float, float, str]],
    axes_labels: tuple[str, str],
    path: Path,
) -> None:
    """(Cost, accuracy) of trials, to a PNG: higher and further left is better.

    `stopped` ones, whose accuracy is that of their best epoch, are pale; `front`, by rising cost, is named and connected by
    steps: what is reached at a cost is what the trial before it reached.
    """
    from matplotlib.ticker import PercentFormatter

    figure = _figure(8.6, 5.0)
    axes = figure.add_subplot()
    for points, color, label in ((stopped, "#d5d5d5", "stopped early"), (done, BLUE, "trained to the end")):
        if points:
            costs, accuracies = zip(*points, strict=True)
            axes.scatter(costs, accuracies, s=22, color=color, label=f"{label} ({len(points)})", linewidths=0)
    label = f"Pareto front ({len(front)})"
    across, up = [point[0] for point in front], [point[1] for point in front]
    axes.plot(across, up, color=ORANGE, marker="o", drawstyle="steps-post", label=label)
    for cost, accuracy, name in front:
        axes.annotate(name, (cost, accuracy), (-5, 6), textcoords="offset points", fontsize=8, color=INK, ha="right")
    every = [point[0] for point in (*done, *stopped)]
    if min(every) > 0 and max(every) > 8 * min(every):
        axes.set_xscale("log")
        _in_decades(axes.xaxis)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _dress(axes, "Accuracy against cost; a number names the trial")
    axes.set_xlabel(axes_labels[0])
    axes.set_ylabel(axes_labels[1], color=MUTED)
    axes.margins(0.08)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


@_plainly()
def compression(points: list[tuple[str, float, float, float, float, float | None]], metric: str, path: Path) -> None:
    """Accuracy against size of (name, kB, accuracy, low, high, milliseconds), to a PNG: colors are times."""
    figure = _figure(8.6, 5.0)
    axes = figure.add_subplot()
    sizes, accuracies, lows, highs = (np.array([point[i] for point in points]) for i in (1, 2, 3, 4))
    axes.errorbar(sizes, accuracies, [accuracies - lows, highs - accuracies], fmt="none", ecolor="#d5d5d5", elinewidth=1)
    times = [np.nan if point[5] is None else point[5] for point in points]
    drawn = axes.scatter(sizes, accuracies, s=60, c=times, cmap="viridis", zorder=3, plotnonfinite=True)
    axes.set_xscale("log")
    _in_decades(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _dress(axes, "Accuracy with its 95 % interval against size")
    axes.set_xlabel("kB of the deployed file")
    axes.set_ylabel(metric.replace("_", " "), color=MUTED)
    axes.margins(0.14)
    figure.colorbar(drawn, ax=axes, label="ms a window", pad=0.02)
    _name([(_drawn(name), size, accuracy) for name, size, accuracy, *_ in points], axes)
    _save(figure, path)


def _name(points: Sequence[tuple[str, float, float]], axes: Axes) -> None:
    """Writes each point's name beside it, where the least of other points and names is."""
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()  # settles where the points are
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axes.transData.transform([point[1:] for point in points])]
    for name, x, y in points:
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=8, color=INK, ha="center", va="center")
        text.set_in_layout(False)
        box = text.get_window_extent()
        away = box.width / 2 + 9
        spots = [box.translated(away * side, 11 * height) for height in (1, -1, 0, 2, -2, 3, -3) for side in (1, -1, 0)]
        inside = [spot for spot in spots if _shared(spot, axes.bbox) > 0.99 * _shared(spot, spot)] or spots
        best = min(inside, key=lambda spot: sum(_shared(spot, other) for other in taken))  # the first of equals
        text.set_position(((best.x0 - box.x0) * 72 / figure.dpi, (best.y0 - box.y0) * 72 / figure.dpi))
        taken.append(best)


def _shared(one: Bbox, other: Bbox) -> float:
    """The area of what two boxes share."""
    both = one.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)


_PANELS = [
    ("loss", [("train_loss", "training (augmented)", BLUE), ("valid_loss", "validation", ORANGE)]),
    ("validation accuracy", [("valid_accuracy", "validation", ORANGE)]),
    ("learning rate", [("learning_rate", "learning rate", MUTED)]),
]


def _series(logs: Path) -> dict[str, dict[int, float]]:
    """{name: {epoch: value}}; a resumed run's later parts have the last word."""
    series: dict[str, dict[int, float]] = defaultdict(dict)
    for file in sorted(logs.glob("part_*/metrics.csv"), key=lambda p: int(p.parent.name.removeprefix("part_"))):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                for name, value in row.items():
                    if value and name not in ("epoch", "step"):
                        series[name][int(row["epoch"])] = float(value)
    return series


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=130, layout="constrained")


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.grid(True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, length=0)
    axes.xaxis.label.set_color(MUTED)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#cccccc")


def _in_decades(axis: Axis) -> None:
    """Plain numbers at a logarithmic axis, whose own are formulas."""
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_minor_formatter(lambda value, _: f"{value:,.10g}" if f"{value:e}"[0] in "25" else "")


def _drawn(text: str, longest: int = LONGEST) -> str:
    """A name as it can be drawn: in one line, not too long, and what no font has by its code."""
    glyphs = _glyphs()
    known = "".join(
        c if ord(c) in glyphs or not c.isprintable() else c.encode("ascii", "backslashreplace").decode() for c in text
    )
    shown = visible(known)
    half = longest // 2
    return shown if len(shown) <= longest else f"{shown[:half]}…{shown[-half + 1 :]}"


@cache
def _families() -> list[str]:
    """The usual font, and those of `FONTS` that are here."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FONTS if name in there)]


@cache
def _glyphs() -> frozenset[int]:
    """The characters that can be drawn."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(code for name in _families() for code in get_font(findfont(name)).get_charmap())


def _save(figure: Figure, path: Path) -> None:
    named = path.suffix.removeprefix(".").lower()
    with replacing(path) as partial:
        figure.savefig(partial, format=named if named in figure.canvas.get_supported_filetypes() else "png")


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=8, color=color)


def _worst(counts: np.ndarray, most: int = 12) -> list[tuple[int, int]]:
    """(true, given) of the largest counts off the diagonal."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    return [(int(i // len(wrong)), int(i % len(wrong))) for i in order if wrong.flat[i] > 0]
