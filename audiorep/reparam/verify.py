"""Measures how far a fused network is from its original, in float64 and in its own precision, on several sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam.capture import Capture
from audiorep.reparam.compare import Difference, difference
from audiorep.reparam.conditions import Condition
from audiorep.reparam.merge_check import FLOAT32_FACTOR, FLOAT64_LIMIT
from audiorep.reparam.model_copies import shallow_copy, to_double
from audiorep.reparam.outputs import output_leaves

OWN_LIMIT = 0.1  # with larger own rounding a measurement would show nothing about the merged form
FLIPPED_FLOOR = 1e-3  # share of integer outputs so close to a step that another order of summation may flip them


@dataclass(frozen=True)
class Verification:
    """How far a fused network is from its original, relative to the largest output in magnitude."""

    float64: float
    """The fused network against the original, both in float64."""
    float32: float
    """The fused network in its own precision against the original in float64."""
    unfused_float32: float
    """The original in its own precision against the original in float64."""
    sizes: tuple[str, ...] = ()
    """The shapes of the inputs on which it was measured."""
    epsilon: float = torch.finfo(torch.float32).eps
    """The rounding of its own precision."""
    captured: float = 0.0
    """The captured graph against the original, both in its own precision."""
    flipped64: float = 0.0
    """The share of integer outputs that differ, measured like `float64`."""
    flipped: float = 0.0
    """The share of integer outputs that differ, measured like `float32`."""
    unfused_flipped: float = 0.0
    """The share of integer outputs that differ, measured like `unfused_float32`."""
    refused: str = ""
    """Why the fused network does not run on the example, if it does not."""

    @property
    def passed(self) -> bool:
        """Whether all limits are met."""
        return not self.failure

    @property
    def failure(self) -> str:
        """A sentence about the first limit that is not met; empty if all are."""
        rounding = max(FLOAT32_FACTOR * max(self.unfused_float32, self.epsilon), FLOAT64_LIMIT)
        flips = max(FLOAT32_FACTOR * self.unfused_flipped, FLIPPED_FLOOR)
        gates = (
            (not self.refused, self.refused),
            (self.unfused_float32 <= OWN_LIMIT, f"the original's own rounding is {self.unfused_float32:.1e}"),
            (self.float64 <= FLOAT64_LIMIT, f"its float64 difference is {self.float64:.1e}"),
            (self.flipped64 == 0, f"{self.flipped64:.2%} of its integer outputs differ in float64"),
            (self.float32 <= rounding, f"its difference in its own precision is {self.float32:.1e}"),
            (self.flipped <= flips, f"{self.flipped:.2%} of its integer outputs differ in its own precision"),
        )
        return next((reason for holds, reason in gates if not holds), "")

    def lines(self) -> list[str]:
        """The measured differences as text, and the limit that is not met."""
        if not self.sizes:
            return ["Nothing was merged, so that nothing was measured."]
        line = (
            f"float64 difference {self.float64:.1e}; in its own precision {self.float32:.1e} "
            f"(the original's own rounding: {self.unfused_float32:.1e}); measured on {'; '.join(self.sizes)}"
        )
        flips = f"integer outputs that differ: {self.flipped:.2%} (by the original's own rounding: {self.unfused_flipped:.2%})"
        failed = f"The merged form did not pass: {self.failure}. The network was left as it is."
        return [line, *([flips] if self.flipped or self.unfused_flipped else []), *([failed] if self.failure else [])]


def worst_verification(parts: Sequence[Verification]) -> Verification:
    """A verification with the largest difference of each kind among several parts."""
    numbers = ("float64", "float32", "unfused_float32", "epsilon", "captured", "flipped64", "flipped", "unfused_flipped")
    if not parts:
        return Verification(0.0, 0.0, 0.0)
    sizes = tuple(dict.fromkeys(size for part in parts for size in part.sizes))
    return Verification(**{name: max(getattr(part, name) for part in parts) for name in numbers}, sizes=sizes)


@dataclass
class Trial:
    """An input and the original's outputs for it, in float64 (`expected`) and in its own precision (`own`)."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    expected: list[Any] = field(default_factory=list)
    own: list[Any] = field(default_factory=list)
    broken: tuple[Condition, ...] = ()
    """The conditions of the capture that its sizes violate."""

    def run(self, model: Callable[..., Any], double: bool) -> list[Any]:
        """The leaves of the output of `model`. Inputs are copied first, because a network may write into them."""
        args, kwargs = copied_inputs(self.args, self.kwargs, double)
        with torch.no_grad():
            return output_leaves(model(*args, **kwargs))

    @property
    def shapes(self) -> str:
        """The shapes of its tensors as text."""
        tensors = [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]
        return ", ".join("×".join(str(n) for n in tensor.shape) for tensor in tensors)


