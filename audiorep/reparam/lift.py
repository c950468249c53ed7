"""Finds the linear operations of a captured graph, with their axes and constants, and makes them affine maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from audiorep.errors import FuseError
from audiorep.reparam import algebra, rule_failures
from audiorep.reparam.affine import INPUT, Affine, Constants, Sum, module_path, to_transposed
from audiorep.reparam.algebra import Taps
from audiorep.reparam.capture import Capture
from audiorep.reparam.layout import fixed_size
from audiorep.reparam.nodes import named_arguments, operation, rank, shape, source

aten = torch.ops.aten


class Lifter:
    """Turns a captured graph's linear operations into `Affine` and `Sum` nodes, in place."""

    def __init__(self, captured: Capture, constants: Constants) -> None:
        self._graph, self._constants = captured.graph, constants
        self._maps: dict[Any, Affine] = {}
        self.obstacles: dict[fx.Node, str] = {}
        """Why a node that looks linear cannot be lifted."""

    def lift(self) -> None:
        """Lifts every node that is linear."""
        for node in self._graph.nodes:
            name = str(node.target)
            if name.startswith("aten._native_batch_norm_legit"):
                self.obstacles[node] = _NO_STATISTICS if "no_stats" in name else _TRAINS
            rule = _RULES.get(node.target) if node.op == "call_function" else None
            if rule is None or self._constants.names(node) is not None or not _has_one_precision(node):
                continue
            try:
                found = rule(self, node)
            except FuseError as error:
                self.obstacles[node] = str(error)
                continue
            except Exception as error:  # a rule may fail in any way on an operator that nobody foresaw
                self.obstacles[node] = rule_failures.reason(error)
                continue
            if found is None:
                continue
            target, inputs = found
            node.meta["captured"] = (node.target, node.args, dict(node.kwargs))
            node.target, node.args, node.kwargs = target, inputs, {}

    def forget(self) -> None:
        """Frees the maps that the graph does not use any more."""
        self._maps.clear()

    def note_norm(self, node: fx.Node) -> None:
        """Notes the affine part of a layer, group or RMS norm in the node's `meta`: its weight and bias as a map."""
        given = named_arguments(node)
        weight, bias, source = given.get("weight"), given.get("bias"), given["input"]
        group = node.target is aten.group_norm.default
        if weight is None or not self.is_constant(weight) or not (bias is None or self.is_constant(bias)):
            return
        if not _has_one_precision(node) or self.is_constant(source) or (not group and len(given["normalized_shape"]) != 1):
            return
        names = self._constants.names_of((weight, bias))
        taps = _scale(self.value(weight), self.optional_value(bias), self.trained(weight), self.trained(bias))
        label = str(node.target).split(".")[1].replace("_", " ") + " affine"
        axis = 1 if group else rank(source) - 1
        members = ((label, module_path(node)),)
        node.meta["affine"] = Affine(taps, axis, names, node.meta["val"].dtype, label=label, members=members)

    def value(self, node: fx.Node) -> Tensor:
        """The value of a constant node in float64."""
        value = self._constants.value(node)
        assert isinstance(value, Tensor)
        return value

    def optional_value(self, node: fx.Node | None) -> Tensor | None:
        """The value of a constant node in float64; None where the operation has no such argument."""
        return None if node is None else self.value(node)

    def is_constant(self, node: Any) -> bool:
        """Whether an argument is a tensor that is the same in every call."""
        return self._constants.is_constant(node)

    def device(self, node: fx.Node) -> torch.device:
        """The device on which a constant for `node` is made; the meta device in a dry run."""
        return self._constants.device(node.meta["val"])

    def affine(
        self, node: fx.Node, source: fx.Node, taps: Callable[[], Taps], axis: int | None, *used: Any, **more: Any
    ) -> Any:
        """The lifted operation of `node`. Equal operations with equal constants share one map."""
        args = tuple(INPUT if arg is source else arg for arg in node.args)
        key = (node.target, axis, repr([("in" if arg is INPUT else arg) for arg in args]), repr(node.kwargs))
        if key not in self._maps:
            names = self._constants.names_of(used)
            derived = any(self.is_constant(other) and self._constants.constant(other) is None for other in used)
            self._maps[key] = Affine(
                taps=taps(),
                axis=axis,
                names=names,
                dtype=node.meta["val"].dtype,
                raw=(operation(node), args, dict(node.kwargs)),
                members=((more["label"], module_path(node)),),
                derived=derived,
                **more,
            )
        return self._maps[key], (source,)

    def trained(self, node: Any) -> bool:
        """Whether a constant is computed from a parameter."""
        return any(self._constants.trained[name] for name in self._constants.names(node) or ())


