"""A linear layer for new classes from a few clips: ridge regression on embeddings, judged on clips left out, in numpy.

Each class weighs as much as any other, and the background as much as the classes that it stands for. A clip left out of a
ridge regression changes it in closed form (Cook and Weisberg 1982, 2.2.3), so that each is judged by what the others taught.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PENALTIES = 10.0 ** np.arange(-4, 2.1, 0.5)
"""Weights of the squared coefficients, on standardized embeddings, of which the one with the least error left out is taken."""
CERTAIN, UNLIKELY = 2.0, -3.0  # logits of a clip that taught, and of the top hundredth of the others, before clips are left out
STEPS = 50
PULL = 1e-3  # towards the scale that is likely before, for clips that say nothing
LARGEST_SCALE = 50.0


@dataclass(frozen=True, eq=False)
class Examples:
    """Windows of clips."""

    vectors: np.ndarray
    """(N, C) embeddings."""
    clips: np.ndarray
    """(N,) the clip of each window, numbered from 0; windows of a clip follow each other."""
    classes: np.ndarray
    """(N,) the class of each window, numbered from 0; -1 for the background."""
    weights: np.ndarray
    """(N,) how much each window says of its clip."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer, and what it says of clips that it was not taught with."""

    weight: np.ndarray
    """(K, C)."""
    bias: np.ndarray
    """(K,)."""
    left_out: np.ndarray
    """(N, K) logits of each window by the other clips."""
    penalty: float


def fit(examples: Examples, classes: int, others: int) -> Layer:
    """The layer whose logits tell the classes from each other and from the background.

    Args:
        examples: with at least one clip of each class, and the background.
        classes: K.
        others: how many classes the background stands for.
    """
    weights = _balanced(examples, others)
    mean = weights @ examples.vectors / weights.sum()
    deviation = np.sqrt(weights @ (examples.vectors - mean) ** 2 / weights.sum())
    deviation = np.maximum(deviation, 1e-6 + deviation.mean() / 100)  # of values that hardly ever change
    inputs = np.hstack([(examples.vectors - mean) / deviation, np.ones((len(weights), 1))])
    targets = (examples.classes[:, None] == np.arange(classes)).astype(float)
    root = np.sqrt(weights)[:, None]
    found = [_left_out(inputs * root, targets * root, root, penalty, examples.clips) for penalty in PENALTIES]
    errors = [float((weights[:, None] * (left - targets) ** 2).sum()) for _, left in found]
    best = int(np.argmin(errors))
    coefficients, left = found[best]
    several = [len(np.unique(examples.clips[examples.classes == number])) > 1 for number in range(classes)]
    start = _prior(left, targets)
    scale, shift = _platt(left[:, several], targets[:, several], weights, start) if any(several) else start
    weight = scale * coefficients[:-1].T / deviation
    bias = scale * coefficients[-1] + shift - weight @ mean
    return Layer(weight.astype(np.float32), bias.astype(np.float32), scale * left + shift, float(PENALTIES[best]))


def clip_logits(logits: np.ndarray, examples: Examples) -> np.ndarray:
    """(clips, K) of windows' logits: their mean by weight."""
    clips = int(examples.clips.max()) + 1
    sums, total = np.zeros((clips, logits.shape[1])), np.zeros(clips)
    np.add.at(sums, examples.clips, logits * examples.weights[:, None])
    np.add.at(total, examples.clips, examples.weights)
    return sums / np.maximum(total, 1e-12)[:, None]


def _balanced(examples: Examples, others: int) -> np.ndarray:
    """(N,) weights of windows: of a clip's, its share of its class; of a class, one; of the background, `others`."""
    total = np.zeros(int(examples.clips.max()) + 1)
    np.add.at(total, examples.clips, examples.weights)
    weights = examples.weights / np.maximum(total[examples.clips], 1e-12)
    for number in np.unique(examples.classes):
        here = examples.classes == number
        weights[here] *= (others if number < 0 else 1) / weights[here].sum()
    return weights


def _left_out(
    inputs: np.ndarray, targets: np.ndarray, root: np.ndarray, penalty: float, clips: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (C + 1, K) of all clips, and the values (N, K) of each window by the other clips.

    Args:
        inputs: (N, C + 1) times the roots of the weights, the last column for the constant, which is not penalized.
        targets: (N, K) times the roots.
        root: (N, 1).
        penalty: of the squared coefficients.
        clips: (N,).
    """
    size = inputs.shape[1]
    ridge = penalty * np.eye(size)
    ridge[-1, -1] = 1e-9
    inverse = np.linalg.inv(inputs.T @ inputs + ridge)
    coefficients = inverse @ (inputs.T @ targets)
    residuals = targets - inputs @ coefficients
    borders = np.flatnonzero(np.diff(clips)) + 1
    starts, ends = np.concatenate([[0], borders]), np.concatenate([borders, [len(clips)]])
    alone = starts[ends - starts == 1]  # clips of one window, as those of the background: no system to solve
    hat = np.einsum("nc,nc->n", inputs[alone] @ inverse, inputs[alone])
    left = np.empty_like(residuals)
    left[alone] = residuals[alone] / np.maximum(1 - hat, 1e-9)[:, None]
    for first, last in zip(starts, ends, strict=True):
        if last - first > 1:
            own = inputs[first:last]
            system = np.eye(last - first) * (1 + 1e-9) - own @ inverse @ own.T
            left[first:last] = np.linalg.solve(system, residuals[first:last])
    return coefficients, (targets - left) / np.maximum(root, 1e-12)


def _prior(values: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Scale and shift where no clip of a class can be left out: by how high others come that were left out."""
    others = values[targets == 0]
    high = float(np.clip(np.quantile(others, 0.99), 0.0, 0.8)) if len(others) else 0.0
    scale = (CERTAIN - UNLIKELY) / (1 - high)
    return scale, CERTAIN - scale


def _platt(values: np.ndarray, targets: np.ndarray, weights: np.ndarray, start: tuple[float, float]) -> tuple[float, float]:
    """Scale and shift that make logits of `values` (N, K): a logistic regression of all classes together (Platt 1999).

    No answer is certain after a few clips: the targets are those of Platt's prior.
    """
    x, w = values.ravel(), np.repeat(weights, values.shape[1])
    positive = float(targets.sum())
    y = np.where(targets.ravel() > 0, (positive + 1) / (positive + 2), 1 / (targets.size - positive + 2))

    def loss(at: np.ndarray) -> float:
        z = at[0] * x + at[1]
        return float(w @ (np.logaddexp(0, z) - y * z) + PULL / 2 * (at[0] - start[0]) ** 2)

    place = np.array(start)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(place[0] * x + place[1], -30, 30)))
        slope, curve = w * (p - y), w * p * (1 - p)
        gradient = np.array([slope @ x + PULL * (place[0] - start[0]), slope.sum()])
        hessian = np.array([[curve @ x**2 + PULL, curve @ x], [curve @ x, curve.sum()]]) + 1e-9 * np.eye(2)
        step, now, size = np.linalg.solve(hessian, gradient), loss(place), 1.0
        while size > 1e-4 and loss(place - size * step) > now:  # Newton's method alone may leap away
            size /= 2
        place = place - size * step
        if np.abs(size * step).max() < 1e-6:
            break
    return float(np.clip(place[0], 0.1, LARGEST_SCALE)), float(np.clip(place[1], -LARGEST_SCALE, LARGEST_SCALE))
