"""Thresholds of taught classes are those of the best F1 among clips that were left out, moved towards a half."""

from __future__ import annotations

import numpy as np
import pytest
from support.info import make_info

from audiorep.embeddings.few_shot import Examples, Layer
from audiorep.embeddings.limits import COMMON, OWN_CLIPS, limits

CALIBRATION = {"label": {"window": {"temperature": 2.0, "bias": 1.0}, "file": {"temperature": 0.5, "bias": 3.0}}}


def logits(scores: list[float]) -> np.ndarray:
    return np.log(np.array(scores) / (1 - np.array(scores)))[:, None]


def limit(scores: list[float], clips: list[int], positives: int, **changes) -> float:
    """The threshold of a class whose first clips are so many; windows have these scores when their clip is left out."""
    numbers = np.array(clips)
    examples = Examples(np.zeros((len(clips), 2)), numbers, np.where(numbers < positives, 0, -1), np.ones(len(clips)))
    layer = Layer(np.zeros((1, 2), np.float32), np.zeros(1, np.float32), logits(scores), 1.0)
    [found] = limits(layer, examples, make_info(activation="sigmoid", **changes))
    return found


def towards_common(own: float, clips: int) -> float:
    return (clips * own + OWN_CLIPS * COMMON) / (clips + OWN_CLIPS)


def test_a_file_scores_the_mean_of_its_windows():
    # two clips of 0.3 and 0.4, of two windows and of one; the background is at 0.1 and 0.2
    found = limit([0.2, 0.4, 0.4, 0.1, 0.2], [0, 0, 1, 2, 3], 2)
    assert found == pytest.approx(towards_common(0.25, 2), abs=1e-6)


def test_scores_are_calibrated_as_those_of_files():
    raw = 1 / (1 + np.exp(-(logits([0.7, 0.6, 0.2]) - 1.0) * 2.0))
    files = 1 / (1 + np.exp(-(np.log(raw / (1 - raw)) / 0.5 + 3.0)))
    found = limit([0.7, 0.6, 0.2], [0, 1, 2], 2, calibration=CALIBRATION)
    assert found == pytest.approx(towards_common(float(files[1:].mean()), 2), abs=1e-6)


def test_one_clip_says_nothing_and_many_say_all():
    assert limit([0.1, 0.9], [0, 1], 1) == COMMON
    many = 40 * OWN_CLIPS
    assert limit([0.9] * many + [0.5], list(range(many + 1)), many) == pytest.approx(0.7, abs=0.01)
