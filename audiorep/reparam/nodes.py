"""Typed access to what a node of a captured graph holds.

`torch.fx` types each argument as a union of everything that an argument can be. Which of these a position holds is fixed by
the operation's schema, so that a caller that has matched the operation knows more than the type does.
"""

from __future__ import annotations

from typing import Any

from torch import fx


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """The positional arguments of a node."""
    return node.args


def argument(node: fx.Node, position: int, default: Any = None) -> Any:
    """The positional argument at `position`, or `default` where the call leaves it out."""
    return node.args[position] if len(node.args) > position else default


def source(node: fx.Node) -> fx.Node:
    """The node that is the first argument of `node`."""
    first = node.args[0]
    assert isinstance(first, fx.Node)
    return first


def operation(node: fx.Node) -> Any:
    """What a `call_function` node calls: an ATen operation, or a merged map that stands in for it."""
    return node.target


def named_arguments(node: fx.Node) -> dict[str, Any]:
    """All arguments of an ATen node by name, with the schema's defaults."""
    schema = operation(node)._schema
    values = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    values |= {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)}
    return values | dict(node.kwargs)


def shape(node: fx.Node) -> Any:
    """The shape of a node's tensor in the example; free sizes are symbols."""
    return node.meta["val"].shape


def rank(node: fx.Node) -> int:
    """The number of axes of a node's tensor."""
    return int(node.meta["val"].dim())
