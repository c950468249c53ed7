"""How near the scores of two models are on the same clips: what every comparison of models begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Scores = Mapping[str, np.ndarray]
"""{head: (clips, K)}."""


@dataclass(frozen=True)
class Agreement:
    """How far the scores of one model are from those of another, on the same clips."""

    clips: int
    largest: float
    """Largest difference of a score."""
    mean: float
    """Mean difference of a score."""
    agreement: float
    """Share of clips given the same label in every head."""


def scores_of(run: Callable[[np.ndarray], Mapping[str, np.ndarray]], windows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The scores of windows (N,), asked for one by one: {head: (clips, K)}.

    Args:
        run: a session, or anything else that takes (B, N) and gives {head: scores (B, K)}.
        windows: at the rate of the model.
    """
    found = [run(window[None]) for window in windows]
    return {head: np.concatenate([scores[head] for scores in found]) for head in found[0]}


def agreement(first: Scores, second: Scores) -> Agreement:
    """How far the scores of `second` are from those of `first`, for the heads of `first`."""
    gaps = np.concatenate([np.abs(second[head] - first[head]).ravel() for head in first])
    same = np.all([second[head].argmax(1) == first[head].argmax(1) for head in first], axis=0)
    return Agreement(len(same), float(gaps.max()), float(gaps.mean()), float(same.mean()))
