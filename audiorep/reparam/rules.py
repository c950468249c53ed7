"""What may be merged: each rule looks at one node and gives the edits that leave every value outside its region equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from audiorep.reparam import algebra
from audiorep.reparam.affine import NORMS, Affine, Sum, identity
from audiorep.reparam.algebra import Taps
from audiorep.reparam.layout import RESHAPES, axis_above, axis_below, fixed_size, is_layout, readers
from audiorep.reparam.nodes import argument, arguments, operation, rank, shape, source
from audiorep.reparam.recurrent import Recurrent, folded, is_input, with_one_bias

aten = torch.ops.aten
Make = Callable[..., Any]


@dataclass(frozen=True)
class Edit:
    """The new operation of a node."""

    target: Any
    args: tuple[Any, ...]
    value: Any = None
    """The example of its result, if the shape changes."""


@dataclass
class Match:
    """A merge that a rule proposes."""

    kind: str
    region: list[fx.Node]
    """The nodes whose values may change, except those that others read."""
    merged: list[fx.Node]
    """The nodes whose maps are merged."""
    build: Callable[[Make], dict[fx.Node, Edit]]
    """Builds the edits. `make(function, maps)` makes a new map, on the meta device where only its cost is needed."""


class RefusalError(Exception):
    """The reason why a rule does not apply, for the report."""


def scale_up(node: fx.Node) -> Match | None:
    """Proposes to merge a scale or shift (batch norm, layer scale, constants) into the maps before it."""
    diagonal = node.target
    if not isinstance(diagonal, Affine) or not diagonal.taps.is_scale or diagonal.pool:
        return None
    leaves: list[tuple[fx.Node, int, int | None, bool]] = []
    region = [node]
    _feeders(source(node), diagonal.axis, diagonal.taps.bias is not None, (0, None), leaves, region)
    if len({leaf for leaf, *_ in leaves}) < len(leaves):
        raise RefusalError("what is before it is used twice")

    def build(make: Make) -> dict[fx.Node, Edit]:
        edits = {node: Edit(identity, (node.args[0],))}
        for leaf, start, stop, shifts in leaves:

            def scaled(
                inner: Affine, outer: Affine, start: int = start, stop: int | None = stop, shifts: bool = shifts
            ) -> Affine:
                return _scaled(inner, outer, slice(start, stop), shifts)

            made = make(scaled, (leaf.target, diagonal), ("up", start, stop, shifts))
            edits[leaf] = Edit(made, leaf.args)
        return edits

    return Match("scale into map", region, [*(leaf for leaf, *_ in leaves), node], build)


def _feeders(
    x: fx.Node, axis: int | None, shift: bool, part: tuple[int, int | None], leaves: list[Any], region: list[fx.Node]
) -> None:
    """Collects the maps from which `x` is computed by operations that a scale commutes with.

    Raises:
        RefusalError: another operation lies between, or something else reads a value on the way.
    """
    if len(readers(x)) != 1:
        raise RefusalError(f"{name_of(x)} before it is used elsewhere too")
    region.append(x)
    target = x.target
    if isinstance(target, Affine) and target.pool and axis in (None, 1):
        if shift and any(target.taps.low + target.taps.high):
            raise RefusalError("a shift before zero padding is wrong at the border")
        _feeders(source(x), axis, shift, part, leaves, region)
    elif isinstance(target, Affine):
        if not (axis == target.axis or axis is None or target.axis is None):
            raise RefusalError(f"{name_of(x)} before it works along another axis")
        leaves.append((x, *part, shift))
    elif isinstance(target, Sum):
        for position, term in enumerate(arguments(x)):
            factor = target.factors[position]
            if factor not in (1.0, -1.0) or (shift and target.factors[0] != 1.0):
                raise RefusalError("the sum before it is weighted")
            _feeders(term, axis, shift and position == 0, part, leaves, region)
    elif target is aten.cat.default:
        _concatenated(x, axis, shift, part, leaves, region)
    elif is_layout(x):
        above = axis_above(x, axis, shift, resized=False)
        if isinstance(above, str):
            raise RefusalError(above)
        _feeders(source(x), above, shift, part, leaves, region)
    else:
        raise RefusalError(f"{name_of(x)} before it is not linear")


def _concatenated(
    x: fx.Node, axis: int | None, shift: bool, part: tuple[int, int | None], leaves: list[Any], region: list[fx.Node]
) -> None:
    along = argument(x, 1, 0) % rank(x)
    start = part[0]
    for piece in arguments(x)[0]:
        inner = part
        if axis == along:
            size = fixed_size(shape(piece)[along])
            if size is None:
                raise RefusalError("the concatenation before it has a free size along the channels")
            inner = (start, start + size)
            start += size
        _feeders(piece, axis, shift, inner, leaves, region)


def _scaled(inner: Affine, outer: Affine, part: slice, shifts: bool) -> Affine:
    taps = inner.taps
    if inner.axis is None and outer.axis is not None:
        taps = spread(taps, outer.taps.outputs)
    gain, shift = outer.taps.weight[:, 0], outer.taps.bias if shifts else None
    if outer.axis is None:
        gain = gain.expand(taps.outputs)
        shift = None if shift is None else shift.expand(taps.outputs)
    else:
        gain, shift = gain[part], None if shift is None else shift[part]
    total = algebra.scale(taps, gain, shift, outer.taps.weight_trained, outer.taps.bias_trained)
    return join(total, outer.axis if inner.axis is None else inner.axis, inner, outer)


def spread(taps: Taps, channels: int) -> Taps:
    """A scale by one number as a scale of `channels`."""
    if taps.outputs == channels:
        return taps
    bias = None if taps.bias is None else taps.bias.expand(channels)
    return replace(taps, weight=taps.weight.expand(channels, 1), bias=bias, groups=channels)


def join(taps: Taps, axis: int | None, *parts: Affine) -> Affine:
    """A merged map with the members and tensors of `parts`."""
    members = tuple(dict.fromkeys(member for part in parts for member in part.members))
    names = frozenset().union(*(part.names for part in parts))
    return Affine(taps, axis, names, parts[0].dtype, None, _label(taps), members)


def _label(taps: Taps) -> str:
    if taps.is_scale:
        return "scale"
    size = "×".join(str(n) for n in taps.size) or "1"
    return f"{'transposed ' if taps.transposed else ''}{'conv ' + size if taps.size else 'linear'}"


def map_down(node: fx.Node) -> Match | None:
    """Proposes to merge a map into the maps after it: a norm before a linear layer, 1×1 before k×k, two linear layers."""
    first = node.target
    if not isinstance(first, Affine) or first.pool:
        return None
    leaves: list[tuple[fx.Node, int | None]] = []
    region = [node]
    resized = first.taps.inputs != first.taps.outputs and first.axis is not None
    _absorbers(node, first.axis, first.taps.bias is not None, resized, leaves, region)
    if all(_is_scale(leaf) for leaf, _ in leaves):
        return None  # `scale_up` merges these
    if first.taps.size:
        return _kernel_down(node, leaves, region)

    def build(make: Make) -> dict[fx.Node, Edit]:
        edits = {node: Edit(identity, (node.args[0],))}
        for leaf, _ in leaves:
            edits[leaf] = Edit(make(composed, (first, leaf.target), ("down",)), leaf.args)
        return edits

    return Match("map into next map", region, [node, *(leaf for leaf, _ in leaves)], build)


def _kernel_down(node: fx.Node, leaves: list[tuple[fx.Node, int | None]], region: list[fx.Node]) -> Match:
    """Proposes to merge a convolution with a kernel and the one map after it."""
    if len(leaves) > 1:
        raise RefusalError("several maps read it, and each would need its kernel")
    leaf = leaves[0][0]
    first, second = node.target, leaf.target
    assert isinstance(first, Affine)
    if not isinstance(second, Affine):
        raise RefusalError("a kernel before a recurrent layer is not merged")
    between = [other for other in region if other not in (node, leaf)]
    if second.taps.size and between:
        raise RefusalError(f"{name_of(between[0])} lies between two kernels")
    if second.taps.inputs != second.taps.outputs:
        if any(_fixes(other) for other in between):
            raise RefusalError(f"{name_of(between[0])} fixes the number of channels")
        if any(len(readers(other)) < len(other.users) for other in (node, *between)):
            raise RefusalError("its shape is read too, and would change")

    def build(make: Make) -> dict[fx.Node, Edit]:
        made = make(composed, (first, second), ("kernel",))
        value = resized(node, first.axis, made.taps.outputs) if between else leaf.meta["val"]
        return {node: Edit(made, node.args, value), leaf: Edit(identity, (leaf.args[0],))}

    return Match("map into next map", region, [node, leaf], build)


def resized(node: fx.Node, axis: int | None, channels: int) -> Any:
    """The example of a node's result with another number of channels."""
    value = node.meta["val"]
    return value.new_empty([channels if i == axis else n for i, n in enumerate(value.shape)])


