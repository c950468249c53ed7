"""Pictures: readable ticks, each mark once in the legend, names that stay apart, nothing outside the card."""

from __future__ import annotations

import csv
import itertools
import json

import numpy as np
import pytest
from support import ROOT

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from matplotlib.text import Text

from audiorep.evaluation import pictures, plotting
from audiorep.evaluation.metrics import Scorecard
from audiorep.evaluation.reliability import reliability


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that are saved, with everything in its place."""
    figures: list[Figure] = []

    def keep(figure, path):
        figure.draw_without_rendering()
        figures.append(figure)

    monkeypatch.setattr(pictures, "save", keep)
    return figures


def ticks(axis) -> list[str]:
    """The tick labels that are seen: an axis also keeps some outside its view."""
    low, high = sorted(axis.get_view_interval())
    places = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return [label.get_text() for place, label in places if low <= place <= high]


def assert_inside(figure: Figure) -> None:
    """What is seen lies on the card, and so no text is cut."""
    card = figure.bbox
    parts = [*figure.axes, *figure.legends, figure._suptitle, *(text for axes in figure.axes for text in axes.texts)]
    boxes = [part.get_tightbbox() for part in parts if part is not None]
    assert all(card.x0 <= box.x0 and box.x1 <= card.x1 and card.y0 <= box.y0 and box.y1 <= card.y1 for box in boxes)


def assert_apart(texts: list[Text]) -> None:
    boxes = [text.get_window_extent() for text in texts]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (20, "20"),
        (999, "999"),
        (8000, "8,000"),
        (795189, "795 k"),
        (1e6, "1 M"),
        (11834869, "11.8 M"),
        (3e9, "3 G"),
    ],
)
def test_numbers_are_short(value, text):
    assert plotting.number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.5, "0.5 kB"), (456.4, "456 kB"), (999.9, "1 MB"), (3444.451, "3.44 MB")])
def test_sizes_have_units(value, text):
    assert plotting.kilobytes(value) == text


@pytest.mark.parametrize(("low", "high"), [(0.8, 1.1), (27, 130), (30, 1100), (1, 9.9), (0.002, 70), (1, 1e9)])
def test_logarithmic_axes_have_three_to_nine_ticks(low, high):
    axes = plotting.card(8, 4).add_subplot()
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    plotting.log_ticks(axes.xaxis, plotting.number)
    shown = ticks(axes.xaxis)
    assert 3 <= len(shown) <= 10
    assert len(set(shown)) == len(shown)


def speeds(batches=(1, 8), precisions=("fp32",)) -> list[pictures.Speed]:
    return [
        pictures.Speed(network, form, runtime, precision, batch, size, size / 1e6 * (1 + place) / batch**0.1)
        for network, size in (("arin_base", 11_834_869), ("slowfast", 26_661_234))
        for form in ("training", "fused")
        for place, runtime in enumerate(("onnx", "openvino", "eager"))
        for precision in precisions
        for batch in batches
    ]


def test_speeds_have_a_line_for_each_network_and_form_with_its_parameters(drawn, tmp_path):
    pictures.speeds(speeds(), "AMD EPYC", tmp_path / "p.png")
    axes = drawn[0].axes[0]
    assert ticks(axes.yaxis) == [
        "arin_base   training, 11.8 M parameters",
        "fused, 11.8 M parameters",
        "slowfast   training, 26.7 M parameters",
        "fused, 26.7 M parameters",
    ]
    assert len(ticks(axes.xaxis)) >= 3
    assert_inside(drawn[0])


def test_the_legend_of_speeds_names_each_mark_once(drawn, tmp_path):
    pictures.speeds(speeds(precisions=("fp32", "int8")), "AMD EPYC", tmp_path / "p.png")
    shown = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert shown == ["onnx", "openvino", "eager", "batch of 1", "batch of 8", "fp32", "int8"]
    pictures.speeds(speeds(batches=(1,)), "AMD EPYC", tmp_path / "p.png")
    assert [text.get_text() for text in drawn[1].legends[0].get_texts()] == ["onnx", "openvino", "eager"]


def test_close_times_are_drawn_from_zero_and_far_ones_in_decades(drawn, tmp_path):
    near = [pictures.Speed("a", "fused", "onnx", "fp32", 1, 10, time) for time in (1.9, 2.0)]
    pictures.speeds(near, "cpu", tmp_path / "p.png")
    pictures.speeds([*near, pictures.Speed("a", "fused", "eager", "fp32", 1, 10, 20.0)], "cpu", tmp_path / "p.png")
    assert drawn[0].axes[0].get_xscale() == "linear"
    assert drawn[0].axes[0].get_xlim()[0] == 0
    assert drawn[1].axes[0].get_xscale() == "log"


@pytest.mark.slow
def test_names_of_compression_steps_stay_apart_and_inside(drawn, tmp_path):
    near = [(f"0{place}_some_step", 500.0 + 20 * (place // 2), 0.9 + 0.001 * place, 0.88, 0.92, None) for place in range(6)]
    pictures.compression([*near, ("far", 4000.0, 0.5, 0.4, 0.6, 2.04)], "top1", tmp_path / "p.png")
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.texts] == [point[0] for point in near] + ["far, 2 ms"]
    assert_apart(axes.texts)
    assert_inside(drawn[0])
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in (text.get_window_extent() for text in axes.texts))
    assert axes.get_ylabel() == "top-1 accuracy"
    assert {"500 kB", "1 MB", "2 MB"} <= set(ticks(axes.xaxis))


@pytest.mark.slow
def test_the_trials_of_a_front_are_named_apart(drawn, tmp_path):
    values = json.loads((ROOT / "results" / "search" / "words.json").read_text())
    done = [(row["cost"] / 1e6, row["accuracy"]) for row in values["trials"] if row["accuracy"] is not None]
    front = [(row["cost"] / 1e6, row["accuracy"], str(row["number"])) for row in values["best"]]
    pictures.pareto(done, [], front, ("cost", "accuracy"), tmp_path / "p.png")
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.texts] == [name for _, _, name in front]
    assert_apart(axes.texts)
    assert ticks(axes.xaxis) == ["1", "2", "5", "10"]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [
        f"trained to the end ({len(done)})",
        f"Pareto front ({len(front)})",
    ]
    assert_inside(drawn[0])


@pytest.mark.slow
@pytest.mark.parametrize(("done", "stopped"), [([(1.0, 0.5)], []), ([(1.0, 0.5), (100.0, 0.9)], [(30.0, 0.2)])])
def test_a_lone_trial_and_wide_costs_are_drawn(done, stopped, tmp_path):
    pictures.pareto(done, stopped, [(*point, "3") for point in done], ("cost", "accuracy"), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("classes", [2, 20, *(pytest.param(n, marks=pytest.mark.slow) for n in (50, 309))])
def test_class_names_of_a_confusion_matrix_do_not_overlap(classes, drawn, tmp_path):
    counts = 9 * np.eye(classes, dtype=int)
    counts[0, 1] = 1
    labels = [f"playing something {k}" for k in range(classes)]
    card = Scorecard({"top1": 0.81, "top5": 0.9, "mean_auc": 0.95}, [], counts)
    pictures.confusion(
        card, labels, "test split of vggsound (15446 clips, 3 of them from recordings that were trained on)", tmp_path / "p.png"
    )
    axes = drawn[0].axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert all(not one.overlaps(other) for one, other in itertools.pairwise(boxes))
    assert ticks(axes.xaxis)[0] == "playing something 0"
    assert axes.texts[-1].get_text() == "Most confused (true → recognized)\nplaying something 0 → playing something 1: 1"
    assert drawn[0].get_suptitle().endswith("top1 81.0%, top5 90.0%")
    assert_inside(drawn[0])


def write_log(folder, rows) -> None:
    folder.mkdir(parents=True)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "step", "train_loss", "valid_loss", "valid_accuracy", "learning_rate"])
        writer.writerows(rows)


@pytest.mark.slow
def test_curves_name_training_and_validation_once(drawn, tmp_path):
    write_log(tmp_path / "part_0", [[k, k, 4 / (k + 1), 3 / (k + 1), k / 50, 0.003] for k in range(50)])
    pictures.curves(tmp_path, tmp_path / "p.png")
    figure = drawn[0]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "validation accuracy", "learning rate"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training (augmented clips)", "validation"]
    assert "50%" in ticks(figure.axes[1].yaxis) or "60%" in ticks(figure.axes[1].yaxis)
    assert_inside(figure)


@pytest.mark.slow
def test_curves_of_one_epoch_and_of_a_diverged_loss_are_drawn(drawn, tmp_path):
    write_log(tmp_path / "one" / "part_0", [[0, 1, 4.0, "", "", 0.003]])
    write_log(tmp_path / "lost" / "part_0", [[k, k, float("nan"), "", "", 0.0] for k in range(3)])
    for name in ("one", "lost"):
        pictures.curves(tmp_path / name, tmp_path / "p.png")
    assert ticks(drawn[0].axes[0].xaxis) == ["0", "1"]
    assert drawn[0].axes[0].get_ylim()[1] > 4.0
    assert drawn[1].axes[0].get_ylim() == (0, 1.05)


def test_pictures_are_cards_with_clear_corners(tmp_path):
    from matplotlib.image import imread

    pictures.speeds(speeds(), "AMD EPYC", tmp_path / "p.png")
    pixels = imread(tmp_path / "p.png")
    assert pixels[0, 0, 3] < 0.5  # the page shows at the rounded corner
    assert pixels[8, 8].tolist() == [1, 1, 1, 1]  # the card is solid


def test_a_reliability_diagram_has_a_panel_a_head_and_a_point_a_bin(drawn, tmp_path):
    generator = np.random.default_rng(0)
    scores = generator.dirichlet(np.ones(4), 300)
    found = reliability(scores, np.eye(4, dtype=int)[generator.integers(4, size=300)])
    pictures.reliability({"verb": found, "noun": found}, "test split (300 clips)", tmp_path / "p.png")
    pictures.reliability({"label": found}, "test split (300 clips)", tmp_path / "p.png")
    assert [axes.get_title(loc="left").partition(":")[0] for axes in drawn[0].axes] == ["verb", "noun"]
    points = drawn[1].axes[0].lines[-1].get_xydata()
    assert points.tolist() == [[part.score, part.right] for part in found.bins]
    assert f"{found.error:.3f}" in drawn[1].axes[0].get_title(loc="left")
    assert "100%" in ticks(drawn[1].axes[0].xaxis)
    assert_inside(drawn[0])
    assert_inside(drawn[1])
