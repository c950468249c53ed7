"""Graphs in `.tflite` files: operators, their options and their constants, read without running anything."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.errors import require
from audiorep.models.tensors import SHARED

MARK, MARK_AT = b"TFL3", 4
MOST = 10_000  # tables of a kind; published networks have hundreds
DTYPES: dict[str, type[np.generic]] = {
    "FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32, "INT8": np.int8, "UINT8": np.uint8,
}  # fmt: skip
_WINDOWED = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction")
OPTIONS = {
    "CONV_2D": ("Conv2DOptions", _WINDOWED),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_WINDOWED, "DepthMultiplier")),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction",)),
}
"""Options that are read, by kind of operator: the schema's table and its fields."""
_MALFORMED = (struct.error, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError)
"""What the schema's readers raise where an offset or a size lies; none of them checks any."""


@dataclass(frozen=True)
class Operator:
    """One step of a graph."""

    kind: str
    """As the schema calls it, for example `CONV_2D`."""
    inputs: tuple[int, ...]
    """Numbers of tensors; -1 for one that is left out."""
    outputs: tuple[int, ...]
    options: dict[str, int]
    """Those of `OPTIONS`, as the schema counts them."""


@dataclass(frozen=True)
class Constant:
    """A tensor whose values are in the file."""

    stored: np.ndarray
    """As they lie there, in the file's own bytes."""
    scales: np.ndarray
    """Of whole numbers that stand for others: float32, one or one along `axis`; empty where they stand for themselves."""
    zeros: np.ndarray
    """What stands for 0, as many."""
    axis: int

    @property
    def values(self) -> np.ndarray:
        """The numbers they stand for: `scale * (stored - zero)` in float32, rounded once."""
        if not self.scales.size:
            return self.stored.astype(np.float32) if self.stored.dtype.kind == "f" else self.stored
        shape = [1] * self.stored.ndim
        if self.scales.size > 1:
            shape[self.axis] = -1
        offsets = self.stored.astype(np.float32) - self.zeros.astype(np.float32).reshape(shape)
        return offsets * self.scales.reshape(shape)

    @property
    def step(self) -> float:
        """The largest distance between neighboring numbers; 0 of floats."""
        return float(self.scales.max(initial=0))


@dataclass(frozen=True)
class Graph:
    """What a file computes."""

    operators: list[Operator]
    inputs: tuple[int, ...]
    """Numbers of the tensors that go in."""
    outputs: tuple[int, ...]
    shapes: dict[int, tuple[int, ...]]
    """Of each tensor."""
    constants: dict[int, Constant]
    """By the number of the tensor."""


def is_one(path: Path) -> bool:
    """Whether a file is a `.tflite`, by its name or its first bytes."""
    if path.suffix.lower() == ".tflite":
        return True
    try:
        with path.open("rb") as file:
            return file.read(MARK_AT + len(MARK))[MARK_AT:] == MARK
    except OSError:
        return False


def read(path: Path) -> Graph:
    """The graph in a file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged or no such file; the text says what, as in "is no TFLite file".
        MissingExtraError: tflite is not installed.
    """
    schema = require("tflite", extra="train")
    content = path.read_bytes()
    if content[MARK_AT : MARK_AT + len(MARK)] != MARK:
        raise ValueError("is no TFLite file")
    try:
        graph = _graph(schema, schema.Model.GetRootAs(content))
    except _MALFORMED:
        raise ValueError("is damaged or cut short: it does not hold all that it says") from None
    if sum(constant.stored.nbytes for constant in graph.constants.values()) > SHARED * len(content):
        raise ValueError("is damaged: its tensors are views of the same few values")
    return graph


def _graph(schema: Any, model: Any) -> Graph:
    """The first graph of a model, the one that is run."""
    graph = _table(model.SubgraphsLength(), model.Subgraphs, 0)
    kinds = [_kind(schema, code) for code in _tables(model.OperatorCodesLength(), model.OperatorCodes)]
    operators = [_operator(schema, kinds, operator) for operator in _tables(graph.OperatorsLength(), graph.Operators)]
    types = {number: name for name, number in vars(schema.TensorType).items() if name in DTYPES}
    shapes, constants = {}, {}
    for index, tensor in enumerate(_tables(graph.TensorsLength(), graph.Tensors)):
        shapes[index] = shape = _numbers(tensor.ShapeAsNumpy())
        content = _table(model.BuffersLength(), model.Buffers, tensor.Buffer()).DataAsNumpy()
        if isinstance(content, np.ndarray) and content.size and tensor.Type() in types:
            constants[index] = _constant(content.view(DTYPES[types[tensor.Type()]]), shape, tensor.Quantization())
    return Graph(operators, _numbers(graph.InputsAsNumpy()), _numbers(graph.OutputsAsNumpy()), shapes, constants)


def _kind(schema: Any, code: Any) -> str:
    """The name of a kind of operator; the older of its two fields holds no number above 127."""
    return schema.opcode2name(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))


def _operator(schema: Any, kinds: list[str], operator: Any) -> Operator:
    kind, options = kinds[operator.OpcodeIndex()], {}
    if kind in OPTIONS:
        name, fields = OPTIONS[kind]
        told, given = getattr(schema, name)(), operator.BuiltinOptions()
        if operator.BuiltinOptionsType() != getattr(schema.BuiltinOptions, name):
            raise ValueError(kind)
        told.Init(given.Bytes, given.Pos)
        options = {field: int(getattr(told, field)()) for field in fields}
    return Operator(kind, _numbers(operator.InputsAsNumpy()), _numbers(operator.OutputsAsNumpy()), options)


def _constant(stored: np.ndarray, shape: tuple[int, ...], quantized: Any) -> Constant:
    """A tensor's values in its shape, and what they stand for."""
    if min(shape, default=1) < 0 or math.prod(shape) != stored.size:
        raise ValueError(shape)
    scales, zeros, axis = np.empty(0, np.float32), np.empty(0, np.int64), 0
    if quantized is not None and quantized.ScaleLength() and stored.dtype.kind != "f":
        scales, axis = quantized.ScaleAsNumpy(), int(quantized.QuantizedDimension())
        zeros = quantized.ZeroPointAsNumpy() if quantized.ZeroPointLength() else np.zeros(scales.size, np.int64)
        fits = scales.size == 1 or (0 <= axis < len(shape) and scales.size == shape[axis])
        if not fits or zeros.size != scales.size or not (np.isfinite(scales) & (scales > 0)).all():
            raise ValueError(scales.size)
    return Constant(stored.reshape(shape), scales, zeros, axis)


def _tables(count: int, get: Any) -> Iterator[Any]:
    if count > MOST:
        raise ValueError(count)
    return (get(index) for index in range(count))


def _table(count: int, get: Any, index: int) -> Any:
    if not 0 <= index < count:
        raise IndexError(index)
    return get(index)


def _numbers(vector: Any) -> tuple[int, ...]:
    """A vector of the schema's; it gives 0 where there is none."""
    return tuple(int(number) for number in vector[:MOST]) if isinstance(vector, np.ndarray) else ()