def _fixes(node: fx.Node) -> bool:
    return node.target in RESHAPES or node.target is aten.expand.default


def _is_scale(node: fx.Node) -> bool:
    return isinstance(node.target, Affine) and node.target.taps.is_scale


def composed(first: Affine, second: Affine | Recurrent) -> Affine | Recurrent:
    """The composition `second(first(x))`."""
    if isinstance(second, Recurrent):
        return folded(first, second)
    taps = spread(first.taps, second.taps.inputs) if first.axis is None else first.taps
    total = algebra.flattened(algebra.compose(taps, second.taps))
    return join(total, first.axis if first.taps.size else second.axis, first, second)


def _absorbers(
    x: fx.Node, axis: int | None, shift: bool, resized: bool, leaves: list[tuple[fx.Node, int | None]], region: list[fx.Node]
) -> None:
    """Collects the maps that read `x` through operations that a map commutes with.

    Raises:
        RefusalError: something else reads `x`.
    """
    users = readers(x)
    if not users:
        raise RefusalError("nothing reads it")
    if resized and len(users) < len(x.users):
        raise RefusalError("its shape is read too, and would change")
    for user in users:
        region.append(user)
        target = user.target
        if isinstance(target, Affine) and target.pool and axis in (None, 1):
            if shift and any(target.taps.low + target.taps.high):
                raise RefusalError("a shift before zero padding is wrong at the border")
            _absorbers(user, axis, shift, resized, leaves, region)
        elif isinstance(target, Affine) and not target.pool:
            if axis is not None and target.axis != axis:
                raise RefusalError(f"{name_of(user)} behind it works along another axis")
            leaves.append((user, axis))
        elif is_input(target, user, x, axis):
            leaves.append((user, axis))
        elif is_layout(user) and user.args[0] is x:
            below = axis_below(user, axis, shift, resized)
            if isinstance(below, str):
                raise RefusalError(below)
            _absorbers(user, below, shift, resized, leaves, region)
        else:
            raise RefusalError(
                f"{name_of(user)} reads it too" if len(users) > 1 else f"{name_of(user)} behind it is not linear"
            )


