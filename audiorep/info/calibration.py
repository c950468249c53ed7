"""Scores as probabilities: a temperature and a bias on a model's scores (Platt 1999; Guo et al., arXiv 1706.04599)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

Kind = Literal["window", "file"]
"""What a score is of. A file's score is the mean of its windows' before either is calibrated."""
KINDS: tuple[Kind, ...] = ("window", "file")
TEMPERATURES = (0.01, 100.0)
MAX_BIAS = 100.0
SETTINGS = ("temperature", "bias")
SMALLEST = 1e-30  # of a score whose logarithm is taken: float32 holds it


def calibrated(scores: np.ndarray, settings: Mapping[str, float], activation: str) -> np.ndarray:
    """Calibrated scores (…, K), which have the same order as `scores` in each row.

    With `softmax` they are softmax(log p / T); a bias common to all classes would change nothing there. With `sigmoid` they
    are sigmoid(logit p / T + b).

    Args:
        scores: (…, K) what the model gives, in 0..1.
        settings: `temperature` T, and `bias` b where there is one.
        activation: the model's, `softmax` or `sigmoid`.
    """
    temperature, bias = settings["temperature"], settings.get("bias", 0.0)
    values = logits(scores, activation) / temperature
    if activation == "softmax":
        raised = np.exp(values - values.max(-1, keepdims=True))
        found = raised / raised.sum(-1, keepdims=True)
    else:
        found = np.exp(-np.logaddexp(0.0, -(values + bias)))
    return found.astype(scores.dtype)


def logits(scores: np.ndarray, activation: str) -> np.ndarray:
    """(…, K) float64 logits that give `scores` in 0..1; of a softmax but for a constant a row."""
    given = np.clip(scores.astype(np.float64), SMALLEST, 1.0)
    if activation == "softmax":
        return np.log(given)
    return np.log(given) - np.log(np.maximum(1.0 - given, np.finfo(np.float32).eps / 2))
