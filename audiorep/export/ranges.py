"""The ranges of a network's activations on real clips, by three methods of calibration, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from audiorep.errors import DataError

METHODS = ("minmax", "percentile", "entropy")
BINS = 2048
KEPT = 0.9999  # of the values lie in the range by percentile
LEVELS = 128  # that half of an int8 range has: what entropy compares with
STEP = 16  # bins between the ranges that entropy compares

Ranges = dict[str, tuple[float, float]]
"""{name of a tensor: (lowest, highest)}."""


def measure(
    run: Callable[[np.ndarray], Sequence[np.ndarray]], names: Sequence[str], clips: Iterable[np.ndarray]
) -> dict[str, Ranges]:
    """The ranges of tensors by each of METHODS.

    Args:
        run: the values of all `names` for an input.
        names: of the tensors.
        clips: inputs; looked at twice, so a list.

    Raises:
        DataError: there are no clips, or the network gives NaN or infinity on one.
    """
    clips = list(clips)
    if not clips:
        raise DataError("int8 needs clips to measure the ranges of activations on, and there are none.")
    low, high = _extremes(run, names, clips)
    if not all(np.isfinite([*low.values(), *high.values()])):
        raise DataError("The network gives NaN or infinite values on a clip to calibrate on; leave that clip out.")
    counts = {name: np.zeros(BINS) for name in names}
    for clip in clips:
        for name, values in zip(names, run(clip), strict=True):
            counts[name] += np.histogram(values, BINS, (low[name], _above(low[name], high[name])))[0]
    found: dict[str, Ranges] = {method: {} for method in METHODS}
    for name in names:
        edges = np.linspace(low[name], _above(low[name], high[name]), BINS + 1)
        found["minmax"][name] = (low[name], high[name])
        found["percentile"][name] = _percentile(counts[name], edges)
        found["entropy"][name] = _entropy(counts[name], edges)
    return found


def _extremes(
    run: Callable[[np.ndarray], Sequence[np.ndarray]], names: Sequence[str], clips: list[np.ndarray]
) -> tuple[dict[str, float], dict[str, float]]:
    low, high = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for clip in clips:
        for name, values in zip(names, run(clip), strict=True):
            low[name], high[name] = np.minimum(low[name], values.min()), np.maximum(high[name], values.max())  # NaN stays
    return {name: float(value) for name, value in low.items()}, {name: float(value) for name, value in high.items()}


def _above(low: float, high: float) -> float:
    """An upper edge that is above the lower one, even of a tensor that is always the same."""
    return high if high > low else low + max(abs(low), 1e-6)


def _percentile(counts: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """Both tails cut so that KEPT of the values stay; a tail that ends in a peak, as a ReLU's does, stays whole."""
    share = np.cumsum(counts) / counts.sum()
    tail = (1 - KEPT) / 2
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail))
    return float(edges[first]), float(edges[min(last, BINS - 1) + 1])


def _entropy(counts: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """The symmetric range whose int8 histogram is nearest to the values' own, by Kullback-Leibler divergence (TensorRT's rule).

    The zeros of a ReLU are exact in any range, so the first bin counts no more than the second.
    """
    peak = float(np.abs(edges[[0, -1]]).max())
    centers = np.abs((edges[1:] + edges[:-1]) / 2)
    histogram = np.histogram(centers, BINS, (0, peak), weights=counts)[0]
    histogram[0] = min(histogram[0], histogram[1])
    sizes = range(LEVELS, BINS + 1, STEP)
    best = min(sizes, key=lambda size: _divergence(histogram, size))
    limit = peak * best / BINS
    return max(float(edges[0]), -limit), min(float(edges[-1]), limit)


def _divergence(histogram: np.ndarray, size: int) -> float:
    """Between the first `size` bins, with all that is above put into the last, and the same in LEVELS steps."""
    wanted = histogram[:size].copy()
    wanted[-1] += histogram[size:].sum()
    kept = histogram[:size]
    level = np.arange(size) * LEVELS // size
    totals, filled = np.bincount(level, kept, LEVELS), np.bincount(level, kept > 0, LEVELS)
    given = np.where(kept > 0, (totals / np.maximum(filled, 1))[level], 0)
    p, q = wanted / max(wanted.sum(), 1), given / max(given.sum(), 1)
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / np.maximum(q[there], 1e-9))))