def norm_down(node: fx.Node) -> Match | None:
    """Proposes to merge the affine part of a layer, group or RMS norm into the maps after it."""
    affine = norm_affine(node)
    if affine is None:
        return None
    leaves: list[tuple[fx.Node, int | None]] = []
    region = [node]
    _absorbers(node, affine.axis, affine.taps.bias is not None, False, leaves, region)
    if all(_is_scale(leaf) for leaf, _ in leaves):
        raise RefusalError("only scales read it")
    dropped = {aten.layer_norm.default: (2, 3), aten.group_norm.default: (2, 3), aten.rms_norm.default: (2,)}[operation(node)]
    args = tuple(None if position in dropped else arg for position, arg in enumerate(node.args))

    def build(make: Make) -> dict[fx.Node, Edit]:
        edits = {node: Edit(node.target, args)}
        for leaf, _ in leaves:
            edits[leaf] = Edit(make(composed, (affine, leaf.target), ("norm",)), leaf.args)
        return edits

    return Match("norm's affine into next map", region, [node, *(leaf for leaf, _ in leaves)], build)


def norm_affine(node: fx.Node) -> Affine | None:
    """The scale and shift of a norm as a map, or None."""
    return node.meta.get("affine") if node.target in NORMS else None


def one_bias(node: fx.Node) -> Match | None:
    """Proposes to add the two biases of an LSTM or GRU."""
    layer = node.target
    if not isinstance(layer, Recurrent) or not layer.biased or layer.merged:
        return None

    def build(make: Make) -> dict[fx.Node, Edit]:
        return {node: Edit(make(with_one_bias, (layer,), ("bias",)), node.args)}

    return Match("recurrent biases", [node], [node], build)


def name_of(node: fx.Node) -> str:
    """The name of a node in a reason."""
    if isinstance(node.target, Affine) and node.target.members:
        label, path = node.target.members[0]
        return f"{path} ({label})" if path else label
    return "the output" if node.op == "output" else "the input" if node.op == "placeholder" else node.name
