"""Short names and no constant twice inside a small bundle, where those of hundreds of scales weigh a tenth of the weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from audiorep.errors import require
from audiorep.export.graph import copied

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LARGEST = 1 << 32  # values of a constant that is compared with others


def shorten(model: Any, keep: Sequence[str] = ()) -> Any:
    """A copy of an ONNX model with letters for the names of its values, but for inputs, outputs and those in `keep`.

    Of equal constants one is left, and the shapes of inner values, which a runtime works out, are left out.

    Raises:
        MissingExtraError: onnx-ir, which comes with onnxscript, is not installed.
    """
    ir = require("onnx_ir", extra="train")
    passes = require("onnx_ir.passes.common", extra="train")
    made = ir.from_proto(copied(model))  # a copy, since constants keep their names in what they are read from
    passes.DeduplicateInitializersPass(LARGEST)(made)
    graph = made.graph
    fixed = {*keep, *(value.name for value in [*graph.inputs, *graph.outputs])}
    short = _letters(fixed)
    constants = list(graph.initializers.values())
    values = [*constants, *(value for node in graph for value in node.outputs)]
    graph.initializers.clear()
    for value in values:
        if value.name not in fixed:
            value.name = next(short) if value.name else value.name
            value.shape = value.type = None
    for value in constants:
        graph.register_initializer(value)
    for node in graph:
        node.name = ""
    return ir.to_proto(made)


def _letters(taken: set[str]) -> Iterator[str]:
    """The names a, b, … z, aa, ab and so on."""
    for length in itertools.count(1):
        for letters in itertools.product(LETTERS, repeat=length):
            if (name := "".join(letters)) not in taken:
                yield name
