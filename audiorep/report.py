"""What a training leaves for people: pictures and a model card."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep import checkpoint
from audiorep.evaluate import Evaluation
from audiorep.files import replacing, write_json, write_text
from audiorep.metrics import Scorecard, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    from audiorep.checkpoint import Checkpoint
    from audiorep.models import Cost

CURVES, CONFUSION = "curves.png", "confusion.png"
COUNTED = 20  # classes up to which every cell shows its count
MARKS = "osD^vP*Xhd<>p8"
INK, MUTED, BLUE, ORANGE = "#222222", "#8a8a8a", "#1f6fb4", "#d9730d"


def curves(logs: Path, path: Path) -> None:
    """Loss, accuracy and learning rate by epoch, from all `metrics.csv` files below `logs`, to a PNG."""
    from matplotlib.ticker import MaxNLocator

    series = _series(logs)
    panels = [panel for panel in _PANELS if any(name in series for name, _, _ in panel[1])]
    figure = _figure(4.2 * len(panels) + 0.4, 3.4)
    for index, (title, lines) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), index)
        for name, label, colour in lines:
            if name in series:
                epochs, values = zip(*sorted(series[name].items()), strict=True)
                axes.plot(np.array(epochs) + 1, values, color=colour, label=label, marker="." if len(epochs) == 1 else None)
        _dress(axes, title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if title.endswith("accuracy"):
            axes.set_ylim(0, 1)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        if len(lines) > 1 and len(axes.lines) > 1:
            axes.legend(frameon=False)
    _save(figure, path)


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
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(len(labels)), labels, fontsize=size)
    axes.set_xlabel("recognised as")
    axes.set_ylabel("true class")
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(labels) <= COUNTED:
        _write_counts(axes, counts, shares)
    lines = [f"{labels[true]} → {labels[given]}: {int(counts[true, given])}" for true, given in _worst(counts)]
    text = "Most confused\n" + "\n".join(lines) if lines else "No confusions"
    axes.text(1.03, 1.0, text, transform=axes.transAxes, va="top", fontsize=9, color=INK, linespacing=1.6)
    _save(figure, path)


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
            str(network),
            (fastest[2], fastest[3]),
            xytext=(0, 7),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            ha="center",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _dress(axes, "")
    axes.set_xlabel(axis)
    axes.set_ylabel(size)
    axes.margins(0.12)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


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
    for points, colour, label in ((stopped, "#d5d5d5", "stopped early"), (done, BLUE, "trained to the end")):
        if points:
            costs, accuracies = zip(*points, strict=True)
            axes.scatter(costs, accuracies, s=22, color=colour, label=f"{label} ({len(points)})", linewidths=0)
    label = f"Pareto front ({len(front)})"
    across, up = [point[0] for point in front], [point[1] for point in front]
    axes.plot(across, up, color=ORANGE, marker="o", drawstyle="steps-post", label=label)
    for cost, accuracy, name in front:
        axes.annotate(name, (cost, accuracy), (-5, 6), textcoords="offset points", fontsize=8, color=INK, ha="right")
    every = [point[0] for point in (*done, *stopped)]
    if min(every) > 0 and max(every) > 8 * min(every):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _dress(axes, "Accuracy against cost; a number names the trial")
    axes.set_xlabel(axes_labels[0])
    axes.set_ylabel(axes_labels[1], color=MUTED)
    axes.margins(0.08)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def compression(points: list[tuple[str, float, float, float, float, float | None]], metric: str, path: Path) -> None:
    """Accuracy against size of (name, kB, accuracy, low, high, milliseconds), to a PNG: colours are times."""
    figure = _figure(8.6, 5.0)
    axes = figure.add_subplot()
    sizes, accuracies, lows, highs = (np.array([point[i] for point in points]) for i in (1, 2, 3, 4))
    axes.errorbar(sizes, accuracies, [accuracies - lows, highs - accuracies], fmt="none", ecolor="#d5d5d5", elinewidth=1)
    times = [np.nan if point[5] is None else point[5] for point in points]
    drawn = axes.scatter(sizes, accuracies, s=60, c=times, cmap="viridis", zorder=3, plotnonfinite=True)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if str(value)[0] in "25" else "")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _dress(axes, "Accuracy with its 95 % interval against size")
    axes.set_xlabel("kB of the deployed file")
    axes.set_ylabel(metric.replace("_", " "), color=MUTED)
    axes.margins(0.14)
    figure.colorbar(drawn, ax=axes, label="ms a window", pad=0.02)
    _name([(name, size, accuracy) for name, size, accuracy, *_ in points], axes)
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


def model_card(model: Checkpoint, evaluations: list[Evaluation], cost: Cost, attribution: str) -> str:
    """The checkpoint's `README.md`: what it is, what it was trained on, how well it does and where it fails."""
    info, front = model.info, model.info.front_end
    clips = info.provenance.get("clips", {})
    size = f"{cost.parameters:,} parameters in training form, {cost.macs / 1e6:,.1f} M multiply-accumulates a window"
    hearing = f"{front['mels']} mel bands, {front['window_ms']:g} ms window, {front['hop_ms']:g} ms hop"
    chosen = f"epoch that was best on {clips['valid']} others" if clips.get("valid") else "last epoch"
    sections = [
        f"# {info.name}\n",
        f"Recognises {_count(info.labels)} in {info.window_seconds:g} s windows of {info.sample_rate} Hz sound, {info.task}.\n",
        f"- Architecture: `{model.architecture}`, {size}",
        f"- Front end: {hearing}",
        f"- Trained on {clips.get('train', '?')} clips; weights of the {chosen}",
        *[f"- Distilled from {_teacher_text(teacher)}" for teacher in info.provenance.get("teachers", [])],
        f"- Made with audiorep {info.provenance.get('audiorep', '?')}",
        f"- Licence of the weights: {info.licence}\n",
    ]
    sections += [_evaluation_text(evaluation) for evaluation in evaluations]
    if attribution:
        sections.append(f"## Data\n\n{attribution}\n")
    sections.append(
        "## Use\n\n```\naudiorep export . -o model.onnx\naudiorep predict sounds/ --model model.onnx\n```\n\n"
        "Scores are relative to the classes above: a sound of another kind still gets one of their names. Measure on your own "
        "recordings before relying on it.\n"
    )
    return "\n".join(sections)


