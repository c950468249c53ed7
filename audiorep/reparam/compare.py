"""Compares two lists of outputs: floats by their largest difference, other values by the share that differs."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """How far two lists of outputs are apart."""

    value: float = 0.0
    """The largest difference of floats, relative to the largest expected value of their tensor."""
    flipped: float = 0.0
    """The largest share of a tensor of integers or booleans that differs; 1 for a plain value that differs."""

    def worse(self, other: Difference) -> Difference:
        """The larger of each kind."""
        return Difference(max(self.value, other.value), max(self.flipped, other.flipped))


def difference(expected: Sequence[Any], found: Sequence[Any]) -> Difference:
    """The largest differences between two outputs' leaves; infinite where their number, shape or kind differs.

    NaN equals NaN in the same place. A tensor of nothing but NaN equals nothing, because it would prove nothing.
    """
    worst = Difference() if len(expected) == len(found) else Difference(math.inf, 1.0)
    for a, b in zip(expected, found, strict=False):
        worst = worst.worse(_leaf(a, b))
    return worst


def worst_of(differences: Iterable[Difference]) -> Difference:
    """The largest of each kind of difference."""
    return functools.reduce(Difference.worse, differences, Difference())


def largest_error(expected: Sequence[Any], found: Sequence[Any]) -> float:
    """The largest difference as one number; infinite if any integer differs."""
    both = difference(expected, found)
    return math.inf if both.flipped else both.value


def _leaf(a: Any, b: Any) -> Difference:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        same = type(a) is type(b) and not isinstance(a, Tensor) and (a == b or (a != a and b != b))
        return Difference() if same else Difference(math.inf, 1.0)
    if a.shape != b.shape or _kind(a) != _kind(b):
        return Difference(math.inf, 1.0)
    if not a.numel():
        return Difference()
    if _kind(a) == "whole":
        return Difference(0.0, float((a != b).double().mean()))
    return Difference(relative_error(a, b))


def _kind(tensor: Tensor) -> str:
    return "real" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "whole"


def relative_error(expected: Tensor, found: Tensor) -> float:
    """The largest difference of two tensors over the largest finite expected value; infinite if there is only NaN."""
    if expected.is_complex():
        expected, found = torch.view_as_real(expected.resolve_conj()), torch.view_as_real(found.resolve_conj())
    a, b = expected.double(), found.double()
    finite = a.isfinite()
    odd = ~finite  # NaN and infinities must be equal in the same places
    if not bool(((a == b) | (a.isnan() & b.isnan()))[odd].all()) or not bool(b[finite].isfinite().all()):
        return math.inf
    if not bool(finite.any()):
        return math.inf if bool(a.isnan().any()) else 0.0
    largest = float((a - b)[finite].abs().max())
    scale = float(a[finite].abs().max())
    return largest / scale if scale else 0.0 if largest == 0 else math.inf
