"""Rules that remove operations: padding before a convolution, permutes and reshapes that cancel, constant expressions."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx

from audiorep.reparam import algebra
from audiorep.reparam.affine import Affine, identity
from audiorep.reparam.layout import RESHAPES, axis_above, is_layout, permutation
from audiorep.reparam.nodes import arguments, source
from audiorep.reparam.rules import Edit, Make, Match, join

aten = torch.ops.aten


def padding(node: fx.Node) -> Match | None:
    """Proposes to merge zero padding into the convolutions that read it."""
    if node.target not in (aten.constant_pad_nd.default, aten.pad.default) or not node.users:
        return None
    if any(value not in (0, 0.0, None, "constant") for value in node.args[2:]):
        return None
    around: list[int] = list(arguments(node)[1])
    dimensions = node.meta["val"].dim() - 2
    around += [0] * (2 * dimensions - len(around))
    if len(around) > 2 * dimensions or not all(isinstance(n, int) for n in around):
        return None
    for user in node.users:
        target = user.target
        if not isinstance(target, Affine) or target.taps.transposed or target.pool or target.taps.is_scale:
            return None
        if target.axis != 1 or len(target.taps.size) not in (0, dimensions):
            return None
    low, high = (tuple(reversed(around[side::2])) for side in (0, 1))

    def padded(inner: Affine) -> Affine:
        taps = algebra.lifted(inner.taps, dimensions)
        more = [tuple(a + b for a, b in zip(old, new, strict=True)) for old, new in ((taps.low, low), (taps.high, high))]
        return join(replace(taps, low=more[0], high=more[1]), inner.axis, inner)

    def build(make: Make) -> dict[fx.Node, Edit]:
        edits = {user: Edit(make(padded, (user.target,), ("pad", low, high)), (node.args[0],)) for user in node.users}
        return {**edits, node: Edit(identity, (node.args[0],))}

    return Match("padding into convolution", [node, *node.users], list(node.users), build)


def sandwich(node: fx.Node) -> Match | None:
    """Proposes to remove two permutes or reshapes that cancel, with a map between them."""
    inner = node.target
    if not isinstance(inner, Affine) or inner.taps.size or inner.axis is None or len(node.users) != 1:
        return None
    before, after = source(node), next(iter(node.users))
    if not is_layout(before) or not is_layout(after) or after.args[0] is not node:
        return None
    first, second = permutation(before), permutation(after)
    permutes = first is not None and second is not None
    if first is not None and second is not None:
        cancels = tuple(first[axis] for axis in second) == tuple(range(len(first)))
    else:
        cancels = first is None and second is None and {before.target, after.target} <= RESHAPES
    axis = axis_above(before, inner.axis, False, False)
    if not cancels or not isinstance(axis, int) or not _same_but(axis, source(before), after):
        return None
    if not permutes and axis_above(after, axis, False, False) != inner.axis:
        return None

    def moved(old: Affine) -> Affine:
        return replace(join(old.taps, axis, old), label=old.label)

    def build(make: Make) -> dict[fx.Node, Edit]:
        made = make(moved, (inner,), ("sandwich", axis))
        return {node: Edit(made, (source(before),), after.meta["val"]), after: Edit(identity, (node,))}

    return Match("permutes or reshapes that cancel", [before, node, after], [node], build)


def _same_but(axis: int, first: fx.Node, second: fx.Node) -> bool:
    """Whether two shapes are equal in every axis but one."""
    shapes = [list(map(str, node.meta["val"].shape)) for node in (first, second)]
    for shape in shapes:
        if len(shape) > axis:
            shape.pop(axis)
    return shapes[0] == shapes[1] and first.meta["val"].dim() == second.meta["val"].dim()


def constant(node: fx.Node) -> Match | None:
    """Proposes to compute a map's constants from the parameters (weight norm, gates) once."""
    affine = node.target
    if not isinstance(affine, Affine) or affine.raw is None or not affine.derived:
        return None

    def build(make: Make) -> dict[fx.Node, Edit]:
        return {node: Edit(make(lambda inner: replace(inner, raw=None), (affine,), ("constant",)), node.args)}

    return Match("constant expression", [node], [node], build)
