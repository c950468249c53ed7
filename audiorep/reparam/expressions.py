"""Python expressions for operations and for the containers of an output."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree


def callable_expression(target: Any) -> str:
    """The expression for an operation, for example `torch.ops.aten.relu.default`."""
    if isinstance(target, torch._ops.OpOverload):
        return f"torch.ops.{target}"
    return f"{target.__module__}.{target.__qualname__}"


def has_literal(structure: pytree.TreeSpec) -> bool:
    """Whether a structure has only containers that can be written down."""
    if structure.is_leaf():
        return True
    containers = (tuple, list, dict, OrderedDict, type(None))
    return structure.type in containers and all(has_literal(child) for child in structure.children())


def literal(structure: pytree.TreeSpec, leaves: Iterator[str]) -> str:
    """A structure written down with these expressions for its leaves."""
    if structure.is_leaf():
        return next(leaves)
    inner = [literal(child, leaves) for child in structure.children()]
    if structure.type in (dict, OrderedDict):
        pairs = list(zip(structure.context, inner, strict=True))
        if structure.type is OrderedDict:
            return f"OrderedDict([{', '.join(f'({key!r}, {value})' for key, value in pairs)}])"
        return "{" + ", ".join(f"{key!r}: {value}" for key, value in pairs) + "}"
    if structure.type is list:
        return f"[{', '.join(inner)}]"
    return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})" if structure.type is tuple else "None"
