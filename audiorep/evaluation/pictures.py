"""Pictures of a training, an evaluation, a search, a compression and a benchmark."""

from __future__ import annotations

import csv
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep.evaluation.metrics import Scorecard, in_words
from audiorep.evaluation.plotting import (
    BLUE,
    BORDER,
    CARD,
    GOLD,
    GRAY,
    GREEN,
    GRID,
    INK,
    LONGEST,
    MARKS,
    MUTED,
    ORANGE,
    PALE,
    PURPLE,
    TEXT_SIZE,
    card,
    drawable,
    dress,
    kilobytes,
    legend,
    log_ticks,
    look,
    number,
    percent,
    place_names,
    save,
    title,
)  # fmt: skip
from audiorep.evaluation.reliability import BINS, Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COUNTED = 20  # classes up to which every cell shows its count
METRICS = {"top1": "top-1 accuracy", "top5": "top-5 accuracy"}
RUNTIMES = {"eager": GRAY, "channels_last": GOLD, "compiled": GREEN, "onnx": BLUE, "openvino": ORANGE}
"""A color for each runtime of a benchmark, the same in every picture."""
FILLED: dict[str, Any] = {"fp32": "full", "int8": "none", "bf16": "left"}
"""How a benchmark's mark is filled for each precision."""


# ---------------------------------------------------------------- a training
@look()
def curves(logs: Path, path: Path) -> None:
    """Loss, accuracy and learning rate by epoch, from all `metrics.csv` files below `logs`, to a PNG."""
    series = _series(logs)
    panels = [panel for panel in _PANELS if any(name in series for name, _, _ in panel[1])]
    figure = card(max(3.7 * len(panels), 4.8), 3.5)
    handles: dict[str, Line2D] = {}
    for index, (name, lines) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), index)
        dress(axes, "epoch", "")
        axes.set_title(name, loc="left", fontsize=10, color=INK)
        for line, label, color in lines:
            if line in series:
                handles.setdefault(label, _draw_line(axes, series[line], label, color))
        _set_epochs(axes, name)
    legend(figure, [handle for label, handle in handles.items() if label])
    save(figure, path)


_PANELS = [
    ("loss", [("train_loss", "training (augmented clips)", BLUE), ("valid_loss", "validation", ORANGE)]),
    ("validation accuracy", [("valid_accuracy", "validation", ORANGE)]),
    ("learning rate", [("learning_rate", "", MUTED)]),
]


def _draw_line(axes: Axes, values: dict[int, float], label: str, color: str) -> Line2D:
    epochs, heights = zip(*sorted(values.items()), strict=True)
    [line] = axes.plot(np.array(epochs) + 1, heights, color=color, label=label, marker="o" if len(epochs) == 1 else None)
    return line


