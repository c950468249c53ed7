"""How far the scores of two models differ on the same clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Scores = Mapping[str, np.ndarray]
"""Scores of clips, {head: (clips, K)}."""


@dataclass(frozen=True)
class Agreement:
    """The differences between the scores of two models on the same clips."""

    clips: int
    largest: float
    """Largest absolute difference between two scores."""
    mean: float
    """Mean absolute difference between the scores."""
    agreement: float
    """Share of clips for which both models give the same label in every head."""


def scores_of(run: Callable[[np.ndarray], Mapping[str, np.ndarray]], windows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The scores, or other outputs, of windows, {name: (windows, K)}; each window is a batch of its own.

    Args:
        run: a session, or another function from (B, N) to {name: (B, K)}.
        windows: (N,) waveforms at the model's sample rate.
    """
    results = [run(window[None]) for window in windows]
    return {head: np.concatenate([scores[head] for scores in results]) for head in results[0]}


def agreement(first: Scores, second: Scores) -> Agreement:
    """The differences between `first` and `second`, for the heads of `first`."""
    gaps = np.concatenate([np.abs(second[head] - first[head]).ravel() for head in first])
    same = np.all([second[head].argmax(1) == first[head].argmax(1) for head in first], axis=0)
    return Agreement(len(same), float(gaps.max()), float(gaps.mean()), float(same.mean()))
