"""Opens outputs that torch's pytree does not know, dataclasses and namespaces, and rebuilds them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

from torch.utils import _pytree as pytree


class Fields:
    """The attributes of an object by name, as a pytree node."""

    def __init__(self, kind: Any, values: dict[str, Any]) -> None:
        self.kind, self.values = kind, values


pytree.register_pytree_node(
    Fields,
    lambda fields: (list(fields.values.values()), (fields.kind, tuple(fields.values))),
    lambda leaves, context: Fields(context[0], dict(zip(context[1], leaves, strict=True))),
    serialized_type_name="audiorep.reparam.Fields",
)


def open_objects(value: Any) -> Any:
    """`value` with `Fields` in place of every dataclass and namespace in it."""

    def open_one(leaf: Any) -> Any:
        if isinstance(leaf, SimpleNamespace):
            return Fields(type(leaf), open_objects(dict(vars(leaf))))
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            return Fields(
                type(leaf), {field.name: open_objects(getattr(leaf, field.name)) for field in dataclasses.fields(leaf)}
            )
        return leaf

    return pytree.tree_map(open_one, value)


def close_objects(value: Any) -> Any:
    """`value` with the objects themselves in place of `Fields`."""

    def close_one(leaf: Any) -> Any:
        if not isinstance(leaf, Fields):
            return leaf
        made = leaf.kind.__new__(leaf.kind)
        for name, inner in leaf.values.items():
            object.__setattr__(made, name, close_objects(inner))
        return made

    return pytree.tree_map(close_one, value, is_leaf=lambda leaf: isinstance(leaf, Fields))


def output_leaves(value: Any) -> list[Any]:
    """The tensors and plain values of an output."""
    leaves: list[Any] = pytree.tree_leaves(open_objects(value))
    return leaves
