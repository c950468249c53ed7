"""The linear operations of the working graph, and the values of its constant nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from audiorep.reparam.algebra import Taps
from audiorep.reparam.capture import Capture, Constant
from audiorep.reparam.model_copies import double_dtype, to_double
from audiorep.reparam.nodes import operation

aten = torch.ops.aten
_CONVOLUTIONS = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}
_TRANSPOSED = {
    1: torch.nn.functional.conv_transpose1d,
    2: torch.nn.functional.conv_transpose2d,
    3: torch.nn.functional.conv_transpose3d,
}


@dataclass(frozen=True, eq=False, repr=False)
class Affine:
    """A linear operation of a node: taps along an axis. Calling it applies them, in the input's precision."""

    taps: Taps
    axis: int | None
    """The axis of the channels; None for one number that scales everything."""
    names: frozenset[str]
    """The names of the network's tensors that its values come from."""
    dtype: torch.dtype
    """The precision of its result in the network."""
    raw: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None = None
    """(operation, args, kwargs) as captured, with INPUT in place of the input; None once it is merged."""
    label: str = "linear"
    """Its name in a report."""
    members: tuple[tuple[str, str], ...] = ()
    """(label, path) of everything merged into it."""
    derived: bool = False
    """Whether one of its constants is computed from the network's tensors, and is not a tensor of the network itself."""
    pool: bool = False
    """An average pool: no parameters and no multiply-accumulates until it is merged."""

    def __call__(self, x: Tensor) -> Tensor:
        """The result for `x`."""
        taps = self.taps
        if taps.size or taps.stride:
            return _convolve(taps, x)
        weight, bias = (None if value is None else value.to(x.dtype) for value in (taps.weight, taps.bias))
        assert weight is not None
        if self.axis is None or taps.is_scale:
            shape = [1] * x.dim()
            if self.axis is not None:
                shape[self.axis] = -1
            result = x * weight.reshape(shape)
            return result if bias is None else result + bias.reshape(shape)
        moved = x.movedim(self.axis, -1)
        blocks = moved.reshape(*moved.shape[:-1], taps.groups, 1, -1)  # (…, groups, 1, C_in / groups)
        outer = weight.reshape(taps.groups, -1, weight.shape[1])
        result = (blocks * outer).sum(-1).flatten(-2) if taps.groups > 1 else moved @ weight.T
        return (result if bias is None else result + bias).movedim(-1, self.axis)

    def __repr__(self) -> str:
        return self.label

    @property
    def parameters(self) -> int:
        """The number of trained values."""
        return 0 if self.pool else self.taps.parameters


def _convolve(taps: Taps, x: Tensor) -> Tensor:
    weight, bias = taps.weight.to(x.dtype), None if taps.bias is None else taps.bias.to(x.dtype)
    dimensions = len(taps.size)
    if taps.transposed:
        weight = to_transposed(weight, taps.groups)
        crop = [(low, low - high) for low, high in zip(taps.low, taps.high, strict=True)]
        padding, extra = [low for low, _ in crop], [more for _, more in crop]
        return _TRANSPOSED[dimensions](x, weight, bias, taps.stride, padding, extra, taps.groups, taps.dilation)
    around = [n for low, high in zip(reversed(taps.low), reversed(taps.high), strict=True) for n in (low, high)]
    if any(around):
        x = torch.nn.functional.pad(x, around)
    return _CONVOLUTIONS[dimensions](x, weight, bias, taps.stride, 0, taps.dilation, taps.groups)


def to_transposed(weight: Tensor, groups: int) -> Tensor:
    """Converts (C_out, C_in / groups, …) to torch's layout for transposed convolutions, (C_in, C_out / groups, …), and back."""
    blocks = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return blocks.transpose(1, 2).reshape(groups * blocks.shape[2], blocks.shape[1], *weight.shape[2:])


@dataclass(frozen=True, eq=False)
class Sum:
    """An operation of a node: the sum of its inputs, each multiplied by a number."""

    factors: tuple[float, ...]

    def __call__(self, *terms: Tensor) -> Tensor:
        """The sum."""
        total = terms[0] * self.factors[0] if self.factors[0] != 1 else terms[0]
        for factor, term in zip(self.factors[1:], terms[1:], strict=True):
            total = total + term if factor == 1 else total - term if factor == -1 else total + factor * term
        return total


