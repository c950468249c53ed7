"""Finds conditions of a network on sizes of one that do not change what it computes.

A network may ask whether a size is one and then do something that changes nothing, for example expand positions to the
batch size that they already have. A measurement cannot show that, because the answer may matter for some values only. Two
graphs can show it: one captured at size one and one captured above it are compared node by node. A view that keeps the
shape counts as nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from audiorep.reparam.capture import Capture, capture
from audiorep.reparam.nodes import argument, operation
from audiorep.reparam.verify import Trial, input_at, other_sizes

aten = torch.ops.aten
MOST_CONDITIONS = 3  # to examine; each can need two more captures than the one before
_BY_SHAPE = {aten.reshape.default, aten.expand.default}  # the shape of their result determines them
_VIEWS = {*_BY_SHAPE, aten.slice.Tensor}


def mark_idle_conditions(model: nn.Module, captured: Capture) -> Capture:
    """The capture with conditions that change nothing at size one marked as the exporter's, so that they are measured."""
    sizes = captured.sizes
    sets = dict.fromkeys(condition.ones for condition in sizes.conditions if condition.ones and condition.own)
    together = [frozenset[str]()]  # sets of sizes that may all be one at once
    for ones in list(sets)[:MOST_CONDITIONS]:
        joined = [ones | others for others in together if ones is not None]
        if all(_is_same_graph(model, captured, each) for each in joined):
            together += joined
    marked = [replace(one, own=False) if one.own and one.ones in together[1:] else one for one in sizes.conditions]
    return replace(captured, sizes=replace(sizes, conditions=marked)) if len(together) > 1 else captured


def _is_same_graph(model: nn.Module, captured: Capture, ones: frozenset[str]) -> bool:
    bases = (captured.sizes.example, *other_sizes(captured)[:1])
    trials = [input_at(captured, {**base, **dict.fromkeys(ones, 1)}) for base in bases]
    if not all(condition.ones and condition.ones <= ones for trial in trials for condition in trial.broken):
        return False
    try:
        alone = capture(model, trials[0].args, trials[0].kwargs, double_batch=False)
        return _asks_no_more(alone, captured, ones) and all(_computes_same(alone, captured, trial) for trial in trials)
    except Exception:  # export and the operations may raise anything; then nothing is known
        return False


def _asks_no_more(alone: Capture, captured: Capture, ones: frozenset[str]) -> bool:
    """Whether a graph captured at size one is valid wherever the other is, apart from the sizes that are one."""
    fixed = {spot for name in ones for spot in captured.sizes.free[name]}
    open_spots = {spot for spots in captured.sizes.free.values() for spot in spots} - fixed
    free = {spot for spots in alone.sizes.free.values() for spot in spots}
    asked = set(alone.sizes.sentences(alone.sizes.conditions))
    return open_spots <= free and asked <= set(captured.sizes.sentences(captured.sizes.conditions))


def _computes_same(alone: Capture, captured: Capture, trial: Trial) -> bool:
    """Whether two graphs of one network compute the same for inputs of these shapes."""
    numbers: dict[Hashable, int] = {}
    return _results(alone, trial, numbers) == _results(captured, trial, numbers) and alone.structure == captured.structure


def _results(captured: Capture, trial: Trial, numbers: dict[Hashable, int]) -> list[Any]:
    """A number for the computation of each output and each written value; equal computations have equal numbers."""
    reader = _Numbering(captured, trial, numbers)
    written = [(reader.key(target), reader.key(value)) for target, value in captured.updates]
    return [[reader.key(leaf) for leaf in captured.result], sorted(written, key=repr)]


class _Numbering:
    """Numbers the computation of each node of a graph at given shapes, without computing values."""

    def __init__(self, captured: Capture, trial: Trial, numbers: dict[Hashable, int]) -> None:
        self._numbers, self._keys, self._values = numbers, dict[fx.Node, Any](), dict[fx.Node, Any]()
        given = [leaf for leaf in pytree.tree_leaves((trial.args, trial.kwargs)) if isinstance(leaf, Tensor)]
        places = dict(zip((place for place, _ in captured.call.tensors), given, strict=True))
        held = {node: ("constant", constant.name, constant.tensor) for node, constant in captured.constants.items()}
        held |= {node: ("input", place, places[place]) for node, place in captured.inputs}
        with FakeTensorMode() as mode:
            for node in captured.graph.nodes:
                if node in held:
                    kind, name, tensor = held[node]
                    self._values[node] = mode.from_tensor(tensor, static_shapes=True)
                    self._keys[node] = self._number((kind, name))
                elif node.op == "call_function":
                    self._read(node)

    def key(self, value: Any) -> Any:
        """The number of a node's computation; any other value as it is."""
        return self._keys[value] if isinstance(value, fx.Node) else value

    def _read(self, node: fx.Node) -> None:
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._values.__getitem__)
        value = self._values[node] = operation(node)(*args, **kwargs)
        if not pytree.tree_any(lambda leaf: isinstance(leaf, Tensor), value):
            self._keys[node] = value
            return
        source = argument(node, 0)
        before = self._values[source] if isinstance(source, fx.Node) else None
        same_shape = isinstance(value, Tensor) and isinstance(before, Tensor) and value.shape == before.shape
        if node.target in _VIEWS and same_shape:
            self._keys[node] = self._keys[source]
            return
        keys = fx.map_arg((node.args, node.kwargs), self._keys.__getitem__)
        shaped = (self._keys[source], tuple(value.shape)) if node.target in _BY_SHAPE else repr(keys)
        self._keys[node] = self._number((str(node.target), shaped))

    def _number(self, computation: Hashable) -> int:
        return self._numbers.setdefault(computation, len(self._numbers))
