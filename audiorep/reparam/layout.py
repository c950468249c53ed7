"""Operations that commute with a map along one axis: permutes, reshapes, means, slices, padding, interpolation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy
import torch
from torch import fx

from audiorep.reparam.nodes import argument, arguments, rank, shape, source

aten = torch.ops.aten


RESHAPES = {
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.reshape_as.default,
    aten.view_as.default,
}


def axis_above(node: fx.Node, axis: int | None, shift: bool, resized: bool) -> int | str | None:
    """The axis of a node's input that becomes `axis` of its output, if a map along it commutes with the node.

    Args:
        node: an operation on `node.args[0]`.
        axis: an axis of the output; None for a scale by one number, which commutes with every linear operation.
        shift: whether the map adds something, which does not commute with zero padding and sums.
        resized: whether the map changes the number of channels.

    Returns:
        The axis (None for None), or the reason why the map does not commute with the node.
    """
    rule = _RULES.get(node.target)
    if rule is None:
        return f"{node.name} ({str(node.target).removeprefix('aten.').split('.')[0]}) lies between"
    if shift and node.target in _ZERO_PADDING and _pads(node):
        return "a shift before zero padding is wrong at the border"
    if axis is None:
        return None
    found = rule(node, axis, rank(source(node)))
    if found is None:
        return f"{node.name} ({str(node.target).removeprefix('aten.').split('.')[0]}) mixes the channels"
    if resized and node.target in RESHAPES:
        return f"{node.name} fixes the number of channels"
    return found


def axis_below(node: fx.Node, axis: int | None, shift: bool, resized: bool) -> int | str | None:
    """The axis of a node's output that `axis` of its input becomes; else as `axis_above`."""
    if axis is None:
        return axis_above(node, None, shift, resized)
    reason: str = f"{node.name} mixes the channels"
    for candidate in range(node.meta["val"].dim() if isinstance(node.meta.get("val"), torch.Tensor) else 0):
        found = axis_above(node, candidate, shift, resized)
        if isinstance(found, str):
            reason = found
        elif found == axis:
            return candidate
    return reason


def readers(node: fx.Node) -> list[fx.Node]:
    """The users of a node that read its values, not only its shape."""
    return [user for user in node.users if not _reads_shape(user, node)]


def _reads_shape(user: fx.Node, node: fx.Node) -> bool:
    if user.target in _SHAPE_OF_SECOND:
        return user.args[0] is not node
    return user.target in _SHAPE_OF_FIRST


_SHAPE_OF_SECOND = {
    aten.reshape_as.default,
    aten.view_as.default,
    aten.expand_as.default,
    aten.type_as.default,
}
_SHAPE_OF_FIRST = {
    aten.sym_size.int,
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.empty_like.default,
    aten.full_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_empty.default,
    aten.new_full.default,
}


_ASSUMED_SIZE = 4  # for a size that depends on the values of an input


def fixed_size(size: Any) -> int | None:
    """A size as a number, or None if it is free."""
    if isinstance(size, torch.SymInt):
        return int(size.node.expr) if size.node.expr.is_number else None
    return int(size)


def example_size(size: Any) -> int:
    """A size in the example; an assumed one if it depends on values, as the number of nonzero elements does."""
    if not isinstance(size, torch.SymInt):
        return int(size)
    return int(size.node.hint) if size.node.hint is not None else _ASSUMED_SIZE


def is_layout(node: fx.Node) -> bool:
    """Whether a node is one of the operations of this module."""
    return node.op == "call_function" and node.target in _RULES


def permutation(node: fx.Node) -> tuple[int, ...] | None:
    """The order of axes of a permute or transpose; None for another operation."""
    axes = node.meta["val"].dim() if isinstance(node.meta.get("val"), torch.Tensor) else 0
    if node.target is aten.permute.default:
        return tuple(axis % axes for axis in arguments(node)[1])
    if node.target is aten.transpose.int:
        order = list(range(axes))
        first, second = (axis % axes for axis in arguments(node)[1:3])
        order[first], order[second] = order[second], order[first]
        return tuple(order)
    return None


def _permute(node: fx.Node, axis: int, rank: int) -> int | None:
    order = permutation(node)
    assert order is not None
    return order[axis]


def _reshape(node: fx.Node, axis: int, rank: int) -> int | None:
    """An axis that a reshape leaves whole: the product of the sizes before it, or after it, stays the same."""
    outer, inner = ([_expr(n) for n in shape(x)] for x in (node, source(node)))
    for candidate in range(rank):
        if inner[candidate] != outer[axis] or not outer[axis].is_number:
            continue
        sides = (inner[:candidate], outer[:axis]), (inner[candidate + 1 :], outer[axis + 1 :])
        if all(sympy.expand(sympy.prod(a) - sympy.prod(b)) == 0 for a, b in sides[:1]) or (
            all(sympy.expand(sympy.prod(a) - sympy.prod(b)) == 0 for a, b in sides[1:])
        ):
            return candidate
    return None


def _expr(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)


