"""Two models are compared on the same clips, with honest intervals, and a worse one is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audiorep.datasets import Example
from audiorep.errors import ConfigError
from audiorep.evaluation.compare import Accuracy, Difference, compare
from audiorep.evaluation.intervals import wilson
from audiorep.evaluation.scored import Scored

CLIPS = [Example(Path(f"{n}.wav"), {"label": ("a",)}) for n in range(40)]
TRUTH = np.eye(4, dtype=np.int64)[np.arange(40) % 4]


def judged(wrong: int, name: str = "model", metric: str = "top1", clips: list[Example] = CLIPS) -> Accuracy:
    """A model that is wrong on the first `wrong` clips."""
    scores = np.where(TRUTH, 0.7, 0.1).astype(np.float32)
    scores[:wrong] = np.roll(scores[:wrong], 1, 1)
    return Accuracy(
        name, 40, metric, 1 - wrong / 40, 0.0, 1.0, Scored(clips, {"label": scores}, {"label": TRUTH}, [], {"label": [*"abcd"]})
    )


def test_wilson_intervals_are_the_published_ones():
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_equal_models_do_not_differ():
    difference = compare(judged(8), judged(8))
    assert difference == Difference(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    assert difference.refusal(0.0, 1.0) is None


def test_a_worse_model_differs_by_what_it_loses():
    difference = compare(judged(8), judged(12))
    assert difference.change == pytest.approx(-0.1)
    assert difference.low < -0.1 < difference.high
    assert difference.low > -0.25
    assert difference.agreement == pytest.approx(0.9)
    assert difference.largest == pytest.approx(0.6)
    assert difference.mean == pytest.approx(4 * 2 * 0.6 / 160)
    assert difference.refusal(0.1) is None
    assert difference.refusal(0.05) == "accuracy falls by 10.0 points; 5 are allowed"
    assert difference.refusal(0.2, 0.95) == "labels are the same on 90.0% of the clips; 95.0% is needed"


def test_a_model_that_gives_nan_is_refused():
    assert Difference(float("nan"), 0, 0, 1.0, 0, 0).refusal(0.5)


@pytest.mark.slow
def test_multi_label_models_are_compared_by_average_precision():
    difference = compare(judged(0, metric="mean_average_precision"), judged(20, metric="mean_average_precision"))
    assert -0.9 < difference.change <= 0
    assert difference.low <= difference.change <= difference.high


def test_models_of_other_clips_or_classes_are_not_compared():
    with pytest.raises(ConfigError, match=r"one and other .*same clips"):
        compare(judged(0, "one"), judged(0, "other", clips=CLIPS[::-1]))
    turned = judged(0, "other")
    turned.scored.labels["label"].reverse()
    with pytest.raises(ConfigError, match=r"model and other .*classes"):
        compare(judged(0), turned)
