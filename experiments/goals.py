"""A figure: what was measured, and whether it meets its goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Goal:
    """A number that is to be at most `limit`, or at least."""

    text: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def bound(self) -> str:
        """The bound in words."""
        return "at least" if self.at_least else "at most"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        least = {"at_least": True} if self.at_least else {}
        return {"goal": self.text, "limit": self.limit, **least, "measured": self.measured, "met": self.met}


@dataclass(frozen=True)
class Figure:
    """What a measurement found."""

    goals: list[Goal]
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        rows = [
            f"{goal.text}: {goal.measured:.4g} ({goal.bound} {goal.limit:g}): {'met' if goal.met else 'NOT MET'}"
            for goal in self.goals
        ]
        return "\n".join([*rows, *(f"  {name}: {value}" for name, value in self.details.items())])


def spread(values: Sequence[float]) -> dict[str, float]:
    """How many there are, and their median, 99th percentile and largest."""
    if not values:
        return {"count": 0}
    median, high = np.quantile(values, [0.5, 0.99])
    return {
        "count": len(values),
        "median": round(float(median), 4),
        "p99": round(float(high), 4),
        "largest": round(max(values), 4),
    }


def p99(values: Sequence[float]) -> float:
    """The 99th percentile; endless where there is nothing."""
    return float(np.quantile(values, 0.99)) if values else float("inf")
