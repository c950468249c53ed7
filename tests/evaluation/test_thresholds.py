"""Thresholds of classes: best F1, a precision with a bound, and the common one where clips are few."""

from __future__ import annotations

import numpy as np
import pytest

from audiorep.evaluation import thresholds
from audiorep.evaluation.intervals import wilson, wilson_bound


def test_bounds_are_the_ends_of_the_interval():
    low, high = wilson(0.7, 50)
    assert wilson_bound(0.7, 50, -1.959964) == pytest.approx(low)
    assert wilson_bound(0.7, 50, 1.959964) == pytest.approx(high)


def several(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two classes (clips, 2) that are probabilities, and what is true."""
    generator = np.random.default_rng(seed)
    scores = generator.random((count, 2))
    return scores, (generator.random((count, 2)) < scores).astype(int)


def test_best_f1_of_probabilities_lies_at_half_its_best_value():
    scores, targets = several(20_000)
    found = thresholds.choose(scores, targets, "sigmoid", "f1", 0.9)
    labels = thresholds.reported(scores, np.array(found.classes), "sigmoid")
    best = 2 * targets[labels].sum() / (labels.sum() + targets.sum())
    assert found.common == pytest.approx(best / 2, abs=0.05)  # Lipton et al., arXiv 1402.1892


def test_a_precision_is_reached_on_other_clips():
    found = thresholds.choose(*several(4000), "sigmoid", "precision", 0.9)
    scores, targets = several(20_000, seed=1)
    labels = thresholds.reported(scores, np.array(found.classes), "sigmoid")
    assert 0.89 <= targets[labels].mean() <= 0.94


def test_a_precision_that_no_score_reaches_has_no_threshold():
    scores = np.random.default_rng(0).random((200, 2))
    found = thresholds.choose(scores, np.zeros((200, 2), int), "sigmoid", "precision", 0.9)
    assert found.common is None
    assert min(found.classes) == 1.0


def test_a_class_of_few_clips_has_nearly_the_common_threshold_and_one_of_many_its_own():
    scores, targets = several(2000)
    targets[:, 0] = scores[:, 0] > 0.2  # the first class is surer than it says
    many = thresholds.choose(scores, targets, "sigmoid", "precision", 0.9)
    assert many.classes[0] < 0.3
    few = np.concatenate([np.flatnonzero(targets[:, 0])[:3], np.flatnonzero(targets[:, 0] == 0)])
    found = thresholds.choose(scores[few], targets[few], "sigmoid", "precision", 0.9)
    assert abs(found.classes[0] - found.common) < 0.1


def test_a_single_label_is_reported_from_its_threshold_and_only_if_it_is_the_best():
    scores = np.array([[0.6, 0.4], [0.45, 0.55]])
    assert thresholds.reported(scores, np.array([0.5, 0.6]), "softmax").tolist() == [[True, False], [False, False]]
    assert thresholds.reported(scores, np.array([0.4, 0.5]), "sigmoid").tolist() == [[True, False], [True, True]]


def test_a_threshold_lies_halfway_to_the_next_score_and_equal_scores_stay_together():
    scores = np.array([[0.9], [0.8], [0.4], [0.4]])
    found = thresholds.choose(scores, np.array([[1], [1], [1], [0]]), "sigmoid", "f1", 0.9)
    assert found.common == pytest.approx(0.2)
    found = thresholds.choose(scores, np.array([[1], [1], [0], [0]]), "sigmoid", "f1", 0.9)
    assert found.common == pytest.approx(0.6)
