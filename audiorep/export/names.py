"""Short names and no constant twice inside a small bundle, where those of hundreds of scales weigh a tenth of the weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def shorten(model: Any, keep: Sequence[str] = ()) -> Any:
    """A copy of an ONNX model with letters for the names of its values, but for inputs, outputs and those in `keep`.

    Of equal constants one is left.
    """
    made = type(model)()
    made.CopyFrom(model)
    graph = made.graph
    del graph.value_info[:]  # shapes of inner values, which a runtime works out
    fixed = {"", *keep, *(value.name for value in [*graph.input, *graph.output])}
    table = {name: name for name in fixed}
    _join(graph, table)
    short = _letters(fixed)
    for name in itertools.chain(
        (tensor.name for tensor in graph.initializer), *([*node.input, *node.output] for node in graph.node)
    ):
        if name not in table:
            table[name] = next(short)
    for tensor in graph.initializer:
        tensor.name = table[tensor.name]
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [table[name] for name in names]
    return made


def _join(graph: Any, table: dict[str, str]) -> None:
    """Removes constants that equal an earlier one, and has their readers read that one."""
    first: dict[bytes, str] = {}
    twice: dict[str, str] = {}
    for tensor in graph.initializer:
        name, tensor.name = tensor.name, ""
        same = first.setdefault(tensor.SerializeToString(), name)
        tensor.name = name
        if same != name and name not in table:
            twice[name] = same
    kept = [tensor for tensor in graph.initializer if tensor.name not in twice]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        node.input[:] = [twice.get(name, name) for name in node.input]


def _letters(taken: set[str]) -> Iterator[str]:
    """The names a, b, … z, aa, ab and so on."""
    for length in itertools.count(1):
        for letters in itertools.product(LETTERS, repeat=length):
            if (name := "".join(letters)) not in taken:
                yield name
