"""The sizes of a captured network's inputs: fixed ones, free ones, and conditions on them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audiorep.errors import FuseError
from audiorep.reparam.conditions import Condition, conditions, python_code
from audiorep.reparam.example_call import Call

Spot = tuple[int, int]  # (tensor of the inputs, axis)


@dataclass
class Sizes:
    """The sizes of all input tensors."""

    free: dict[str, list[Spot]] = field(default_factory=dict)
    """The places of each free size, by name."""
    derived: dict[Spot, str] = field(default_factory=dict)
    """Python expressions for the sizes that follow from free ones."""
    conditions: list[Condition] = field(default_factory=list)
    """The conditions on the free sizes."""
    places: list[str] = field(default_factory=list)
    """The expression of each input tensor."""
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """The shapes of the example."""

    @property
    def example(self) -> dict[str, int]:
        """The values of the free sizes in the example."""
        return {name: self.shapes[spots[0][0]][spots[0][1]] for name, spots in self.free.items()}

    @property
    def batches(self) -> list[str]:
        """The free sizes that occur as first axes only."""
        return [name for name, spots in self.free.items() if all(axis == 0 for _, axis in spots)]

    def broken(self, sizes: Mapping[str, int]) -> list[Condition]:
        """The conditions that these free sizes violate."""
        return [condition for condition in self.conditions if not condition.holds(sizes)]

    def resized(self, sizes: Mapping[str, int]) -> list[list[int]]:
        """The shapes of all inputs for other free sizes."""
        shapes = [list(shape) for shape in self.shapes]
        for name, spots in self.free.items():
            for index, axis in spots:
                shapes[index][axis] = sizes[name]
        for (index, axis), text in self.derived.items():
            shapes[index][axis] = int(eval(text, {"__builtins__": {}, "max": max, "min": min}, dict(sizes)))
        return shapes

    def fixed(self) -> dict[str, tuple[int | None, ...]]:
        """The sizes of each tensor by its expression, None for those that are not fixed."""
        open_spots = {spot for spots in self.free.values() for spot in spots} | set(self.derived)
        return {
            place: tuple(None if (index, axis) in open_spots else size for axis, size in enumerate(shape))
            for index, (place, shape) in enumerate(zip(self.places, self.shapes, strict=True))
        }

    def expressions(self, kept: Collection[Condition]) -> list[str]:
        """The requirements on the sizes as Python expressions over the inputs."""
        names = {name: self._size(spots[0]) for name, spots in self.free.items()}
        equal = [f"{self._size(spot)} == {names[name]}" for name, spots in self.free.items() for spot in spots[1:]]
        derived = [f"{self._size(spot)} == {_with_names(text, names)}" for spot, text in self.derived.items()]
        return [*equal, *derived, *(_with_names(condition.code, names) for condition in kept)]

    def sentences(self, kept: Collection[Condition]) -> list[str]:
        """The requirements on the sizes as sentences."""
        names = {name: self._phrase(spots[0]) for name, spots in self.free.items()}
        equal = [f"{self._phrase(spot)} equals {names[name]}" for name, spots in self.free.items() for spot in spots[1:]]
        derived = [f"{self._phrase(spot)} equals {_with_names(text, names)}" for spot, text in self.derived.items()]
        return [*equal, *derived, *(_with_names(condition.sentence, names) for condition in kept)]

    def _size(self, spot: Spot) -> str:
        return f"{self.places[spot[0]]}.size()[{spot[1]}]"

    def _phrase(self, spot: Spot) -> str:
        return f"size {spot[1]} of {self.places[spot[0]]}"


def _with_names(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda match: names.get(match[0], match[0]), text)


def sizes_of(values: Sequence[Tensor], call: Call) -> Sizes:
    """Reads the sizes of the inputs from the exporter's symbols.

    Args:
        values: the input tensors, with symbols for free sizes.
        call: the example.

    Raises:
        FuseError: the exporter does not give its conditions on the free ones.
    """
    if len(values) != len(call.tensors):
        raise FuseError("the exporter lost an input.")
    sizes = Sizes(places=[place for place, _ in call.tensors], shapes=[tuple(tensor.shape) for _, tensor in call.tensors])
    try:
        symbols = dict(_symbolic(values))
        own = {spot: node._expr for spot, node in symbols.items()}
        known = {str(node.expr) for spot, node in symbols.items() if node.expr == own[spot]}
        replaced = {}
        for spot, node in symbols.items():
            names = {str(symbol) for symbol in node.expr.free_symbols}
            if not names <= known:  # it depends on a symbol that is no size: it stays free
                sizes.free.setdefault(str(own[spot]), []).append(spot)
                continue
            replaced[own[spot]] = node.expr
            if str(node.expr) in known:
                sizes.free.setdefault(str(node.expr), []).append(spot)
            elif names:
                sizes.derived[spot] = python_code(node.expr)
        sizes.conditions = _conditions(symbols, replaced, sizes)
    except AttributeError as error:
        raise FuseError(
            f"torch {torch.__version__} does not say under which sizes a captured graph holds ({error})."
        ) from error
    _check(sizes)
    return sizes


def _symbolic(values: Sequence[Tensor]) -> list[tuple[Spot, Any]]:
    """(place, the exporter's node) for every symbolic size."""
    return [
        ((index, axis), size.node)
        for index, value in enumerate(values)
        for axis, size in enumerate(list[Any](value.shape))
        if isinstance(size, torch.SymInt)
    ]


def _conditions(symbols: dict[Spot, Any], replaced: dict[Any, Any], sizes: Sizes) -> list[Condition]:
    if not symbols:
        return []
    inputs = {str(node._expr) for node in symbols.values()}
    guards = [g for g in next(iter(symbols.values())).shape_env.guards if {str(s) for s in g.expr.free_symbols} <= inputs]
    return conditions(guards, replaced, sizes.free)


def _check(sizes: Sizes) -> None:
    """Refuses conditions that the example itself violates: they were read wrongly."""
    broken = sizes.broken(sizes.example)
    if broken:
        raise FuseError(f"the exporter's condition {broken[0].code} does not hold for the example.")
