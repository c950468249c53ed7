"""A captured graph's linear operations as affine maps: which operations are linear, along which axis, with which constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from audiorep.errors import FuseError
from audiorep.reparam import algebra, lapses
from audiorep.reparam.affine import INPUT, Affine, Constants, Sum, module_path, to_transposed
from audiorep.reparam.algebra import Taps
from audiorep.reparam.capture import Capture
from audiorep.reparam.layout import fixed

aten = torch.ops.aten


class Lifter:
    """Turns a captured graph's linear operations into `Affine` and `Sum` nodes, in place."""

    def __init__(self, captured: Capture, constants: Constants) -> None:
        self._graph, self._constants = captured.graph, constants
        self._seen: dict[Any, Affine] = {}
        self.notes: dict[fx.Node, str] = {}
        """Why a node that looks linear is not."""

    def lift(self) -> None:
        """Lifts every node that can be."""
        for node in self._graph.nodes:
            name = str(node.target)
            if name.startswith("aten._native_batch_norm_legit"):
                self.notes[node] = _NO_STATISTICS if "no_stats" in name else _TRAINS
            rule = _RULES.get(node.target) if node.op == "call_function" else None
            if rule is None or self._constants.names(node) is not None or not _plain(node):
                continue
            try:
                found = rule(self, node)
            except FuseError as error:
                self.notes[node] = str(error)
                continue
            except Exception as error:  # whatever a rule that meets the unexpected raises: it costs this operator
                self.notes[node] = lapses.reason(error)
                continue
            if found is None:
                continue
            target, inputs = found
            node.meta["captured"] = (node.target, node.args, dict(node.kwargs))
            node.target, node.args, node.kwargs = target, inputs, {}

    def forget(self) -> None:
        """Frees the maps that are not in the graph any more."""
        self._seen.clear()

    def norm(self, node: fx.Node) -> None:
        """Notes the affine part of a layer, group or RMS norm: what its weight and bias do along which axis."""
        given = _arguments(node)
        weight, bias, source = given.get("weight"), given.get("bias"), given["input"]
        group = node.target is aten.group_norm.default
        if weight is None or not self.is_const(weight) or not (bias is None or self.is_const(bias)):
            return
        if not _plain(node) or self.is_const(source) or (not group and len(given["normalized_shape"]) != 1):
            return
        value, shift = self.const(weight), self.const(bias)
        assert value is not None
        names = (self._constants.names(weight) or frozenset()) | (self._constants.names(bias) or frozenset())
        taps = _scale(value, shift, self.trained(weight), self.trained(bias))
        label = str(node.target).split(".")[1].replace("_", " ") + " affine"
        axis = 1 if group else _rank(source) - 1
        members = ((label, module_path(node)),)
        node.meta["affine"] = Affine(taps, axis, names, node.meta["val"].dtype, label=label, members=members)

    def const(self, node: Any) -> Tensor | None:
        """A constant's value, float64."""
        return None if node is None else self._constants.value(node)

    def is_const(self, node: Any) -> bool:
        """Whether an argument is a tensor that is the same in every call."""
        return self._constants.names(node) is not None

    def affine(
        self, node: fx.Node, source: fx.Node, taps: Callable[[], Taps], axis: int | None, *used: Any, **more: Any
    ) -> Any:
        """The lifted operation of `node`; equal operations on equal constants are one object."""
        args = tuple(INPUT if arg is source else arg for arg in node.args)
        key = (node.target, axis, repr([("in" if arg is INPUT else arg) for arg in args]), repr(node.kwargs))
        if key not in self._seen:
            names = frozenset().union(*(self._constants.names(other) or () for other in used if other is not None))
            derived = any(self.is_const(other) and self._constants.constant(other) is None for other in used)
            self._seen[key] = Affine(
                taps=taps(),
                axis=axis,
                names=names,
                dtype=node.meta["val"].dtype,
                raw=(node.target, args, dict(node.kwargs)),
                members=((more["label"], module_path(node)),),
                derived=derived,
                **more,
            )
        return self._seen[key], (source,)

    def trained(self, node: Any) -> bool:
        """Whether a parameter is in a constant."""
        return any(self._constants.trained[name] for name in self._constants.names(node) or ())


