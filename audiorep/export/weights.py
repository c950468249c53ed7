"""Smaller weights in a bundle's file, decoded when it is loaded: half floats, integers with scales, or codebooks.

A runtime computes with the decoded float32 weights, so a file shrinks and its speed stays. Decoding is written with plain
operators (cast, multiply, gather) on constants, which ONNX Runtime and OpenVINO carry out once, at loading: dequantization
nodes are left in the graph by ONNX Runtime and would be repeated at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from audiorep.errors import ConfigError, require
from audiorep.export.graph import Graph, copied

SMALLEST = 256  # values; encoding fewer saves less than the nodes that decode them cost
BLOCK = 32  # neighboring weights of a channel that share a scale in int4
ROUNDS = 30  # of k-means; the changes have ended by then
OPSET = 21  # first with four-bit integers


def encode(model: Any, kind: str, left: Sequence[str] = ()) -> Any:
    """A copy of an ONNX model whose weights are kept in the form `kind` of `KINDS`, but for initializers named in `left`.

    Raises:
        ConfigError: no such form.
        MissingExtraError: onnx is not installed.
    """
    if kind not in KINDS:
        raise ConfigError(f"Weights are stored as {', '.join(KINDS)}; {kind!r} was asked for.")
    onnx = require("onnx", extra="train")
    model = onnx.version_converter.convert_version(model, OPSET) if _opset(model) < OPSET else copied(model)
    encoded = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) > 1
        and int(np.prod(tensor.dims)) >= SMALLEST
        and tensor.name not in left
    ]
    graph = Graph(onnx, model.graph)
    for tensor in encoded:
        values = onnx.numpy_helper.to_array(tensor)
        model.graph.initializer.remove(tensor)
        KINDS[kind](graph, tensor.name, values)
    graph.finish()
    return model


def codebook(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The `size` values that stand for all of `values` with the least squared error, and which stands for each (uint8).

    K-means in one dimension (Deep Compression, arXiv 1510.00149, section 3), from evenly spaced quantiles on.
    """
    flat = np.sort(values.ravel().astype(np.float64))
    centers = np.unique(np.quantile(flat, (np.arange(size) + 0.5) / size))
    total = np.concatenate([[0.0], np.cumsum(flat)])
    for _ in range(ROUNDS):
        edges = np.searchsorted(flat, (centers[1:] + centers[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(flat)]])
        counts = np.diff(bounds)
        moved = np.where(counts > 0, np.diff(total[bounds]) / np.maximum(counts, 1), centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    index = np.searchsorted((centers[1:] + centers[:-1]) / 2, values.ravel()).astype(np.uint8)
    return centers.astype(np.float32), index.reshape(values.shape)


def _half(graph: Graph, name: str, values: np.ndarray) -> None:
    graph.cast(graph.constant(f"{name}.half", values.astype(np.float16)), name)


def _int8(graph: Graph, name: str, values: np.ndarray) -> None:
    scale = _scale(values, 127)
    whole = graph.cast(graph.constant(f"{name}.int8", _rounded(values / scale, 127)), f"{name}.whole")
    graph.node("Mul", [whole, graph.constant(f"{name}.scale", scale)], name)


def _int4(graph: Graph, name: str, values: np.ndarray) -> None:
    """By blocks of a channel's neighboring weights, the last one filled up."""
    rows = values.reshape(len(values), -1)
    width = min(BLOCK, rows.shape[1])
    blocks = -(-rows.shape[1] // width)
    filled = np.pad(rows, ((0, 0), (0, blocks * width - rows.shape[1]))).reshape(len(rows), blocks, width)
    scale = np.maximum(np.abs(filled).max(2, keepdims=True), 1e-12) / 7
    whole = graph.cast(graph.packed(f"{name}.int4", _rounded(filled / scale, 7), signed=True), f"{name}.whole")
    graph.node("Mul", [whole, graph.constant(f"{name}.scale", scale.astype(np.float32))], f"{name}.blocks")
    source = f"{name}.blocks"
    if blocks * width != rows.shape[1]:
        shape = graph.constant(f"{name}.rows", np.array([len(rows), blocks * width], np.int64))
        ends = [graph.constant(f"{name}.{key}", np.array([place], np.int64)) for key, place in _cut(rows.shape[1])]
        source = graph.node("Slice", [graph.node("Reshape", [source, shape], f"{name}.filled"), *ends], f"{name}.cut")
    graph.node("Reshape", [source, graph.constant(f"{name}.shape", np.array(values.shape, np.int64))], name)


def _cut(width: int) -> list[tuple[str, int]]:
    return [("start", 0), ("end", width), ("axis", 1)]


def _shared(bits: int) -> Callable[[Graph, str, np.ndarray], None]:
    def store(graph: Graph, name: str, values: np.ndarray) -> None:
        """One codebook a layer, times a scale a channel: merging leaves channels of very different ranges."""
        scale = _scale(values, 1)
        centers, index = codebook(values / scale, 2**bits)
        held = f"{name}.index"
        graph.packed(held, index, signed=False) if bits == 4 else graph.constant(held, index)
        places = graph.cast(held, f"{name}.places", "INT32")
        shared = graph.node("Gather", [graph.constant(f"{name}.codebook", centers), places], f"{name}.shared")
        graph.node("Mul", [shared, graph.constant(f"{name}.scale", scale)], name)

    return store


KINDS: dict[str, Callable[[Graph, str, np.ndarray], None]] = {
    "fp16": _half,
    "int8_weights": _int8,
    "int4_weights": _int4,
    "shared8": _shared(8),
    "shared4": _shared(4),
}
"""What takes a tensor of weights (channels first) into a graph, by the form's name."""


def _scale(values: np.ndarray, largest: int) -> np.ndarray:
    """The step of each channel (the first axis) whose largest weight is to become `largest`, in the shape that multiplies."""
    peak = np.abs(values).max(tuple(range(1, values.ndim)), keepdims=True)
    return (np.maximum(peak, 1e-12) / largest).astype(np.float32)


def _rounded(values: np.ndarray, largest: int) -> np.ndarray:
    return np.clip(np.rint(values), -largest, largest).astype(np.int8)


def _opset(model: Any) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