def identity(x: Any) -> Any:
    """Returns `x`. A node whose work another node took over gets this operation."""
    return x


NORMS = {aten.layer_norm.default, aten.group_norm.default, aten.rms_norm.default}
INPUT = object()  # marks the place of the input among the captured arguments of an operation


class Constants:
    """The nodes that depend on the network's constants alone, and their values in float64 (on the meta device in a dry run)."""

    def __init__(self, captured: Capture, meta: bool) -> None:
        self._constants, self._meta = captured.constants, meta
        self._values: dict[fx.Node, Any] = {}
        self._names: dict[fx.Node, frozenset[str] | None] = {}
        written = {name for node, _ in captured.updates for name in [self._name(node)] if name}
        self.trained = {c.name: c.trained for c in captured.constants.values()}
        self.numel = {c.name: c.tensor.numel() for c in captured.constants.values()}
        for node in captured.graph.nodes:
            self._names[node] = self._find(node, written)

    def _name(self, node: fx.Node) -> str | None:
        return self._constants[node].name if node in self._constants else None

    def _find(self, node: fx.Node, written: set[str]) -> frozenset[str] | None:
        if node in self._constants:
            return None if self._constants[node].name in written else frozenset([self._constants[node].name])
        if (
            node.op != "call_function"
            or not node.all_input_nodes
            or "nondeterministic_seeded" in str(getattr(node.target, "tags", ""))
        ):
            return None
        names = [self._names[other] for other in node.all_input_nodes]
        if any(name is None for name in names) or _writes(node):
            return None
        values = pytree.tree_leaves([other.meta.get("val") for other in (node, *node.all_input_nodes)])
        if not all(isinstance(value, Tensor) for value in values):
            return None
        floats = {value.dtype for value in values if value.is_floating_point()}
        if len(floats) > 1:  # a conversion: its rounding is part of what the network computes
            return None
        return frozenset[str]().union(*(name for name in names if name is not None))

    def names(self, node: Any) -> frozenset[str] | None:
        """The names of the tensors that a constant node is computed from, or None if it is not constant."""
        return self._names.get(node) if isinstance(node, fx.Node) else None

    def is_constant(self, node: Any) -> bool:
        """Whether an argument is a tensor that is the same in every call."""
        return self.names(node) is not None

    def names_of(self, nodes: Iterable[Any]) -> frozenset[str]:
        """The names of the tensors that `nodes` are computed from; a node that is not constant adds none."""
        return frozenset[str]().union(*(self.names(node) or () for node in nodes))

    def constant(self, node: Any) -> Constant | None:
        """The tensor of the network that a node is, or None."""
        return self._constants.get(node) if isinstance(node, fx.Node) else None

    def value(self, node: Any) -> Any:
        """The value of a constant node; any other argument as it is."""
        if not isinstance(node, fx.Node):
            return double_dtype(node) if isinstance(node, torch.dtype) else node
        if node not in self._values:
            if node in self._constants:
                tensor = self._constants[node].tensor.detach()
                tensor = tensor.to("meta") if self._meta else tensor
                self._values[node] = to_double(tensor)
            else:
                args, kwargs = fx.node.map_aggregate((node.args, dict(node.kwargs)), self.value)
                if self._meta and "device" in kwargs:
                    kwargs = {**kwargs, "device": torch.device("meta")}
                with torch.no_grad():
                    self._values[node] = operation(node)(*args, **kwargs)
        return self._values[node]

    def device(self, like: Tensor) -> torch.device:
        """The device of `like`, or the meta device in a dry run."""
        return torch.device("meta") if self._meta else like.device

    def forget(self) -> None:
        """Frees all computed values."""
        self._values.clear()


def _writes(node: fx.Node) -> bool:
    """Whether an operation writes into one of its inputs, as a batch norm in training does into its running statistics."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    if schema.name in ("aten::batch_norm", "aten::instance_norm"):
        return any(isinstance(statistic, fx.Node) for statistic in node.args[3:5]) and bool(node.args[5])
    return any(argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments)


def module_path(node: fx.Node) -> str:
    """The path of the innermost module that a node was computed in."""
    stack = node.meta.get("nn_module_stack") or {"": ("", None)}
    return str(list(stack.values())[-1][0])