_TRAINS = "it is in training mode: call model.eval() first"
_NO_STATISTICS = "it has no running statistics and depends on its batch"


def _plain(node: fx.Node) -> bool:
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        return False
    tensors = [other.meta.get("val") for other in node.all_input_nodes]
    return all(not isinstance(t, Tensor) or t.dtype == value.dtype or not t.dtype.is_floating_point for t in tensors)


def _arguments(node: fx.Node) -> dict[str, Any]:
    """All arguments of an ATen node by name, with defaults."""
    schema = node.target._schema
    values = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    values |= {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)}
    return values | dict(node.kwargs)


def _rank(node: fx.Node) -> int:
    return node.meta["val"].dim()


def _conv(lifter: Lifter, node: fx.Node) -> Any:
    given = _arguments(node)
    source, weight, bias = given["input"], given["weight"], given["bias"]
    if not lifter.is_const(weight) or (bias is not None and not lifter.is_const(bias)):
        raise FuseError("its weight depends on the input or changes its precision.")
    dimensions = weight.meta["val"].dim() - 2
    if _rank(source) != dimensions + 2:
        raise FuseError("its input has no batch dimension.")
    name = str(node.target)
    transposed = "transpose" in name or bool(given.get("transposed"))
    stride, dilation = (_tuple(given[key], dimensions) for key in ("stride", "dilation"))
    low, high = _padding(given["padding"], weight.meta["val"].shape[2:], dilation, dimensions)
    if transposed:
        extra = _tuple(given["output_padding"], dimensions)
        if not all(isinstance(more, int) for more in extra):
            raise FuseError("its output's size is asked for, so that its padding is another for every input.")
        high = tuple(p - more for p, more in zip(high, extra, strict=True))

    def taps() -> Taps:
        tensor = lifter.const(weight)
        assert tensor is not None
        tensor = to_transposed(tensor, given["groups"]) if transposed else tensor
        return algebra.flattened(
            Taps(tensor, lifter.const(bias), stride, dilation, low, high, given["groups"], transposed,
                 lifter.trained(weight), lifter.trained(bias))
        )  # fmt: skip

    return lifter.affine(node, source, taps, 1, weight, bias, label=_conv_label(weight, transposed))


def _conv_label(weight: fx.Node, transposed: bool) -> str:
    size = "×".join(str(n) for n in weight.meta["val"].shape[2:])
    return f"{'transposed ' if transposed else ''}conv {size}"