_TRAINS = "it is in training mode: call model.eval() first"
_NO_STATISTICS = "it has no running statistics and depends on its batch"


def _has_one_precision(node: fx.Node) -> bool:
    """Whether a node gives floats in the precision of its inputs."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        return False
    tensors = [other.meta.get("val") for other in node.all_input_nodes]
    return all(not isinstance(t, Tensor) or t.dtype == value.dtype or not t.dtype.is_floating_point for t in tensors)


def _conv(lifter: Lifter, node: fx.Node) -> Any:
    given = named_arguments(node)
    source, weight, bias = given["input"], given["weight"], given["bias"]
    if not lifter.is_constant(weight) or (bias is not None and not lifter.is_constant(bias)):
        raise FuseError("its weight depends on the input or changes its precision.")
    dimensions = weight.meta["val"].dim() - 2
    if rank(source) != dimensions + 2:
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
        tensor = lifter.value(weight)
        tensor = to_transposed(tensor, given["groups"]) if transposed else tensor
        return algebra.flattened(
            Taps(tensor, lifter.optional_value(bias), stride, dilation, low, high, given["groups"], transposed,
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
    given = named_arguments(node)
    source, weight, bias = given["input"], given["weight"], given.get("bias")
    if lifter.is_constant(source) or not lifter.is_constant(weight) or rank(source) < 2:
        return None
    return _matrix(lifter, node, source, weight, bias, transpose=False)


def _addmm(lifter: Lifter, node: fx.Node) -> Any:
    given = named_arguments(node)
    source, weight, bias = given["mat1"], given["mat2"], given["self"]
    if lifter.is_constant(source) or not lifter.is_constant(weight) or not lifter.is_constant(bias) or rank(bias) != 1:
        return None
    if (given["beta"], given["alpha"]) != (1, 1):
        return None
    return _matrix(lifter, node, source, weight, bias, transpose=True)


def _matmul(lifter: Lifter, node: fx.Node) -> Any:
    source, weight = node.args[:2]
    if lifter.is_constant(source) or not lifter.is_constant(weight):
        return None
    assert isinstance(source, fx.Node)
    assert isinstance(weight, fx.Node)
    if rank(weight) != 2 or rank(source) < 2:
        return None
    return _matrix(lifter, node, source, weight, None, transpose=True)


def _matrix(lifter: Lifter, node: fx.Node, source: fx.Node, weight: Any, bias: Any, transpose: bool) -> Any:
    def taps() -> Taps:
        tensor = lifter.value(weight)
        tensor = tensor.T.contiguous() if transpose else tensor
        return Taps(
            tensor, lifter.optional_value(bias), weight_trained=lifter.trained(weight), bias_trained=lifter.trained(bias)
        )

    return lifter.affine(node, source, taps, rank(source) - 1, weight, bias, label="linear")


def _batch_norm(lifter: Lifter, node: fx.Node) -> Any:
    given = named_arguments(node)
    mean, var = given["running_mean"], given["running_var"]
    if mean is None or var is None:
        raise FuseError(_NO_STATISTICS)
    if given.get("training"):
        raise FuseError(_TRAINS)
    weight, bias = given["weight"], given["bias"]

    def taps() -> Taps:
        gain = (lifter.value(var) + given["eps"]).rsqrt()
        if weight is not None:
            gain = gain * lifter.value(weight)
        shift = -lifter.value(mean) * gain
        if bias is not None:
            shift = shift + lifter.value(bias)
        return _scale(gain, shift, lifter.trained(weight), lifter.trained(weight) or lifter.trained(bias))

    return lifter.affine(node, given["input"], taps, 1, weight, bias, mean, var, label="batch norm")


def _scale(gain: Tensor, shift: Tensor | None, gain_trained: bool, shift_trained: bool) -> Taps:
    shift = None if shift is None else shift.expand(gain.shape[0])
    groups = gain.shape[0]
    return Taps(gain[:, None], shift, groups=groups, weight_trained=gain_trained, bias_trained=shift_trained)


def _elementwise(lifter: Lifter, node: fx.Node) -> Any:
    """Lifts products and sums with a constant along one axis (`x * c`, `x / c`, `x + c`, `c - x`), and sums of two tensors."""
    name = str(node.target).split(".")[1]
    given = named_arguments(node)
    first, second = given["self"], given.get("other")
    alpha = given.get("alpha", 1)
    if name == "rsub":
        first, second, name = second, first, "sub"
    tensors = [isinstance(side, fx.Node) and not lifter.is_constant(side) for side in (first, second)]
    if not isinstance(alpha, int | float) or given.get("rounding_mode"):
        return None
    if all(tensors):
        return _sum(node, name, first, second, alpha)
    source, other, flipped = (first, second, False) if tensors[0] else (second, first, True)
    if not isinstance(source, fx.Node) or (flipped and name == "div") or not isinstance(other, fx.Node | int | float):
        return None
    if isinstance(other, fx.Node) and not lifter.is_constant(other):
        return None
    found = _along(node, source, other)
    if found is None:
        return None
    axis, channels = found

    def taps() -> Taps:
        value = lifter.value(other) if isinstance(other, fx.Node) else torch.tensor(float(other), dtype=torch.float64)
        value = value.double().reshape(-1).to(lifter.device(node)).expand(channels)
        ones = value.new_ones(channels)
        trained = lifter.trained(other)
        if name in ("mul", "div"):
            return _scale(value if name == "mul" else 1 / value, None, trained, False)
        if name == "add":
            return _scale(alpha * ones if flipped else ones, value if flipped else alpha * value, False, trained)
        return _scale(-alpha * ones if flipped else ones, value if flipped else -alpha * value, False, trained)

    return lifter.affine(node, source, taps, axis, other, label={"mul": "scale", "div": "scale"}.get(name, "shift"))


def _along(node: fx.Node, source: fx.Node, other: Any) -> tuple[int | None, int] | None:
    """(axis, channels) of a constant that is broadcast to its input; (None, 1) for a single number."""
    sizes = tuple(shape(other)) if isinstance(other, fx.Node) else ()
    missing = rank(source) - len(sizes)
    if rank(node) != rank(source) or missing < 0 or not same_shape(node, source):
        return None
    wide = [axis + missing for axis, n in enumerate(sizes) if n != 1]
    if not wide:
        return None, 1
    size = fixed_size(sizes[wide[0] - missing])
    return (wide[0], size) if len(wide) == 1 and size is not None else None


def same_shape(first: fx.Node, second: fx.Node) -> bool:
    """Whether the symbolic shapes of two nodes are equal."""
    a, b = first.meta["val"].shape, second.meta["val"].shape
    return len(a) == len(b) and all(str(m) == str(n) for m, n in zip(a, b, strict=True))


def _sum(node: fx.Node, name: str, first: Any, second: Any, alpha: float) -> Any:
    if name not in ("add", "sub") or not all(same_shape(node, side) for side in (first, second)):
        return None
    return Sum((1.0, float(alpha if name == "add" else -alpha))), (first, second)


def _negative(lifter: Lifter, node: fx.Node) -> Any:
    taps = _scale(torch.full((1,), -1.0, dtype=torch.float64, device=lifter.device(node)), None, False, False)
    return lifter.affine(node, source(node), lambda: taps, None, label="scale")


def _average_pool(lifter: Lifter, node: fx.Node) -> Any:
    given = named_arguments(node)
    source = given["self"]
    dimensions = int(str(node.target).split("avg_pool")[1][0])
    size = _tuple(given["kernel_size"], dimensions)
    stride = _tuple(given["stride"], dimensions) if given["stride"] else size
    padding = _tuple(given["padding"], dimensions)
    if rank(source) != dimensions + 2:
        return None
    if given["ceil_mode"]:
        raise FuseError("a pool in ceil mode divides by less at the border.")
    if any(padding) and not given["count_include_pad"]:
        raise FuseError("a pool that does not count its padding divides by less at the border.")
    channels = fixed_size(source.meta["val"].shape[1])
    count = given.get("divisor_override") or torch.Size(size).numel()
    device = lifter.device(node)

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
