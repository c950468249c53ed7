"""How far scores are probabilities: the error, its interval, and the share that is answered."""

from __future__ import annotations

import numpy as np
import pytest

from audiorep.evaluation.reliability import BINS, coverage, reliability


def clips(count: int, power: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores (clips, 2) and targets of which the better label is right as often as its score to that power says."""
    generator = np.random.default_rng(seed)
    best = generator.uniform(0.5, 1.0, count)
    right = generator.random(count) < best**power
    return np.stack([best, 1 - best], 1).astype(np.float32), np.stack([right, ~right], 1).astype(int)


def test_scores_that_are_probabilities_have_an_error_near_zero():
    found = reliability(*clips(6000))
    assert found.error < 0.025
    assert found.error < 2 * found.by_chance
    assert found.low == 0.0


def test_scores_that_claim_too_much_have_their_mean_error():
    scores, targets = clips(6000, power=2.0)
    found = reliability(scores, targets)
    best = scores.max(1)
    assert found.error == pytest.approx(float(np.mean(best - best**2)), abs=0.015)
    assert found.low < float(np.mean(best - best**2)) < found.high
    assert all(part.score > part.right for part in found.bins)


def test_bins_have_equally_many_clips_and_give_the_error_by_hand():
    scores, targets = clips(100)
    found = reliability(scores, targets)
    assert len(found.bins) == BINS
    assert {part.clips for part in found.bins} == {6, 7}
    by_hand = sum(part.clips * abs(part.score - part.right) for part in found.bins) / 100
    assert found.error == pytest.approx(by_hand)


def test_few_clips_differ_by_chance_and_the_interval_says_so():
    found = reliability(*clips(60, seed=1))
    assert found.error > 0.1
    assert found.by_chance > 0.1
    assert found.low == 0.0


def test_a_clip_of_several_labels_is_right_if_its_best_is_one_of_them():
    found = reliability(np.array([[0.9, 0.8], [0.9, 0.8]]), np.array([[1, 1], [0, 1]]))
    assert [part.right for part in found.bins] == [1.0, 0.0]


def test_coverage_is_the_largest_share_that_reaches_the_precision():
    best = np.array([0.95, 0.9, 0.8, 0.7, 0.6])
    assert coverage(best, np.array([1, 1, 0, 1, 1], bool), 0.8) == (0.6, 1.0)
    assert coverage(best, np.array([1, 1, 0, 1, 0], bool), 0.75) == (0.7, 0.8)
    assert coverage(best, np.zeros(5, bool), 0.9) == (None, 0.0)


def test_equal_scores_are_answered_together():
    best = np.array([0.9, 0.5, 0.5])
    assert coverage(best, np.array([1, 1, 0], bool), 0.9) == (0.9, pytest.approx(1 / 3))


def test_values_for_json_and_for_people_are_the_same():
    found = reliability(*clips(300))
    values = found.as_dict()
    assert values["expected_calibration_error"] == found.error
    assert values["answered"] == {"precision": 0.9, "share": found.answered, "threshold": found.threshold}
    assert f"{found.error:.3f}" in found.in_words
    assert f"{found.answered:.0%}" in found.in_words
