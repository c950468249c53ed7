"""Which nodes use which tensors, and what a merge changes in parameters, stored values and multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from audiorep.reparam.affine import Affine, Constants
from audiorep.reparam.layout import example_size
from audiorep.reparam.nodes import shape
from audiorep.reparam.recurrent import Recurrent
from audiorep.reparam.rules import Edit

Key = Any
"""What holds values: the name of one of the network's tensors, or a map that a merge made."""


@dataclass(frozen=True)
class CostChange:
    """What a merge changes, each as (before, after)."""

    parameters: tuple[int, int]
    stored: tuple[int, int]
    """Parameters and the statistics of batch norms."""
    macs: tuple[int, int]
    shared_with: tuple[fx.Node, ...]
    """Nodes outside the merge that use one of its tensors."""


class TensorUse:
    """An index from tensors and merged maps to the nodes that use them."""

    def __init__(self, graph: fx.Graph, constants: Constants) -> None:
        self._constants = constants
        self._users: dict[Key, set[fx.Node]] = {}
        for node in graph.nodes:
            self.add(node)

    def add(self, node: fx.Node) -> None:
        """Enters a node with its present operation."""
        for key in self.keys(node):
            self._users.setdefault(key, set()).add(node)

    def remove(self, node: fx.Node) -> None:
        """Removes a node, before its operation changes."""
        for key in self.keys(node):
            users = self._users.get(key, set())
            users.discard(node)
            if not users:
                self._users.pop(key, None)  # frees the weights of a map that was merged further

    def keys(self, node: fx.Node) -> tuple[Key, ...]:
        """What a node keeps alive: names of the network's tensors, or merged maps."""
        if self._constants.is_constant(node):
            return ()
        return self._operation_keys(node.target, node.all_input_nodes)

    def sharing(self, nodes: set[fx.Node]) -> set[fx.Node]:
        """Other nodes that use a tensor of `nodes`."""
        keys = {key for node in nodes for key in self.keys(node)}
        return {user for key in keys for user in self._users.get(key, ())} - nodes

    def change(self, edits: Mapping[fx.Node, Edit], merged: Iterable[fx.Node]) -> CostChange:
        """What the edits change; a tensor that other nodes use stays, and counts on neither side."""
        touched = {*edits, *merged}
        before = {key for node in touched for key in self.keys(node)}
        outside = [user for key in before for user in self._users.get(key, ()) if user not in touched]
        kept = {key for node in outside for key in self.keys(node)}
        after = {key for edit in edits.values() for key in self._operation_keys(edit.target, pytree.tree_leaves(edit.args))}
        old, new = before - kept, after - kept
        return CostChange(
            parameters=(sum(map(self._parameters, old)), sum(map(self._parameters, new))),
            stored=(sum(map(self._stored, old)), sum(map(self._stored, new))),
            macs=(
                sum(macs_of(node.target, node.meta.get("val"), node.args) for node in touched),
                sum(
                    macs_of(edit.target, node.meta.get("val") if edit.value is None else edit.value, edit.args)
                    for node, edit in edits.items()
                ),
            ),
            shared_with=tuple(outside),
        )

    def _operation_keys(self, target: Any, used: Iterable[Any]) -> tuple[Key, ...]:
        if isinstance(target, Affine):
            return tuple(target.names) if target.raw is not None else (target,)
        if isinstance(target, Recurrent):
            return target.keys
        return tuple(name for other in used for name in self._constants.names(other) or ())

    def _parameters(self, key: Key) -> int:
        if isinstance(key, str):
            return self._constants.numel[key] if self._constants.trained[key] else 0
        return int(key.parameters)

    def _stored(self, key: Key) -> int:
        if isinstance(key, str):
            return self._constants.numel[key]
        if isinstance(key, Affine):
            return key.taps.weight.numel() + (0 if key.taps.bias is None else key.taps.bias.numel())
        return int(key.parameters)


def macs_of(target: Any, value: Any, args: tuple[Any, ...]) -> int:
    """Multiply-accumulates of one operation in the example.

    Args:
        target: the operation; anything but a map or a recurrent layer counts 0.
        value: the example of its result.
        args: its arguments.
    """
    if isinstance(target, Recurrent):
        return target.macs
    if not isinstance(target, Affine) or target.pool or target.axis is None:
        return 0
    sizes = shape(args[0]) if target.taps.transposed else value.shape
    return target.taps.macs * math.prod(example_size(n) for axis, n in enumerate(sizes) if axis != target.axis)