def _unsqueeze(node: fx.Node, axis: int, rank: int) -> int | None:
    new = int(arguments(node)[1]) % (rank + 1)
    return None if axis == new else axis - (axis > new)


def _squeeze(node: fx.Node, axis: int, rank: int) -> int | None:
    before = shape(source(node))
    given = argument(node, 1, [i for i, n in enumerate(before) if n == 1])
    listed = [given] if isinstance(given, int) else list(given)
    gone = {i % rank for i in listed if fixed_size(before[i % rank]) == 1}
    kept = [i for i in range(rank) if i not in gone]
    return kept[axis] if len(kept) == node.meta["val"].dim() else None


def _reduce(node: fx.Node, axis: int, rank: int) -> int | None:
    listed = argument(node, 1)
    if listed is None:
        return None
    gone = {i % rank for i in ([listed] if isinstance(listed, int) else listed)}
    keep = bool(argument(node, 2, node.kwargs.get("keepdim", False)))
    kept = [i for i in range(rank) if keep or i not in gone]
    return None if kept[axis] in gone else kept[axis]


def _slice(node: fx.Node, axis: int, rank: int) -> int | None:
    return None if axis == argument(node, 1, 0) % rank else axis


def _select(node: fx.Node, axis: int, rank: int) -> int | None:
    gone = int(arguments(node)[1]) % rank
    return axis + (axis >= gone)


def _spatial(node: fx.Node, axis: int, rank: int) -> int | None:
    """Pools and interpolation work on each channel alone; the channels are axis 1."""
    return axis if axis == 1 and rank >= 3 else None


def _pad(node: fx.Node, axis: int, rank: int) -> int | None:
    around = arguments(node)[1]
    padded = {rank - 1 - i // 2 for i, n in enumerate(around) if n != 0}
    return None if axis in padded else axis


def _flip(node: fx.Node, axis: int, rank: int) -> int | None:
    return None if axis in {i % rank for i in arguments(node)[1]} else axis


def _roll(node: fx.Node, axis: int, rank: int) -> int | None:
    """A roll without axes mixes all axes."""
    axes = argument(node, 2, ())
    return None if not axes or axis in {i % rank for i in axes} else axis


def _expand(node: fx.Node, axis: int, rank: int) -> int | None:
    inner = axis - (node.meta["val"].dim() - rank)
    if inner < 0 or str(shape(source(node))[inner]) != str(shape(node)[axis]):
        return None
    return inner


def _pads(node: fx.Node) -> bool:
    if node.target is aten.sum.dim_IntList:
        return True
    if str(node.target).startswith("aten.avg_pool"):
        override = argument(node, 6, node.kwargs.get("divisor_override"))
        padding = argument(node, 3, 0)
        return override is not None or any(padding if isinstance(padding, list) else [padding])
    if str(node.target).startswith("aten.constant_pad_nd"):
        return not (len(node.args) > 2 and node.args[2] != 0)
    return len(node.args) < 3 or node.args[2] == "constant"


def _zero_pad(node: fx.Node, axis: int, rank: int) -> int | None:
    if len(node.args) > 2 and node.args[2] not in (0, 0.0, None):
        return None
    return _pad(node, axis, rank)


def _mode_pad(node: fx.Node, axis: int, rank: int) -> int | None:
    if _pads(node) and len(node.args) > 3 and node.args[3] not in (0, 0.0, None):
        return None
    return _pad(node, axis, rank)


_ZERO_PADDING = {
    aten.constant_pad_nd.default,
    aten.pad.default,
    aten.sum.dim_IntList,
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.avg_pool3d.default,
}

_RULES: dict[Any, Callable[[fx.Node, int, int], int | None]] = {
    aten.permute.default: _permute,
    aten.transpose.int: _permute,
    aten.reshape.default: _reshape,
    aten.flatten.using_ints: _reshape,
    aten.reshape_as.default: _reshape,
    aten.view_as.default: _reshape,
    aten.unflatten.int: _reshape,
    aten.unsqueeze.default: _unsqueeze,
    aten.squeeze.default: _squeeze,
    aten.squeeze.dim: _squeeze,
    aten.squeeze.dims: _squeeze,
    aten.mean.dim: _reduce,
    aten.sum.dim_IntList: _reduce,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.adaptive_avg_pool1d.default: _spatial,
    aten.adaptive_avg_pool2d.default: _spatial,
    aten.adaptive_avg_pool3d.default: _spatial,
    aten.avg_pool1d.default: _spatial,
    aten.avg_pool2d.default: _spatial,
    aten.avg_pool3d.default: _spatial,
    aten.upsample_nearest1d.vec: _spatial,
    aten.upsample_nearest2d.vec: _spatial,
    aten.upsample_nearest3d.vec: _spatial,
    aten.upsample_bilinear2d.vec: _spatial,
    aten.upsample_linear1d.vec: _spatial,
    aten.constant_pad_nd.default: _zero_pad,
    aten.pad.default: _mode_pad,
    aten.flip.default: _flip,
    aten.roll.default: _roll,
    aten.expand.default: _expand,
}
