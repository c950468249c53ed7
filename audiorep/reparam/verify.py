"""Proof that two networks are equal, in float64 and float32, on several sizes; and which sizes a graph holds for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from audiorep.reparam.capture import Capture, size_text
from audiorep.reparam.check import FLOAT32_FACTOR, FLOAT64_LIMIT
from audiorep.reparam.copies import to_double

_ONES = re.compile(r"(!= [01]|> [01]|>= [12])$|^[01] < ")  # what a size of zero or one alone breaks
_MOST = 12  # sizes that break conditions; each is a run of the original and of the merged network
_SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 96, 128, 160, 192, 256)


@dataclass(frozen=True)
class Verification:
    """How far a fused network is from its original, relative to the largest output in magnitude."""

    float64: float
    """Fused against original, both in float64."""
    float32: float
    """Fused in its own precision against the original in float64."""
    unfused_float32: float
    """Original in its own precision against the original in float64."""
    sizes: tuple[str, ...] = ()
    """The inputs it was measured on, by shape."""
    epsilon: float = torch.finfo(torch.float32).eps
    """Rounding of its own precision."""

    @property
    def passed(self) -> bool:
        """Whether both gates hold."""
        rounding = FLOAT32_FACTOR * max(self.unfused_float32, self.epsilon)
        return self.float64 <= FLOAT64_LIMIT and self.float32 <= max(rounding, FLOAT64_LIMIT)


@dataclass
class Trial:
    """An input, and what the original makes of it in float64 and in its own precision."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    broken: tuple[str, ...] = ()
    """Conditions of the capture that its sizes do not meet."""
    expected: list[Any] = field(default_factory=list)
    own: list[Any] = field(default_factory=list)

    def run(self, model: Callable[..., Any], double: bool) -> list[Any]:
        """The leaves of the outputs; inputs are copied first, for networks that write into them."""
        args, kwargs = pytree.tree_map_only(Tensor, lambda t: (to_double(t) if double else t).clone(), (self.args, self.kwargs))
        with torch.no_grad():
            return pytree.tree_leaves(model(*args, **kwargs))

    @property
    def shapes(self) -> str:
        """The shapes of its tensors."""
        tensors = [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]
        return ", ".join("×".join(str(n) for n in tensor.shape) for tensor in tensors)


def trials(captured: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Trial]:
    """The example as it was given, and one of another batch and other sizes where the capture holds for them."""
    other = _other_sizes(captured)
    return [Trial(args, kwargs), *([_resized(captured, other)] if other != _sizes(captured) else [])]


def _sizes(captured: Capture) -> dict[str, int]:
    """The free sizes in the example."""
    return {symbol: _size_of(captured, symbol) for symbol in captured.dynamic}


