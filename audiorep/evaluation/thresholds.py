"""The lowest score of each class at which a label is reported: by the best F1, or by a precision with Wilson's bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from audiorep.evaluation.intervals import wilson_bound

Rule = Literal["f1", "precision"]
RULES: tuple[Rule, ...] = ("f1", "precision")
BOUND = 0.84
"""Standard deviations by which a precision lies above its lower bound: the precision is reached in four of five cases."""
OWN_CLIPS = 40
"""Clips of a class at which its own threshold counts as much as the common one."""


@dataclass(frozen=True)
class Thresholds:
    """Lowest scores at which labels are reported."""

    common: float | None
    """For all classes together; None where no score reaches the precision."""
    classes: list[float]
    """(K,) for each class: its own, moved towards the common one by how few clips it has."""


def choose(scores: np.ndarray, targets: np.ndarray, activation: str, rule: Rule, precision: float) -> Thresholds:
    """Thresholds for scores (clips, K) and 0/1 targets (clips, K).

    Args:
        scores: calibrated scores of whole files.
        targets: which classes they should have.
        activation: the model's; with `softmax` a clip has its best label or none, with `sigmoid` any number of labels.
        rule: `f1`, the best F1; or `precision`, the lowest score from which the precision is reached.
        precision: the precision to reach.
    """
    given = candidates(scores, activation)
    common = lowest(scores[given], targets[given] > 0, int(targets.sum()), rule, precision)
    rest = 1.0 if common is None else common
    classes = []
    for k, mine in enumerate(given.T):
        clips = int(targets[:, k].sum())
        own = lowest(scores[mine, k], targets[mine, k] > 0, clips, rule, precision)
        if own is None:  # too few answers say nothing; many say that the class is never this precise
            own = 1.0 if wilson_bound(1.0, max(int(mine.sum()), 1), -BOUND) >= precision and rule == "precision" else rest
        share = clips / (clips + OWN_CLIPS)
        classes.append(share * own + (1 - share) * rest)
    return Thresholds(common, classes)


def reported(scores: np.ndarray, limits: np.ndarray, activation: str) -> np.ndarray:
    """(clips, K) which labels are reported of scores (clips, K), with thresholds that (clips, K) or (K,) fit."""
    return candidates(scores, activation) & (scores >= limits)


def candidates(scores: np.ndarray, activation: str) -> np.ndarray:
    """(clips, K) which labels may be reported: with `softmax` the best of each clip, with `sigmoid` all."""
    if activation == "sigmoid":
        return np.ones(scores.shape, bool)
    return np.arange(scores.shape[1]) == scores.argmax(1)[:, None]


def lowest(scores: np.ndarray, right: np.ndarray, positives: int, rule: Rule, precision: float) -> float | None:
    """The threshold of labels with these scores; halfway to the next score that is left out. None where there is none.

    Args:
        scores: (labels,).
        right: (labels,) which of them are right.
        positives: how many there are to find.
        rule: as in `choose`.
        precision: as in `choose`.
    """
    if not len(scores):
        return None
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order].astype(float), right[order]
    answers, hits = np.arange(1, len(scores) + 1), np.cumsum(right)
    whole = np.append(scores[1:] < scores[:-1], True)  # equal scores are reported together
    if rule == "precision":
        places = np.flatnonzero(whole & (wilson_bound(hits / answers, answers, -BOUND) >= precision))
    else:
        score = np.where(whole, 2 * hits / (answers + positives), -1.0)
        places = np.flatnonzero(score == score.max())
    if not len(places):
        return None
    last = places[-1]
    return float((scores[last] + (scores[last + 1] if last + 1 < len(scores) else 0.0)) / 2)