def write(folder: Path, model: Checkpoint, evaluations: list[Evaluation], cost: Cost) -> None:
    """`metrics.json`, model card and pictures of a trained checkpoint, into its folder."""
    write_json(
        folder / checkpoint.METRICS, {e.split.removeprefix("random ").partition(" ")[0]: e.summary() for e in evaluations}
    )
    attribution = str(model.info.provenance.get("attribution", ""))
    write_text(folder / checkpoint.CARD, model_card(model, evaluations, cost, attribution))
    curves(folder / checkpoint.LOGS, folder / CURVES)
    for evaluation in evaluations[:1]:
        for head, card in evaluation.heads.items():
            name = CONFUSION if len(evaluation.heads) == 1 else CONFUSION.replace(".", f"_{head}.")
            confusion(card, model.info.labels[head], f"{evaluation.title}\n{_headline(card, 2)}", folder / name)


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


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial)


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=8, color=colour)


def _worst(counts: np.ndarray, most: int = 12) -> list[tuple[int, int]]:
    """(true, given) of the largest counts off the diagonal."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    return [(int(i // len(wrong)), int(i % len(wrong))) for i in order if wrong.flat[i] > 0]


def _headline(card: Scorecard, first: int | None = None) -> str:
    return in_words(dict(list(card.summary.items())[:first]))


def _count(labels: dict[str, list[str]]) -> str:
    return " and ".join(f"{len(names)} classes" + (f" ({head})" if len(labels) > 1 else "") for head, names in labels.items())


def _teacher_text(teacher: dict[str, Any]) -> str:
    """A teacher's name, and what it reached on the first clips it was measured on."""
    for title, heads in teacher.get("measured", {}).items():
        numbers = "; ".join(in_words(dict(list(summary.items())[:2])) for summary in heads.values())
        return f"`{teacher['name']}` ({numbers} on the {title})"
    return f"`{teacher['name']}`"


def _evaluation_text(evaluation: Evaluation) -> str:
    lines = [f"## Measured on the {evaluation.title}\n"]
    if evaluation.joint:
        lines.append(f"All heads at once: {in_words(evaluation.joint)}\n")
    for head, card in evaluation.heads.items():
        weak = sorted((row for row in card.classes if row.clips), key=lambda row: (row.recall, row.average_precision))[:8]
        lines.append(f"`{head}`: {_headline(card)}\n")
        lines.append("Weakest classes:\n\n| class | clips | recognised | mistaken most for |\n|---|---|---|---|")
        lines += [f"| {row.label} | {row.clips} | {row.recall:.0%} | {row.mistaken_for or '—'} |" for row in weak]
    return "\n".join(lines) + "\n"