def _padding(padding: Any, size: Any, dilation: tuple[int, ...], dimensions: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if padding == "valid":
        return (0,) * dimensions, (0,) * dimensions
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    around = _tuple(padding, dimensions)
    return around, around


def _tuple(value: Any, dimensions: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dimensions if len(values) == 1 else values


def _linear(lifter: Lifter, node: fx.Node) -> Any:
    given = _arguments(node)
    source, weight, bias = given["input"], given["weight"], given.get("bias")
    if lifter.is_const(source) or not lifter.is_const(weight) or _rank(source) < 2:
        return None
    return _matrix(lifter, node, source, weight, bias, transpose=False)


def _addmm(lifter: Lifter, node: fx.Node) -> Any:
    given = _arguments(node)
    source, weight, bias = given["mat1"], given["mat2"], given["self"]
    if lifter.is_const(source) or not lifter.is_const(weight) or not lifter.is_const(bias) or _rank(bias) != 1:
        return None
    if (given["beta"], given["alpha"]) != (1, 1):
        return None
    return _matrix(lifter, node, source, weight, bias, transpose=True)


def _matmul(lifter: Lifter, node: fx.Node) -> Any:
    source, weight = node.args[:2]
    if lifter.is_const(source) or not lifter.is_const(weight):
        return None
    assert isinstance(source, fx.Node)
    assert isinstance(weight, fx.Node)
    if _rank(weight) != 2 or _rank(source) < 2:
        return None
    return _matrix(lifter, node, source, weight, None, transpose=True)


def _matrix(lifter: Lifter, node: fx.Node, source: fx.Node, weight: Any, bias: Any, transpose: bool) -> Any:
    def taps() -> Taps:
        tensor = lifter.const(weight)
        assert tensor is not None
        tensor = tensor.T.contiguous() if transpose else tensor
        return Taps(tensor, lifter.const(bias), weight_trained=lifter.trained(weight), bias_trained=lifter.trained(bias))

    return lifter.affine(node, source, taps, _rank(source) - 1, weight, bias, label="linear")


def _batch_norm(lifter: Lifter, node: fx.Node) -> Any:
    given = _arguments(node)
    mean, var = given["running_mean"], given["running_var"]
    if mean is None or var is None:
        raise FuseError(_NO_STATISTICS)
    if given.get("training"):
        raise FuseError(_TRAINS)
    weight, bias = given["weight"], given["bias"]

    def taps() -> Taps:
        gain = (lifter.const(var) + given["eps"]).rsqrt()
        if weight is not None:
            gain = gain * lifter.const(weight)
        shift = -lifter.const(mean) * gain
        if bias is not None:
            shift = shift + lifter.const(bias)
        return _scale(gain, shift, lifter.trained(weight), lifter.trained(weight) or lifter.trained(bias))

    return lifter.affine(node, given["input"], taps, 1, weight, bias, mean, var, label="batch norm")


def _scale(gain: Tensor, shift: Tensor | None, gain_trained: bool, shift_trained: bool) -> Taps:
    shift = None if shift is None else shift.expand(gain.shape[0])
    groups = gain.shape[0]
    return Taps(gain[:, None], shift, groups=groups, weight_trained=gain_trained, bias_trained=shift_trained)


def _elementwise(lifter: Lifter, node: fx.Node) -> Any:
    """X * c, x / c, c * x, x + c, x - c, c - x with a constant that lies along one axis, and sums of two tensors."""
    name = str(node.target).split(".")[1]
    given = _arguments(node)
    first, second = given["self"], given.get("other")
    alpha = given.get("alpha", 1)
    if name == "rsub":
        first, second, name = second, first, "sub"
    tensors = [isinstance(side, fx.Node) and not lifter.is_const(side) for side in (first, second)]
    if not isinstance(alpha, int | float) or given.get("rounding_mode"):
        return None
    if all(tensors):
        return _sum(node, name, first, second, alpha)
    source, other, flipped = (first, second, False) if tensors[0] else (second, first, True)
    if not isinstance(source, fx.Node) or (flipped and name == "div") or not isinstance(other, fx.Node | int | float):
        return None
    if isinstance(other, fx.Node) and not lifter.is_const(other):
        return None
    found = _along(node, source, other)
    if found is None:
        return None
    axis, channels = found

    def taps() -> Taps:
        value = lifter.const(other) if isinstance(other, fx.Node) else torch.tensor(float(other), dtype=torch.float64)
        device = node.meta["val"].device if not lifter._constants._meta else "meta"
        value = value.double().reshape(-1).to(device).expand(channels)
        ones = value.new_ones(channels)
        trained = lifter.trained(other)
        if name in ("mul", "div"):
            return _scale(value if name == "mul" else 1 / value, None, trained, False)
        if name == "add":
            return _scale(alpha * ones if flipped else ones, value if flipped else alpha * value, False, trained)
        return _scale(-alpha * ones if flipped else ones, value if flipped else -alpha * value, False, trained)

    return lifter.affine(node, source, taps, axis, other, label={"mul": "scale", "div": "scale"}.get(name, "shift"))


def _along(node: fx.Node, source: fx.Node, other: Any) -> tuple[int | None, int] | None:
    """(axis, channels) of a constant against its input; (None, 1) for a single number."""
    shape = tuple(other.meta["val"].shape) if isinstance(other, fx.Node) else ()
    rank = _rank(source)
    if _rank(node) != rank or len(shape) > rank or not same_shape(node, source):
        return None
    wide = [axis - len(shape) + rank for axis, n in enumerate(shape) if n != 1]
    if not wide:
        return None, 1
    size = fixed(shape[wide[0] - rank + len(shape)])
    return (wide[0], size) if len(wide) == 1 and size is not None else None


def same_shape(first: fx.Node, second: fx.Node) -> bool:
    """Whether two nodes' shapes are equal for all sizes, as far as their symbols tell."""
    a, b = first.meta["val"].shape, second.meta["val"].shape
    return len(a) == len(b) and all(str(m) == str(n) for m, n in zip(a, b, strict=True))


def _sum(node: fx.Node, name: str, first: Any, second: Any, alpha: float) -> Any:
    if name not in ("add", "sub") or not all(same_shape(node, side) for side in (first, second)):
        return None
    return Sum((1.0, float(alpha if name == "add" else -alpha))), (first, second)


def _negative(lifter: Lifter, node: fx.Node) -> Any:
    device = "meta" if lifter._constants._meta else node.meta["val"].device
    taps = _scale(torch.full((1,), -1.0, dtype=torch.float64, device=device), None, False, False)
    return lifter.affine(node, node.args[0], lambda: taps, None, label="scale")


def _average_pool(lifter: Lifter, node: fx.Node) -> Any:
    given = _arguments(node)
    source = given["self"]
    dimensions = int(str(node.target).split("avg_pool")[1][0])
    size = _tuple(given["kernel_size"], dimensions)
    stride = _tuple(given["stride"], dimensions) if given["stride"] else size
    padding = _tuple(given["padding"], dimensions)
    if _rank(source) != dimensions + 2:
        return None
    if given["ceil_mode"]:
        raise FuseError("a pool in ceil mode divides by less at the border.")
    if any(padding) and not given["count_include_pad"]:
        raise FuseError("a pool that does not count its padding divides by less at the border.")
    channels = fixed(source.meta["val"].shape[1])
    count = given.get("divisor_override") or torch.Size(size).numel()
    device = "meta" if lifter._constants._meta else node.meta["val"].device

    def taps() -> Taps:
        assert channels is not None
        weight = torch.full((channels, 1, *size), 1 / count, dtype=torch.float64, device=device)
        return Taps(weight, None, stride, (1,) * dimensions, padding, padding, channels, False, False, False)

    if channels is None:
        return None
    return lifter.affine(node, source, taps, 1, label=f"average pool {'×'.join(str(n) for n in size)}", pool=True)


def _table() -> dict[Any, Callable[[Lifter, fx.Node], Any]]:
    rows: dict[Any, Callable[[Lifter, fx.Node], Any]] = {
        aten.linear.default: _linear,
        aten.addmm.default: _addmm,
        aten.mm.default: _matmul,
        aten.matmul.default: _matmul,
        aten.batch_norm.default: _batch_norm,
        aten.convolution.default: _conv,
        aten._convolution.default: _conv,
        aten.conv_transpose1d.default: _conv,
        aten.conv_transpose2d.input: _conv,
        aten.conv_transpose3d.input: _conv,
        aten.neg.default: _negative,
        aten.avg_pool1d.default: _average_pool,
        aten.avg_pool2d.default: _average_pool,
        aten.avg_pool3d.default: _average_pool,
    }
    for dimensions in (1, 2, 3):
        for overload in ("default", "padding"):
            rows[getattr(getattr(aten, f"conv{dimensions}d"), overload)] = _conv
    for name in ("add", "sub", "mul", "div", "rsub"):
        for overload in ("Tensor", "Scalar"):
            rows[getattr(getattr(aten, name), overload)] = _elementwise
    return rows


_RULES = _table()
