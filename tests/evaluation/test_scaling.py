"""Temperature and bias are those that the clips were made with, and stay finite where labels are all right."""

from __future__ import annotations

import numpy as np
import pytest

from audiorep.evaluation import scaling
from audiorep.info.calibration import calibrated


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def drawn(probabilities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One label a row (clips, K), as often as its probability says."""
    chosen = (probabilities.cumsum(1) > generator.random((len(probabilities), 1))).argmax(1)
    return np.eye(probabilities.shape[1], dtype=int)[chosen]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_a_softmax_is_found(temperature):
    generator = np.random.default_rng(3)
    values = 3 * generator.standard_normal((4000, 10))
    targets = drawn(softmax(values / temperature), generator)
    found = scaling.fit([scores[None] for scores in softmax(values)], targets, "softmax")
    assert found == {"temperature": pytest.approx(temperature, rel=0.06)}


@pytest.mark.parametrize(("temperature", "bias"), [(0.6, -1.5), (2.0, 0.8)])
def test_temperature_and_bias_of_a_sigmoid_are_found(temperature, bias):
    generator = np.random.default_rng(0)
    values = 2 * generator.standard_normal((2000, 6))
    targets = (generator.random(values.shape) < 1 / (1 + np.exp(-(values / temperature + bias)))).astype(int)
    found = scaling.fit([scores[None] for scores in 1 / (1 + np.exp(-values))], targets, "sigmoid")
    assert found == {"temperature": pytest.approx(temperature, rel=0.06), "bias": pytest.approx(bias, abs=0.08)}


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_labels_that_are_all_right_give_scores_below_one(activation):
    scores = np.where(np.eye(3), 0.8, 0.1).repeat(10, 0)
    found = scaling.fit([row[None] for row in scores], np.eye(3, dtype=int).repeat(10, 0), activation)
    assert 0.1 < found["temperature"] < 1
    assert 0.9 < calibrated(scores, found, activation)[0, 0] < 1


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_labels_that_are_all_wrong_and_scores_of_zero_and_one_stay_finite(activation):
    scores = np.eye(3, dtype=np.float32).repeat(10, 0)
    found = scaling.fit([row[None] for row in scores], np.roll(np.eye(3, dtype=int), 1, 1).repeat(10, 0), activation)
    assert all(np.isfinite(value) for value in found.values())
    assert found["temperature"] > 5


def test_a_clip_counts_once_however_many_windows_it_has():
    generator = np.random.default_rng(0)
    scores = softmax(2 * generator.standard_normal((60, 4)))
    targets = drawn(scores, generator)
    once = scaling.fit([row[None] for row in scores], targets, "softmax")
    many = scaling.fit([np.tile(row, (1 + 9 * (place % 2), 1)) for place, row in enumerate(scores)], targets, "softmax")
    assert many["temperature"] == pytest.approx(once["temperature"])
