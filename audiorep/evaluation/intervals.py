"""Intervals of what is measured on clips: by formula for shares, by resampling for the rest."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000  # of the clips, for intervals that have no formula


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` trials (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    return float(wilson_bound(share, count, -z)), float(wilson_bound(share, count, z))


def wilson_bound(share: np.ndarray | float, count: np.ndarray | float, z: float) -> np.ndarray:
    """The end of Wilson's interval that lies `z` standard deviations above the share, or with a negative `z` below it."""
    share, count = np.asarray(share, float), np.asarray(count, float)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return np.clip(middle + reach, 0.0, 1.0)


def rate_bound(count: int, z: float) -> float:
    """The largest mean of a Poisson count of `count`, by a bound `z` standard deviations above (Byar; Breslow, Day 1987)."""
    return float((count + 1) * (1 - 1 / (9 * (count + 1)) + z / (3 * np.sqrt(count + 1))) ** 3)


def resampled(value: Callable[[np.ndarray], float], clips: int) -> tuple[float, float]:
    """The 95 % interval of a value over resamples of the clips (bootstrap percentiles).

    Args:
        value: of the clips with these numbers, some of them several times.
        clips: how many there are.
    """
    generator = np.random.default_rng(0)
    found = [value(generator.integers(clips, size=clips)) for _ in range(RESAMPLES)]
    edge = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(found, [edge, 1 - edge])
    return float(low), float(high)
