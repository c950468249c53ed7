"""How far scores are probabilities: expected calibration error (arXiv 1706.04599) with equal-mass bins (arXiv 1904.01685)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from audiorep.evaluation.intervals import CONFIDENCE, resampled

BINS = 15
PRECISION = 0.9
SIMULATIONS = 400  # of clips whose scores are exactly right


@dataclass(frozen=True)
class Bin:
    """Clips whose best scores are near each other."""

    clips: int
    score: float
    """Mean of their best scores."""
    right: float
    """Share of them whose best label is right."""


@dataclass(frozen=True)
class Reliability:
    """How far the best score of a clip is the probability that its label is right."""

    error: float
    """Expected calibration error: the mean difference of score and share of right labels, over `BINS` bins of equally many
    clips."""
    low: float
    """The lower end of the 95 % interval of the error that many more clips would show (pivotal bootstrap); 0 where scores that
    are exactly right show as large an error on as many clips in one of 40 cases."""
    high: float
    by_chance: float
    """The error that scores which are exactly right would show on as many clips: few clips in a bin differ by chance."""
    bins: list[Bin]
    answered: float
    """Share of the clips that are answered where the label is right for `PRECISION` of the answers; 0 where it never is."""
    threshold: float | None
    """Lowest score of these answers; None where there are none."""

    @property
    def in_words(self) -> str:
        """The numbers in one line."""
        error = (
            f"expected calibration error {self.error:.3f} (95 % interval {self.low:.3f} – {self.high:.3f}; by chance "
            f"{self.by_chance:.3f})"
        )
        if self.threshold is None:
            return f"{error}, no score reaches {PRECISION:.0%} precision"
        return f"{error}, {self.answered:.0%} answered at {PRECISION:.0%} precision (score at least {self.threshold:.2f})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "expected_calibration_error": self.error,
            "interval": [self.low, self.high],
            "expected_by_chance": self.by_chance,
            "answered": {"precision": PRECISION, "share": self.answered, "threshold": self.threshold},
            "bins": [asdict(one) for one in self.bins],
        }


def reliability(scores: np.ndarray, targets: np.ndarray) -> Reliability:
    """How far the best of the scores (clips, K) is the probability that its label is among the 0/1 targets (clips, K).

    It is the same for tasks of one label and of several: there a clip's best label is right if it is one of the clip's.
    """
    best, right = answers(scores, targets)
    order = np.argsort(best, kind="stable")
    best, right = best[order], right[order]
    found = _error(best, right)

    def again(chosen: np.ndarray) -> float:
        chosen = np.sort(chosen)  # the clips are in the order of their scores
        return _error(best[chosen], right[chosen])

    low, high = resampled(again, len(best))
    chance = _chance(best)
    lowest = 0.0 if found <= np.quantile(chance, (1 + CONFIDENCE) / 2) else max(0.0, 2 * found - high)
    threshold, share = coverage(best, right, PRECISION)
    bins = [Bin(len(s), float(s.mean()), float(r.mean())) for s, r in zip(_parts(best), _parts(right), strict=True)]
    return Reliability(found, lowest, max(0.0, 2 * found - low), float(chance.mean()), bins, share, threshold)


def answers(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best score of each clip (clips,) float64, and whether its label is right (clips,) bool."""
    given = scores.argmax(1)
    clips = np.arange(len(scores))
    return scores[clips, given].astype(np.float64), targets[clips, given] > 0


def coverage(best: np.ndarray, right: np.ndarray, precision: float) -> tuple[float | None, float]:
    """The lowest score from which the answers reach a precision, and the share of clips answered from there.

    Args:
        best: (clips,) best scores.
        right: (clips,) whether their labels are right.
        precision: share of right answers.
    """
    order = np.argsort(-best, kind="stable")
    best, right = best[order], right[order]
    reached = np.cumsum(right) / np.arange(1, len(best) + 1) >= precision
    whole = np.append(best[1:] < best[:-1], True)  # equal scores are answered together
    places = np.flatnonzero(reached & whole)
    return (float(best[places[-1]]), float((places[-1] + 1) / len(best))) if len(places) else (None, 0.0)


def _parts(values: np.ndarray) -> list[np.ndarray]:
    return np.split(values, _starts(len(values))[1:])


def _error(best: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error of clips in the order of their scores."""
    return float(np.abs(np.add.reduceat(right - best, _starts(len(best)))).sum() / len(best))


@cache
def _starts(count: int) -> np.ndarray:
    """Where the bins of `count` clips begin."""
    bins = min(BINS, count)
    return np.arange(bins) * count // bins


def _chance(best: np.ndarray) -> np.ndarray:
    """Errors of clips with these scores, in order, whose labels are right as often as the scores say."""
    generator = np.random.default_rng(0)
    return np.array([_error(best, generator.random(len(best)) < best) for _ in range(SIMULATIONS)])