def copied_inputs(args: tuple[Any, ...], kwargs: dict[str, Any], double: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Copies the tensors of a call; one tensor in two places stays one."""
    copies: dict[int, Tensor] = {}

    def copy_of(tensor: Tensor) -> Tensor:
        if id(tensor) not in copies:
            copies[id(tensor)] = (to_double(tensor) if double else tensor).detach().clone()
        return copies[id(tensor)]

    return pytree.tree_map_only(Tensor, copy_of, (args, kwargs))


def other_inputs(captured: Capture) -> Iterator[Trial]:
    """Inputs with other batch sizes and other sizes for which the capture is valid, small ones first."""
    for sizes in other_sizes(captured):
        yield input_at(captured, sizes)


def other_sizes(captured: Capture) -> list[dict[str, int]]:
    """Free sizes to measure: a batch of three with smaller, then larger other sizes, then each alone."""
    sizes, found = captured.sizes, []
    base = sizes.example
    spatial = [name for name in sizes.free if name not in sizes.batches]
    for batch in (dict.fromkeys(sizes.batches, 3), {}):
        for factor, more in ((0.25, 1), (0.5, 0), (0.5, 1), (1, 1), (1, 2), (2, 0), (2, -1), (3, 0), (1, 0)):
            scaled = {name: max(2, int(base[name] * factor) + more) for name in spatial}
            tried = {**base, **batch, **scaled}
            if tried != base and tried not in found and not sizes.broken(tried):
                found.append(tried)
    return found


def inputs_at_one(captured: Capture, runs: Callable[[Trial], bool]) -> list[Trial]:
    """Inputs with sizes of one that the original takes, to test conditions that may be the exporter's.

    Such a condition excludes sizes of one and nothing else. Each is tested with the other sizes of the example and with
    those of the second input.

    Args:
        captured: the captured network.
        runs: runs the original on an input; False if it fails.
    """
    sizes = captured.sizes
    sets = {condition.ones: None for condition in sizes.conditions if condition.ones and condition.may_be_idle}
    sets |= {frozenset(sizes.batches): None} if sets and len(sizes.batches) > 1 else {}
    found, seen = [], []
    for ones in sets:
        for base in (sizes.example, *other_sizes(captured)[:1]):
            tried = {**base, **dict.fromkeys(ones or (), 1)}
            if tried in seen:
                continue
            seen.append(tried)
            trial = input_at(captured, tried)
            if all(condition.may_be_idle for condition in trial.broken) and runs(trial):
                found.append(trial)
    return found


def needed_conditions(captured: Capture, trials: Iterable[Trial], equal: Callable[[Trial], bool]) -> list[Condition]:
    """The conditions without those of the exporter that measurements at sizes of one show to be unnecessary."""
    evidence: dict[Condition, list[bool]] = {}
    for trial in trials:
        same = equal(trial)
        for condition in trial.broken:
            evidence.setdefault(condition, []).append(same)
    idle = {condition for condition, same in evidence.items() if all(same)}
    kept = [condition for condition in captured.sizes.conditions if condition not in idle]
    return [condition for condition in kept if not _is_implied(condition, kept)]


def _is_implied(condition: Condition, kept: list[Condition]) -> bool:
    """Whether a condition excludes nothing but a size of one that another kept condition excludes too."""
    ones = condition.ones or frozenset()
    others = [other for other in kept if not other.may_be_idle and other.names <= ones]
    return condition.may_be_idle and not all(other.holds(dict.fromkeys(ones, 1)) for other in others)


def input_at(captured: Capture, sizes: dict[str, int]) -> Trial:
    """The example with other sizes: floats are noise with its mean and deviation, other values are repeated."""
    generator = torch.Generator().manual_seed(sum(sizes.values()))
    call, shapes = captured.call, captured.sizes.resized(sizes)
    made: dict[int, Tensor] = {}
    for (_, tensor), shape in zip(call.tensors, shapes, strict=True):
        if id(tensor) not in made:
            made[id(tensor)] = _resize(tensor, shape, generator)
    args, kwargs = pytree.tree_map_only(Tensor, lambda tensor: made[id(tensor)], (call.args, call.kwargs))
    return Trial(args, kwargs, broken=tuple(captured.sizes.broken(sizes)))


def _resize(tensor: Tensor, shape: list[int], generator: torch.Generator) -> Tensor:
    if not tensor.numel():
        return tensor.new_zeros(shape)
    if tensor.is_floating_point():
        values = tensor.float()
        noise = torch.randn(shape, generator=generator).to(tensor.device)
        return (noise * (values.std() if values.numel() > 1 else 1.0) + values.mean()).to(tensor.dtype)
    for axis, size in enumerate(shape):
        repeats = math.ceil(size / tensor.shape[axis])
        tensor = torch.cat([tensor] * repeats, axis).narrow(axis, 0, size)
    return tensor.contiguous()


def in_first_state(model: nn.Module, captured: Capture) -> nn.Module:
    """A network in its first state: a copy if it writes into its buffers, else itself."""
    return shallow_copy(model) if captured.updates else model


def output_difference(expected: list[Any], trial: Trial, model: nn.Module, double: bool) -> Difference:
    """How far a network's outputs for an input are from the expected ones; infinite if it fails."""
    try:
        return difference(expected, trial.run(model, double))
    except (RuntimeError, FuseError, TypeError, IndexError, ValueError):
        return Difference(math.inf, 1.0)