def _other_sizes(captured: Capture) -> dict[str, int]:
    """A batch of three, and other sizes, smaller ones first."""
    base = _sizes(captured)
    batches, spatial = _axes(captured)
    sizes = {**base, **dict.fromkeys(batches, 3)}
    if _broken(captured, sizes):
        sizes = dict(base)
    for numerator, denominator, more in ((1, 4, 1), (1, 2, 0), (1, 2, 1), (1, 1, 1), (2, 1, 0)):
        scaled = {symbol: max(2, base[symbol] * numerator // denominator + more) for symbol in spatial}
        if not _broken(captured, {**sizes, **scaled}):
            return {**sizes, **scaled}
    return sizes


def breaking(captured: Capture, runs: Callable[[Trial], bool]) -> list[Trial]:
    """Sizes that break conditions of the capture and that the original takes, one or two for each condition where there are.

    Args:
        captured: what was captured.
        runs: tries the original on an input; False where it does not take it.
    """
    base = {symbol: _size_of(captured, symbol) for symbol in captured.settled} | _other_sizes(captured)
    batches, spatial = _axes(captured)
    options = [dict.fromkeys(batches, 1)] if batches else []
    options += [dict.fromkeys(spatial, n) for n in _SIZES] if spatial else []
    options += [{symbol: n} for symbol in spatial for n in _SIZES] if len(spatial) > 1 else []
    options += [{symbol: size} for symbol in captured.settled for n in [base[symbol]] for size in (n + 1, n - 1, 2 * n, 600)]
    counts: dict[str, int] = {}
    found: list[Trial] = []
    for sizes in options:
        broken = _broken(captured, {**base, **sizes})
        if len(found) < _MOST and any(counts.get(guard, 0) < _needed(guard) for guard in broken):
            trial = _resized(captured, {**base, **sizes})
            if runs(trial):
                found.append(trial)
                counts.update({guard: counts.get(guard, 0) + 1 for guard in broken})
    return found


def _needed(guard: str) -> int:
    """Sizes to try for a condition: one where a single size breaks it."""
    return 1 if re.search(r"!= \d+$", guard) else 2


def _axes(captured: Capture) -> tuple[list[str], list[str]]:
    """Free sizes that are a batch, and the others."""
    batches = [symbol for symbol, spots in captured.dynamic.items() if all(axis == 0 for _, axis in spots)]
    return batches, [symbol for symbol in captured.dynamic if symbol not in batches]


def _size_of(captured: Capture, symbol: str) -> int:
    index, axis = (captured.dynamic.get(symbol) or captured.settled[symbol])[0]
    return _tensors(captured)[index].shape[axis]


def _tensors(captured: Capture) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves((captured.args, captured.kwargs)) if isinstance(leaf, Tensor)]


def _resized(captured: Capture, sizes: dict[str, int]) -> Trial:
    """The example with other sizes: noise like it for floats, its own values repeated for anything else."""
    generator = torch.Generator().manual_seed(sum(sizes.values()))
    tensors = [_resize(t, shape, generator) for t, shape in zip(_tensors(captured), _shapes(captured, sizes), strict=True)]
    leaves, structure = pytree.tree_flatten((captured.args, captured.kwargs))
    rest = iter(tensors)
    args, kwargs = pytree.tree_unflatten([next(rest) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure)
    return Trial(args, kwargs, tuple(_broken(captured, sizes)))


def _shapes(captured: Capture, sizes: dict[str, int]) -> list[list[int]]:
    shapes = [list(tensor.shape) for tensor in _tensors(captured)]
    for symbol, spots in {**captured.dynamic, **captured.settled}.items():
        for index, axis in spots:
            shapes[index][axis] = sizes.get(symbol, shapes[index][axis])
    return shapes


def _resize(tensor: Tensor, shape: list[int], generator: torch.Generator) -> Tensor:
    if tensor.is_floating_point():
        values = tensor.float()
        noise = torch.randn(shape, generator=generator).to(tensor.device)
        return (noise * (values.std() if values.numel() > 1 else 1.0) + values.mean()).to(tensor.dtype)
    for axis, size in enumerate(shape):
        repeats = math.ceil(size / tensor.shape[axis])
        tensor = torch.cat([tensor] * repeats, axis).narrow(axis, 0, size)
    return tensor.contiguous()


def _broken(captured: Capture, sizes: dict[str, int]) -> list[str]:
    """The conditions that these sizes do not meet."""
    shapes = _shapes(captured, sizes)
    leaves, structure = pytree.tree_flatten((captured.args, captured.kwargs))
    rest = iter(torch.empty(shape, device="meta") for shape in shapes)
    args, kwargs = pytree.tree_unflatten([next(rest) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure)
    names = dict(zip(captured.arguments, args, strict=False)) | kwargs
    return [guard for guard in captured.guards if not _holds(guard, names)]


def _holds(guard: str, names: dict[str, Any]) -> bool:
    try:
        return bool(eval(guard, {"__builtins__": {}, "math": math, "torch": torch, "max": max, "min": min, "abs": abs}, names))
    except Exception:  # a condition that cannot be judged is kept
        return True


def kept_guards(captured: Capture, trials: list[Trial], equal: Callable[[Trial], bool]) -> list[str]:
    """The conditions that stay: those no measurement has shown to be idle.

    `torch.export` asks for more than a graph needs: sizes other than zero and one, and one length for recurrent layers.
    Only such a condition can go, and only where the original runs at sizes that break it and the fused network gives the
    same there, every time. What the network's own code asks about its sizes stays.
    """
    settled = {
        f"{size_text(captured, spot)} == {_size_of(captured, name)}" for name, s in captured.settled.items() for spot in s
    }
    evidence: dict[str, list[bool]] = {}
    for trial in trials:
        if trial.broken:
            same = equal(trial)
            for guard in trial.broken:
                evidence.setdefault(guard, []).append(same)
    idle = {guard for guard, equal in evidence.items() if all(equal) and (guard in settled or _ONES.search(guard))}
    return [guard for guard in captured.guards if guard not in idle]


def largest_error(expected: list[Any], found: list[Any]) -> float:
    """The largest difference of two lists of outputs, relative to the largest expected value of each."""
    if len(expected) != len(found):
        return math.inf
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        if not isinstance(a, Tensor):
            worst = max(worst, 0.0 if a == b else math.inf)
        elif not isinstance(b, Tensor) or a.shape != b.shape:
            return math.inf
        elif a.numel():
            worst = max(worst, _tensor_error(a, b))
    return worst


def _tensor_error(a: Tensor, b: Tensor) -> float:
    if not (a.is_floating_point() or a.is_complex()):
        return 0.0 if torch.equal(a, b) else math.inf
    a, b = to_double(a), to_double(b)
    same = (a == b) | (a.isnan() & b.isnan())
    if bool(same.all()):
        return 0.0
    finite = a[a.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    difference = float((a - b).abs().where(~same, 0.0).max())
    return difference / scale if scale and math.isfinite(difference) else math.inf
