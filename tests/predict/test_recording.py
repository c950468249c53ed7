"""What a recording says: windows, the whole file, and stretches merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.info import make_info

from audiorep.predict.results import Detection, Recording


def make_recording(scores: list[list[float]], hop: float = 0.5, seconds: float | None = None, **changes: Any) -> Recording:
    info = make_info(**changes)
    starts = np.arange(len(scores)) * hop
    end = float(starts[-1]) + 1.0 if seconds is None else seconds
    return Recording(Path("a.wav"), info, end, starts, {head: np.array(scores) for head in info.labels})


SCORES = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]]


def test_files_scores_are_the_mean_of_its_windows():
    recording = make_recording(SCORES)
    np.testing.assert_allclose(recording.mean(), [0.3, 0.6, 0.1])
    assert recording.label == "peak"
    assert [(label, pytest.approx(score)) for label, score in recording.top(2)] == [("peak", 0.6), ("mean", 0.3)]
    assert [label for label, _ in recording.top(9)] == ["peak", "mean", "rest"]


def test_equal_scores_are_told_in_the_order_of_the_classes():
    assert [label for label, _ in make_recording([[0.2, 0.4, 0.4]]).top(3)] == ["peak", "rest", "mean"]


def test_detections_are_the_best_of_each_window_with_its_times():
    assert make_recording(SCORES).detections() == [
        Detection(0.0, 1.0, "label", "mean", 0.6),
        Detection(0.5, 1.5, "label", "peak", 0.7),
        Detection(1.0, 2.0, "label", "peak", 0.8),
    ]
    assert [d.label for d in make_recording(SCORES).detections(top=2)] == ["mean", "peak", "peak", "mean", "peak", "mean"]


def test_detection_ends_with_the_file():
    assert make_recording([[1, 0, 0]], seconds=0.3).detections()[0].end == 0.3


def test_detections_below_the_threshold_are_left_out():
    assert [d.score for d in make_recording(SCORES).detections(threshold=0.7)] == [0.7, 0.8]
    assert make_recording(SCORES).detections(threshold=0.9) == []


def test_models_own_thresholds_hold_per_class_unless_one_is_given():
    changes = {"activation": "sigmoid", "thresholds": {"label": [0.2, 0.75, 0.05]}}
    recording = make_recording(SCORES, **changes)
    assert [(d.start, d.label) for d in recording.detections(top=3)] == [
        (0.0, "mean"),
        (0.0, "rest"),
        (0.5, "mean"),
        (0.5, "rest"),
        (1.0, "peak"),
        (1.0, "rest"),
    ]
    assert [d.label for d in recording.whole(top=3)] == ["mean", "rest"]
    assert [d.label for d in recording.whole(top=3, threshold=0.5)] == ["peak"]


def test_several_labels_are_reported_from_a_half_where_the_model_has_no_thresholds():
    assert [d.label for d in make_recording(SCORES, activation="sigmoid").detections(top=3)] == ["mean", "peak", "peak"]


def test_whole_file_is_one_stretch():
    assert make_recording(SCORES, seconds=1.9).whole() == [Detection(0.0, 1.9, "label", "peak", pytest.approx(0.6))]


def test_windows_of_one_label_that_touch_are_merged_with_the_highest_score():
    scores = [[0.9, 0, 0], [0.5, 0, 0], [0, 0.6, 0], [0, 0.7, 0], [0.8, 0, 0], [0, 0.9, 0]]
    assert make_recording(scores, hop=1.0).merged() == [
        Detection(0.0, 2.0, "label", "mean", 0.9),
        Detection(2.0, 4.0, "label", "peak", 0.7),
        Detection(4.0, 5.0, "label", "mean", 0.8),
        Detection(5.0, 6.0, "label", "peak", 0.9),
    ]


def test_overlapping_windows_of_different_labels_are_merged_each_for_itself():
    scores = [[0.9, 0.6, 0], [0.8, 0.7, 0], [0.7, 0.1, 0]]
    assert make_recording(scores).merged(top=3, threshold=0.5) == [
        Detection(0.0, 2.0, "label", "mean", 0.9),
        Detection(0.0, 1.5, "label", "peak", 0.7),
    ]


def test_heads_are_reported_side_by_side():
    recording = make_recording(SCORES, labels={"verb": ["a", "b", "c"], "noun": ["x", "y", "z"]})
    assert [(d.head, d.label) for d in recording.whole()] == [("verb", "b"), ("noun", "y")]
    assert [(d.head, d.label) for d in recording.detections()][:2] == [("verb", "a"), ("noun", "x")]
    assert [(d.head, d.label, d.start) for d in recording.merged()] == [
        ("verb", "a", 0.0),
        ("noun", "x", 0.0),
        ("verb", "b", 0.5),
        ("noun", "y", 0.5),
    ]
    assert recording.top(1, "noun") == [("y", pytest.approx(0.6))]


TAGS = {"activation": "sigmoid", "thresholds": {"label": [0.5, 0.3, 0.7]}, "unknown": "unknown"}


def test_a_sound_with_any_number_of_labels_has_those_that_reach_their_thresholds():
    recording = make_recording([[0.6, 0.65, 0.66]], **TAGS)
    assert [d.label for d in recording.whole()] == ["peak", "mean"]
    assert [d.label for d in recording.whole(top=1)] == ["peak"]
    four = {"labels": {"label": list("abcd")}, "activation": "sigmoid"}
    assert [d.label for d in make_recording([[0.6, 0.7, 0.8, 0.9]], **four).whole()] == ["d", "c", "b"]


def test_where_no_label_reaches_its_threshold_the_sound_is_unknown():
    recording = make_recording([[0.1, 0.2, 0.65], [0.9, 0.1, 0.1], [0.1, 0.1, 0.1]], **TAGS)
    assert [(d.label, d.score) for d in recording.detections()] == [
        ("unknown", pytest.approx(0.35)),
        ("mean", 0.9),
        ("unknown", pytest.approx(0.9)),
    ]
    assert [(d.label, d.score) for d in recording.detections(threshold=0.8)] == [("mean", 0.9), ("unknown", 0.9)]
    assert [(d.label, d.score) for d in recording.whole()] == [("unknown", pytest.approx(1 - 1.1 / 3))]
    assert make_recording([[0.1, 0.2, 0.65]], **{**TAGS, "unknown": ""}).whole() == []
    assert make_recording([[0.1, 0.2, 0.65]], thresholds={"label": [1.0, 1.0, 1.0]}).whole() == []


NONE_OF_THEM = {"unknown": "rest"}


def test_a_sound_is_of_no_class_where_that_is_likelier_than_all_classes_together():
    recording = make_recording([[0.25, 0.3, 0.45], [0.2, 0.2, 0.6]], **NONE_OF_THEM)
    assert [(d.label, d.score) for d in recording.detections()] == [("peak", 0.3), ("rest", 0.6)]
    assert recording.label == "rest"
    assert [label for label, _ in recording.top(3)] == ["rest", "peak", "mean"]
    sure = make_recording([[0.25, 0.3, 0.45]], **NONE_OF_THEM)
    assert sure.label == "peak"
    assert sure.top(3) == [("peak", 0.3), ("mean", 0.25), ("rest", 0.45)]
    assert [d.label for d in sure.whole(top=3)] == ["peak", "mean", "rest"]
    assert make_recording([[0.25, 0.3, 0.45]]).label == "rest"


def test_other_scores_than_that_of_unknown_are_never_changed():
    scores = np.array([[[0.3, 0.3, 0.4], [0.1, 0.3, 0.6]]])
    found = make_info(**NONE_OF_THEM).contested("label", scores)
    np.testing.assert_array_equal(found, [[[0.3, 0.3, 0.0], [0.1, 0.3, 0.6]]])
    assert scores[0, 0, 2] == 0.4
    for other in (make_info(), make_info(**{**NONE_OF_THEM, "activation": "sigmoid"})):
        assert other.contested("label", scores) is scores
