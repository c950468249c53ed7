"""Checks one merge: compares the nodes that it changes before and after, on random inputs in float64 and float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from audiorep.reparam.affine import Affine, Constants, Sum
from audiorep.reparam.compare import largest_error
from audiorep.reparam.layout import example_size, readers
from audiorep.reparam.nodes import operation
from audiorep.reparam.rules import Edit

FLOAT64_LIMIT = 1e-10  # relative error; rounding in a deep network stays a thousand times below
FLOAT32_FACTOR = 4.0  # limit for the fused error over the unfused error in float32, both against float64
FLOAT32_FLOOR = 16 * torch.finfo(torch.float32).eps  # the rounding of one merge; ratios of smaller errors mean nothing


class NotEqualError(Exception):
    """A merge whose result differs from the original."""


def check_merge(
    region: list[fx.Node], edits: dict[fx.Node, Edit], constants: Constants, small_inputs: bool, check_float32: bool
) -> float:
    """The largest difference of the values that a region passes on, before and after the merge, on random inputs.

    Args:
        region: the nodes that change.
        edits: the new operations.
        constants: the values of the network's tensors.
        small_inputs: use small inputs where all nodes allow it.
        check_float32: check the rounding in float32 too.

    Raises:
        NotEqualError: the difference is too large.
    """
    order = list(dict.fromkeys(sorted(region)))
    feeds = _feeds(order, edits, constants, small_inputs)
    results = [node for node in order if any(user not in region for user in readers(node))]
    with torch.no_grad():
        before, after = _values(order, {}, feeds, constants), _values(order, edits, feeds, constants)
    error = _relative(results, before, after)
    if not error <= FLOAT64_LIMIT:
        raise NotEqualError(f"rolled back: its float64 error is {error:.1e}")
    if not check_float32:
        return error
    rounded = {node: value.float() if _floats(value) else value for node, value in feeds.items()}
    with torch.no_grad():
        unfused = _relative(results, before, _values(order, {}, rounded, constants))
        fused = _relative(results, before, _values(order, edits, rounded, constants))
    if not fused <= FLOAT32_FACTOR * max(unfused, FLOAT32_FLOOR):
        raise NotEqualError(f"rolled back: its float32 error is {fused:.1e} against {unfused:.1e} before")
    return error


def _floats(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _relative(results: list[fx.Node], before: dict[fx.Node, Any], after: dict[fx.Node, Any]) -> float:
    return max(
        (largest_error(pytree.tree_leaves(before[node]), pytree.tree_leaves(after[node])) for node in results), default=0.0
    )


def _feeds(order: list[fx.Node], edits: dict[fx.Node, Edit], constants: Constants, small_inputs: bool) -> dict[fx.Node, Any]:
    inside = set(order)
    needed = [n for node in order for n in node.all_input_nodes]
    needed += [n for edit in edits.values() for n in pytree.tree_leaves(edit.args) if isinstance(n, fx.Node)]
    generator = torch.Generator().manual_seed(0)
    reach = max((_reach(node.target) for node in order), default=1)
    free = small_inputs and all(isinstance(node.target, Affine | Sum) or "cat" in str(node.target) for node in order)
    feeds = {}
    for node in dict.fromkeys(needed):
        if node in inside or constants.names(node) is not None:
            continue
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            feeds[node] = pytree.tree_map_only(torch.SymInt, example_size, value)
            continue
        shape = [example_size(n) for n in value.shape]
        if free:
            kept = {node.target.axis for node in order if isinstance(node.target, Affine)} - {None}
            shape = [n if axis in kept else min(n, 1 if axis == 0 else reach + 3 + axis) for axis, n in enumerate(shape)]
        device = _device(order, value)
        dtype = torch.complex128 if value.is_complex() else torch.float64
        feeds[node] = torch.randn(shape, dtype=dtype, generator=generator).to(device)
    return feeds


def _device(order: list[fx.Node], value: Tensor) -> torch.device:
    return next((node.target.taps.weight.device for node in order if isinstance(node.target, Affine)), value.device)


def _reach(target: Any) -> int:
    """The input size at which a kernel's output has its middle and both borders."""
    if not isinstance(target, Affine) or not target.taps.size:
        return 1
    taps, sizes = target.taps, [1]
    for stride, dilation, size, low, high in zip(taps.stride, taps.dilation, taps.size, taps.low, taps.high, strict=True):
        extent = dilation * (size - 1) + 1
        sizes.append(stride * max(extent - low - high, extent // 2 + 1))
    return max(sizes)


def _values(
    order: list[fx.Node], edits: dict[fx.Node, Edit], feeds: dict[fx.Node, Any], constants: Constants
) -> dict[fx.Node, Any]:
    single = any(_floats(value) and value.dtype == torch.float32 for value in feeds.values())
    values = dict(feeds)

    def look(node: fx.Node) -> Any:
        if node in values:
            return values[node]
        value = constants.value(node)
        return value.float() if single and _floats(value) else value

    for node in order:
        edit = edits.get(node)
        target, args, kwargs = (operation(node), node.args, node.kwargs) if edit is None else (edit.target, edit.args, {})
        given, named = fx.node.map_arg((args, dict(kwargs)), look)
        values[node] = target(*given, **named)
    return values
