"""Static int8 for ONNX: weights by channel, activations by ranges seen on real clips, as QDQ nodes.

The nodes are put in by ONNX Runtime's own quantizer, which knows what its kernels join; ranges are ours (see `ranges`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from audiorep.errors import BundleError, ConfigError, require
from audiorep.export import ranges
from audiorep.export.graph import copied
from audiorep.export.ranges import Ranges

QUANTIZED = ("Conv", "Gemm", "MatMul", "Add", "Mul", "MaxPool")
"""Operators that int8 is used for; an activation after one joins it."""
LAYERS = ("Conv", "Gemm", "MatMul")
"""The operators of `QUANTIZED` that have weights."""


def prepared(model: Any) -> Any:
    """An ONNX model as the quantizer wants it: with the shapes of its values, and layers that bear their weights' names."""
    onnx = require("onnx", extra="train")
    made = onnx.shape_inference.infer_shapes(model, data_prop=True)
    weights = {tensor.name for tensor in made.graph.initializer}
    for node in made.graph.node:
        held = [name for name in node.input[1:2] if name in weights]
        if node.op_type in LAYERS and held:
            node.name = held[0].removeprefix("network.").removesuffix(".weight")
    return made


def above(model: Any, value: str | None) -> set[str]:
    """The names of the nodes that a value is computed by.

    Raises:
        BundleError: the model has no such value.
    """
    if value is None:
        return set()
    makers = {name: node for node in model.graph.node for name in node.output}
    if value not in makers:
        raise BundleError("The model does not say where its front end ends. Export it again.")
    found: set[str] = set()
    waiting = [value]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return found


def layers(model: Any, start: str | None = None) -> list[str]:
    """The layers (nodes with weights) that can be int8, in order: those that do not lie above the value `start`."""
    before = above(model, start)
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in LAYERS and node.name not in before and any(name in weights for name in node.input[1:])
    ]


def channel_spreads(model: Any, names: Sequence[str]) -> dict[str, float]:
    """The largest weight of each layer in `names` over the median of its channels' largest."""
    onnx = require("onnx", extra="train")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.name in names:
            values = np.abs(onnx.numpy_helper.to_array(weights[node.input[1]]))
            peaks = values.reshape(len(values), -1).max(1)
            found[node.name] = float(peaks.max() / max(float(np.median(peaks)), 1e-12))
    return found


def quantizable(model: Any, start: str | None = None) -> list[str]:
    """All nodes that become int8 unless they are left."""
    before = above(model, start)
    return [node.name for node in model.graph.node if node.op_type in QUANTIZED and node.name not in before]


def measure(model: Any, clips: Sequence[np.ndarray], start: str | None = None) -> dict[str, Ranges]:
    """The ranges of the activations below the value `start` on `clips`, inputs (1, …), by each method of `ranges.METHODS`.

    Raises:
        DataError: no clips, or values out of range on one.
    """
    import onnxruntime

    before = above(model, start)
    names = [start] if start else [model.graph.input[0].name]
    names += [name for node in model.graph.node if node.name not in before for name in node.output]
    shown = copied(model)
    present = {value.name for value in shown.graph.output}
    onnx = require("onnx", extra="train")
    types = {value.name: value for value in shown.graph.value_info}
    names = [
        name
        for name in dict.fromkeys(names)
        if name in present or name == shown.graph.input[0].name or _is_float(onnx, types.get(name))
    ]
    given = shown.graph.input[0].name
    shown.graph.output.extend(types[name] for name in names if name not in present and name != given)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    asked = [name for name in names if name != given]
    return ranges.measure(
        lambda clip: [*([clip] if given in names else []), *session.run(asked, {given: clip})],
        [*([given] if given in names else []), *asked],
        clips,
    )


def static(model: Any, found: Ranges, start: str | None = None, left: Sequence[str] = (), reduced: bool = False) -> Any:
    """A copy of an ONNX model in static int8 below the value `start`, but for the nodes named in `left`.

    Args:
        model: float32 (see `prepared`).
        found: the ranges of its activations.
        start: where it begins to be int8: what computes this value stays in float32.
        left: nodes that stay in float32 too.
        reduced: weights have 7 bits, so that processors without VNNI, which add pairs of products in 16 bits, do not overflow.

    Raises:
        ConfigError: a name in `left` that the model does not have.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.calibrate import TensorsData

    names = {node.name for node in model.graph.node}
    if unknown := sorted(set(left) - names):
        raise ConfigError(f"The model has no layer {', '.join(unknown)}; its layers are {', '.join(layers(model, start))}.")
    values = {name: (np.float32(low), np.float32(high)) for name, (low, high) in found.items()}
    quantizer = quantization.QDQQuantizer(
        copied(model),
        per_channel=True,
        reduce_range=reduced,
        weight_qType=quantization.QuantType.QInt8,
        activation_qType=quantization.QuantType.QUInt8,
        tensors_range=TensorsData(quantization.CalibrationMethod.MinMax, values),
        nodes_to_quantize=[],
        nodes_to_exclude=[*above(model, start), *left],
        op_types_to_quantize=list(QUANTIZED),
        extra_options={},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantizer.quantize_model()
    return _sorted(quantizer.model.model)


def _sorted(model: Any) -> Any:
    """The model with each node behind those it reads from, as ONNX asks; the quantizer appends its own at the end."""
    ir = require("onnx_ir", extra="train")
    made = ir.from_proto(model)
    made.graph.sort()
    return ir.to_proto(made)


def _is_float(onnx: Any, value: Any) -> bool:
    return value is not None and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
