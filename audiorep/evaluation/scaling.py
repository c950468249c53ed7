"""Temperature and bias by maximum likelihood (Platt 1999; Guo et al., arXiv 1706.04599), with a weak prior, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from audiorep.info.calibration import logits

PRIOR = np.array([1.0, 5.0])
"""Standard deviations of the logarithm of 1/T, and of b, around 0: as much as one clip says. Scores that are all right would
else have a temperature of 0."""
LARGEST = np.array([2.3, 10.0])  # of both: temperatures from 0.1 to 10
STEPS = 100

Objective = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]
"""Parameters to the loss, its gradient and its (approximate, positive) curvature."""


def fit(clips: Sequence[np.ndarray], targets: np.ndarray, activation: str) -> dict[str, float]:
    """The `temperature`, and for `sigmoid` the `bias`, that make the targets most likely (see `info.calibration`).

    Every clip counts the same, however many rows it has. There is no bias a class: for 50 classes there are rarely the clips
    to fit it on.

    Args:
        clips: (W, K) scores of each clip, W a file's windows, or 1 for the scores of whole files.
        targets: (clips, K) of 0 and 1; a window is taken to have the labels of its clip.
        activation: the model's, `softmax` or `sigmoid`.
    """
    values = logits(np.concatenate(clips), activation)
    rows = np.repeat(np.arange(len(clips)), [len(scores) for scores in clips])
    weights = 1 / np.array([len(scores) for scores in clips], float)[rows]
    wanted = targets[rows].astype(float)
    if activation == "softmax":
        values -= values.max(1, keepdims=True)
        found = _minimize(lambda given: _softmax(given, values, wanted, weights), 1)
        return {"temperature": float(np.exp(-found[0]))}
    found = _minimize(lambda given: _sigmoid(given, values, wanted, weights), 2)
    return {"temperature": float(np.exp(-found[0])), "bias": float(found[1])}


def _softmax(
    given: np.ndarray, values: np.ndarray, wanted: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The negative log-likelihood of (log 1/T,): its derivatives are the mean and the variance of the logits."""
    scale = np.exp(given[0])
    raised = np.exp(scale * values)
    total = raised.sum(1)
    mean = (raised * values).sum(1) / total
    variance = (raised * values**2).sum(1) / total - mean**2
    right = (wanted * values).sum(1) / np.maximum(wanted.sum(1), 1)
    loss = weights @ (np.log(total) - scale * right)
    return float(loss), np.array([scale * (weights @ (mean - right))]), np.array([[scale**2 * (weights @ variance)]])


def _sigmoid(
    given: np.ndarray, values: np.ndarray, wanted: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The same of (log 1/T, b), over all classes of all rows."""
    scale, bias = np.exp(given[0]), given[1]
    activity = scale * values + bias
    loss = weights @ (np.logaddexp(0.0, activity) - wanted * activity).sum(1)
    likely = np.exp(-np.logaddexp(0.0, -activity))
    error, spread = likely - wanted, likely * (1 - likely)
    slopes = scale * values
    gradient = np.array([weights @ (error * slopes).sum(1), weights @ error.sum(1)])
    both = weights @ (spread * slopes).sum(1)
    curvature = np.array([[weights @ (spread * slopes**2).sum(1), both], [both, weights @ spread.sum(1)]])
    return float(loss), gradient, curvature


def _minimize(objective: Objective, count: int) -> np.ndarray:
    """The `count` parameters with the least loss and prior, by Fisher's scoring, each step halved until it descends."""
    precision, largest = PRIOR[:count] ** -2.0, LARGEST[:count]

    def penalized(at: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        loss, gradient, curvature = objective(at)
        return loss + 0.5 * precision @ at**2, gradient + precision * at, curvature + np.diag(precision)

    at = np.zeros(count)
    loss, gradient, curvature = penalized(at)
    for _ in range(STEPS):
        step = np.linalg.solve(curvature, gradient)
        for halving in range(30):
            tried = np.clip(at - step / 2**halving, -largest, largest)
            found = penalized(tried)
            if found[0] < loss:
                break
        else:
            break
        moved, (at, (loss, gradient, curvature)) = np.abs(tried - at).max(), (tried, found)
        if moved < 1e-7:
            break
    return at