def _set_epochs(axes: Axes, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.set_xlim(0, 1.03 * max(np.max(line.get_xdata()) for line in axes.lines))
    if name.endswith("accuracy"):
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    else:
        axes.set_ylim(0, 1.05 * _highest(axes))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")


def _highest(axes: Axes) -> float:
    """The largest value that is drawn; 1 where none is a number above 0."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    return max((float(value) for value in values if np.isfinite(value) and value > 0), default=1.0)


def _series(logs: Path) -> dict[str, dict[int, float]]:
    """{name: {epoch: value}}; the later parts of a resumed run replace earlier ones."""
    series: dict[str, dict[int, float]] = defaultdict(dict)
    for file in sorted(logs.glob("part_*/metrics.csv"), key=lambda p: int(p.parent.name.removeprefix("part_"))):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                for name, value in row.items():
                    if value and name not in ("epoch", "step"):
                        series[name][int(row["epoch"])] = float(value)
    return series


# ---------------------------------------------------------------- an evaluation
@look()
def confusion(scores: Scorecard, labels: list[str], heading: str, path: Path) -> None:
    """The confusion matrix as shares of each true class, with its largest confusions named beside it, to a PNG.

    The first two metrics stand below the heading. A multi-label task has no confusion matrix, and so no picture.
    """
    if scores.confusion is None:
        return
    counts = scores.confusion.astype(float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(3.4 + 0.17 * len(labels), 16.0)
    figure = card(side + 3.4, side + 0.8)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [drawable(label) for label in labels]
    _name_classes(axes, names, side)
    if len(labels) <= COUNTED:
        _write_counts(axes, counts, shares)
    lines = [f"{names[true]} → {names[given]}: {int(counts[true, given])}" for true, given in _worst(counts)]
    text = "Most confused (true → recognized)\n" + "\n".join(lines) if lines else "No confusions"
    axes.text(1.03, 1.0, text, transform=axes.transAxes, va="top", linespacing=1.6)
    title(figure, f"{heading}\n{in_words(dict(list(scores.summary.items())[:2]))}")
    save(figure, path)


def _name_classes(axes: Axes, names: list[str], side: float) -> None:
    """Class names at both axes; where there are more than fit, every second, third … one."""
    size = TEXT_SIZE if len(names) <= 12 else 6.5
    step = int(np.ceil(1.2 * size * len(names) / (72 * 0.75 * side)))
    ticks = range(0, len(names), step)
    axes.set_xticks(ticks, names[::step], rotation=90, fontsize=size, color=INK)
    axes.set_yticks(ticks, names[::step], fontsize=size, color=INK)
    if len(names) <= 3 * COUNTED:
        axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=GRID, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("recognized as")
    axes.set_ylabel("true class")
    for spine in axes.spines.values():
        spine.set_color(BORDER)


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


@look()
def reliability(found: Mapping[str, Reliability], heading: str, path: Path) -> None:
    """The share of right labels against the mean score of each bin of clips, a panel a head, to a PNG.

    Bars from the points to the diagonal are the errors whose mean is the expected calibration error.
    """
    figure = card(max(4.4 * len(found), 6.4), 4.8)
    for place, (head, one) in enumerate(found.items(), 1):
        axes = figure.add_subplot(1, len(found), place)
        scores, right = (np.array([getattr(part, name) for part in one.bins]) for name in ("score", "right"))
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2)
        axes.vlines(scores, np.minimum(scores, right), np.maximum(scores, right), color=ORANGE, linewidth=1.4)
        axes.plot(scores, right, linestyle="", marker="o", markersize=5, color=BLUE)
        dress(axes, "score of the best label", "share of right labels")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: percent(value))
        name = f"{drawable(head)}: " if len(found) > 1 else ""
        axes.set_title(f"{name}error {one.error:.3f}, by chance {one.by_chance:.3f}", loc="left", fontsize=TEXT_SIZE, color=INK)
    title(figure, f"{heading}\nReliability in {BINS} bins of equally many clips")
    save(figure, path)


# ---------------------------------------------------------------- a benchmark
@dataclass(frozen=True)
class Speed:
    """The time that one network takes in one way of running."""

    network: str
    form: str
    runtime: str
    precision: str
    batch: int
    parameters: int
    milliseconds: float
    """A clip."""


@look()
def speeds(points: Sequence[Speed], processor: str, path: Path) -> None:
    """Time a clip of networks in all forms, runtimes, precisions and batch sizes, a line each network and form, to a PNG."""
    lines = list(dict.fromkeys((point.network, point.form) for point in points))
    batches, runtimes = sorted({point.batch for point in points}), list(dict.fromkeys(point.runtime for point in points))
    apart = 0.14 + 0.16 * len(batches)  # inches
    figure = card(9.2, 1.6 + apart * len(lines))
    axes = figure.add_subplot()
    for point in points:
        by_batch = 0.16 * (batches.index(point.batch) - (len(batches) - 1) / 2)
        by_runtime = 0.025 * (runtimes.index(point.runtime) - (len(runtimes) - 1) / 2)  # equal times stay visible
        height = lines.index((point.network, point.form)) + (by_batch + by_runtime) / apart
        axes.plot(point.milliseconds, height, **_mark(point, batches))
    _name_lines(axes, points, lines)
    _set_times(axes, [point.milliseconds for point in points])
    dress(axes, f"milliseconds per clip on {drawable(processor, 40)}", "")
    axes.grid(False, axis="y")
    legend(figure, _keys(points, batches))
    title(figure, "Time per clip (further left is faster)")
    save(figure, path)


def _mark(point: Speed, batches: list[int]) -> dict[str, Any]:
    """How a point is drawn: color by runtime, shape by batch size, filling by precision."""
    color = RUNTIMES.get(point.runtime, PURPLE)
    return {
        "color": color,
        "marker": MARKS[batches.index(point.batch) % len(MARKS)],
        "fillstyle": FILLED.get(point.precision, "top"),
        "linestyle": "",
        "markersize": 6,
        "markeredgecolor": CARD if point.precision == "fp32" else color,
        "markeredgewidth": 0.6 if point.precision == "fp32" else 1.4,
    }


def _name_lines(axes: Axes, points: Sequence[Speed], lines: list[tuple[str, str]]) -> None:
    sizes = {(point.network, point.form): point.parameters for point in points}
    networks = [network for network, _ in lines]
    names = [
        f"{drawable(network)}   {form}, {number(sizes[network, form])} parameters"
        if row == 0 or networks[row - 1] != network
        else f"{form}, {number(sizes[network, form])} parameters"
        for row, (network, form) in enumerate(lines)
    ]
    axes.set_yticks(range(len(lines)), names)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    for row in range(len(lines)):
        starts = row == 0 or networks[row - 1] != networks[row]
        axes.axhline(row - 0.5, color=BORDER if starts else GRID, linewidth=0.8 if starts else 0.6, zorder=0)


def _set_times(axes: Axes, times: list[float]) -> None:
    """A logarithmic axis for times far apart; one from 0 for times that are close, which would else look far apart."""
    if max(times) < 4 * min(times):
        axes.set_xlim(0, 1.12 * max(times))
        return
    axes.set_xscale("log")
    axes.set_xlim(min(times) / 1.15, max(times) * 1.15)
    log_ticks(axes.xaxis, number)


def _keys(points: Sequence[Speed], batches: list[int]) -> list[Line2D]:
    """What colors, shapes and fillings mean, each once, where there are several."""
    from matplotlib.lines import Line2D

    runtimes = dict.fromkeys(point.runtime for point in points)
    precisions = list(dict.fromkeys(point.precision for point in points))
    keys = [Line2D([], [], lw=5, color=RUNTIMES.get(name, PURPLE), label=name, solid_capstyle="butt") for name in runtimes]
    gray: dict[str, Any] = {"linestyle": "", "color": MUTED, "markersize": 6}
    if len(batches) > 1:
        keys += [
            Line2D([], [], marker=MARKS[k % len(MARKS)], label=f"batch of {batch}", **gray) for k, batch in enumerate(batches)
        ]
    if len(precisions) > 1:
        keys += [Line2D([], [], marker="o", fillstyle=FILLED.get(name, "top"), label=name, **gray) for name in precisions]
    return keys


# ---------------------------------------------------------------- a search
@look()
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
    figure = card(8.6, 5.0)
    axes = figure.add_subplot()
    handles: list[Any] = []
    for points, color, label in ((stopped, PALE, "stopped early"), (done, BLUE, "trained to the end")):
        if points:
            costs, accuracies = zip(*points, strict=True)
            handles.append(axes.scatter(costs, accuracies, s=24, color=color, label=f"{label} ({len(points)})", linewidths=0))
    across, up = [point[0] for point in front], [point[1] for point in front]
    label = f"Pareto front ({len(front)})"
    handles += axes.plot(across, up, color=ORANGE, marker="o", drawstyle="steps-post", label=label)
    dress(axes, *axes_labels)
    axes.margins(0.08)
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    every = [point[0] for point in (*done, *stopped)]
    if min(every) > 0 and max(every) > 8 * min(every):
        axes.set_xscale("log")
        log_ticks(axes.xaxis, number)
    legend(figure, handles)
    title(figure, "Accuracy against cost; the numbers are those of the trials")
    _name_trials(axes, [*done, *stopped], front)
    save(figure, path)


def _name_trials(axes: Axes, points: list[tuple[float, float]], front: list[tuple[float, float, str]]) -> None:
    """The numbers of the best trials, beside all points and beside the steps that connect the best."""
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()
    corners = axes.transData.transform([point[:2] for point in front])
    pairs = list(itertools.pairwise(corners))
    flat = [Bbox([[x, y - 2], [x_next, y + 2]]) for (x, y), (x_next, _) in pairs]
    upright = [Bbox([[x - 2, min(y, y_next)], [x + 2, max(y, y_next)]]) for (_, y), (x, y_next) in pairs]
    dots = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in axes.transData.transform(points)]
    place_names([(name, cost, accuracy) for cost, accuracy, name in front], axes, [*flat, *upright, *dots])


# ---------------------------------------------------------------- a compression
Step = tuple[str, float, float, float, float, float | None]
"""Name, kB, accuracy, its lowest and highest value, milliseconds."""


@look()
def compression(points: Sequence[Step], metric: str, path: Path) -> None:
    """Accuracy with its interval against size, with the time of each step, to a PNG."""
    figure = card(8.6, 5.0)
    axes = figure.add_subplot()
    sizes, accuracies, lows, highs = (np.array([point[i] for point in points]) for i in (1, 2, 3, 4))
    axes.errorbar(sizes, accuracies, [accuracies - lows, highs - accuracies], fmt="none", ecolor=PALE, elinewidth=1.2)
    axes.plot(sizes, accuracies, linestyle="", marker="o", markersize=7, color=BLUE)
    dress(axes, "size of the file", METRICS.get(metric, metric.replace("_", " ")))
    axes.set_xscale("log")
    axes.margins(x=0.22, y=0.14)
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.03))
    log_ticks(axes.xaxis, kilobytes)
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    title(figure, "Accuracy, with its 95% interval, against size; the times are those of one window")
    _name_steps(axes, points)
    save(figure, path)


def _name_steps(axes: Axes, points: Sequence[Step]) -> None:
    """Names and times of the steps, beside all points and the lines of their intervals."""
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()
    ends = [axes.transData.transform([(size, low), (size, high)]) for _, size, _, low, high, _ in points]
    lines = [Bbox([[x - 2, bottom], [x + 2, top]]) for (x, bottom), (_, top) in ends]
    place_names([(_timed(name, time), size, accuracy) for name, size, accuracy, _, _, time in points], axes, lines)


def _timed(name: str, milliseconds: float | None) -> str:
    """A step's name with its time, where it has one."""
    shown = drawable(name, LONGEST)
    return shown if milliseconds is None else f"{shown}, {milliseconds:.2g} ms"
