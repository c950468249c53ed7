"""A `.tflite` laid out like YAMNet's published one, of any widths, and what TensorFlow would compute of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiorep.models.front_end import FRONT_ENDS, mel_filters

FLOAT32, INT32, INT8 = 0, 2, 9  # as the schema counts types
CODES = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "DEQUANTIZE": 6, "FULLY_CONNECTED": 9, "LOGISTIC": 14, "MUL": 18, "RESHAPE": 22,
    "PAD": 34, "GATHER": 36, "MEAN": 40, "STRIDED_SLICE": 45, "SLICE": 65, "LOG": 73, "SQRT": 75, "ADD": 0,
}  # fmt: skip
SAME, RELU = 0, 1


@dataclass
class Values:
    """A constant: its values, or whole numbers with their scales and what stands for 0."""

    stored: np.ndarray
    scales: np.ndarray | None = None
    zeros: np.ndarray | None = None
    axis: int = 0

    @property
    def exact(self) -> np.ndarray:
        """What they stand for, rounded to float32 once."""
        if self.scales is None:
            return self.stored
        shape = [1] * self.stored.ndim
        shape[self.axis] = len(self.scales)
        zeros = 0 if self.zeros is None else self.zeros.reshape(shape)
        return ((self.stored.astype(np.float64) - zeros) * self.scales.astype(np.float64).reshape(shape)).astype(np.float32)


@dataclass
class Step:
    """An operator: its kind, its constants and its options."""

    kind: str
    constants: list[Values]
    options: tuple[str, dict[str, int]] | None = None


def rounded(values: np.ndarray) -> Values:
    """The nearest multiples of one step in int8, as the converter makes them."""
    scale = np.array([np.abs(values).max() / 127], np.float32)
    return Values(np.clip(np.round(values / scale[0]), -127, 127).astype(np.int8), scale)


class TheirYamNet:
    """YAMNet's graph with made-up weights; `steps` may be changed before it is saved."""

    def __init__(self, classes: int = 5, widths: Sequence[int] = (6, 8, 8), strides: Sequence[int] = (1, 2, 2), stem: int = 4):
        generator = np.random.default_rng(0)
        inputs, config = stem, FRONT_ENDS["yamnet"]
        self.steps = hearing() + [Step(kind, []) for kind in ("STRIDED_SLICE", "RESHAPE", "GATHER", "RESHAPE")]

        def weights(*shape: int, fan: int) -> np.ndarray:
            return generator.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32)

        def bias(count: int) -> Values:
            return Values(generator.normal(0, 0.3, count).astype(np.float32))

        self.steps.append(Step("CONV_2D", [Values(weights(stem, 3, 3, 1, fan=9)), bias(stem)], windowed(2)))
        for width, stride in zip(widths, strides, strict=True):
            mix = rounded(weights(1, 3, 3, inputs, fan=9))
            self.steps.append(Step("DEPTHWISE_CONV_2D", [mix, bias(inputs)], windowed(stride, depthwise=True)))
            self.steps.append(Step("CONV_2D", [rounded(weights(width, 1, 1, inputs, fan=inputs)), bias(width)], windowed(1)))
            inputs = width
        head = [rounded(weights(classes, inputs, fan=2)), bias(classes)]
        self.steps += [Step("MEAN", []), Step("FULLY_CONNECTED", head, ("FullyConnectedOptions", {})), Step("LOGISTIC", [])]
        self.samples, self.map = config.samples(0.975), (96, config.mels)

    @property
    def trunk(self) -> list[Step]:
        """The layers with weights, behind the front end."""
        return [step for step in self.steps[19:] if step.constants]

    def logits(self, log_mel: Tensor) -> Tensor:
        """(B, 1, T, F) to (B, K) by TensorFlow's rules: what a stride lacks is padded at the end."""
        x = log_mel
        for step in self.trunk[:-1]:
            weight, bias = (torch.from_numpy(constant.exact) for constant in step.constants)
            depthwise = step.kind.startswith("DEPTHWISE")
            weight = weight.permute((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
            stride, size = step.options[1]["StrideH"], weight.shape[2]
            lacking = [max(0, (-(-length // stride) - 1) * stride + size - length) for length in x.shape[:1:-1]]
            x = functional.pad(x, [part for total in lacking for part in (total // 2, total - total // 2)])
            x = functional.relu(functional.conv2d(x, weight, bias, stride, groups=len(weight) if depthwise else 1))
        weight, bias = (torch.from_numpy(constant.exact) for constant in self.trunk[-1].constants)
        return x.mean((2, 3)) @ weight.T + bias

    def save(self, path: Path) -> Path:
        """Writes it."""
        path.write_bytes(_Writer().model(self))
        return path


def windowed(stride: int, depthwise: bool = False) -> tuple[str, dict[str, int]]:
    """Options of a convolution."""
    values = {"Padding": SAME, "StrideH": stride, "StrideW": stride, "FusedActivationFunction": RELU}
    more = {"DilationHFactor": 1, "DilationWFactor": 1, **({"DepthMultiplier": 1} if depthwise else {})}
    return "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", {**values, **more}


def hearing() -> list[Step]:
    """The front end, from the waveform to the log-mel."""
    config = FRONT_ENDS["yamnet"]
    angles = 2 * np.pi * np.arange(257)[:, None] * np.arange(512) / 512
    rows = (2 * np.arange(96)[:, None] + np.arange(5)).astype(np.int32)
    window = Values((0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)).astype(np.float32)[None])
    dense, offset = ("FullyConnectedOptions", {}), Values(np.full(64, 0.001, np.float32))
    return [
        Step("RESHAPE", []),
        Step("SLICE", []),
        Step("RESHAPE", []),
        Step("GATHER", [Values(rows)]),
        Step("RESHAPE", []),
        Step("MUL", [window]),
        Step("PAD", []),
        Step("FULLY_CONNECTED", [rounded(np.cos(angles))], dense),
        Step("MUL", []),
        Step("FULLY_CONNECTED", [rounded(np.sin(angles))], dense),
        Step("MUL", []),
        Step("ADD", []),
        Step("SQRT", []),
        Step("FULLY_CONNECTED", [rounded(mel_filters(config).T), offset], dense),
        Step("LOG", []),
    ]


class _Writer:
    """A FlatBuffer, which is written from its innermost tables outwards."""

    def __init__(self) -> None:
        import flatbuffers
        import tflite

        self.schema: Any = tflite
        self.builder: Any = flatbuffers.Builder(1 << 16)
        self.buffers: list[int] = [self._table("Buffer")]
        self.tensors: list[int] = []

    def model(self, network: TheirYamNet) -> bytes:
        """The file's bytes."""
        waveform = previous = self._tensor((1, network.samples))
        steps, log_mel = [], -1
        for index, step in enumerate(network.steps):
            given = [previous, *(self._constant(constant, steps) for constant in step.constants)]
            shape = {14: network.map, 18: (1, *network.map, 1)}.get(index, (1,))
            previous = self._tensor(shape)
            log_mel = previous if step.kind == "LOG" else log_mel
            steps.append(self._operator(step.kind, given, previous, step.options))
        names = list(CODES)
        codes = [self._table("OperatorCode", DeprecatedBuiltinCode=CODES[name], BuiltinCode=CODES[name]) for name in names]
        graph = self._table(
            "SubGraph",
            Tensors=self._offsets(self.tensors),
            Inputs=self._numbers([waveform]),
            Outputs=self._numbers([previous, log_mel]),
            Operators=self._offsets(steps),
        )
        lists = {"OperatorCodes": codes, "Subgraphs": [graph], "Buffers": self.buffers}
        offsets = {name: self._offsets(tables) for name, tables in lists.items()}
        self.builder.Finish(self._table("Model", Version=3, **offsets), b"TFL3")
        return bytes(self.builder.Output())

    def _constant(self, constant: Values, steps: list[int]) -> int:
        """A tensor with values; what a convolution mixes by channel comes dequantized, as in the published file."""
        made = self._stored(constant)
        if constant.scales is None or constant.stored.ndim != 4 or constant.stored.shape[0] != 1:
            return made
        whole = self._tensor(constant.stored.shape)
        steps.append(self._operator("DEQUANTIZE", [made], whole))
        return whole

    def _stored(self, constant: Values) -> int:
        data = self.builder.CreateNumpyVector(np.frombuffer(constant.stored.tobytes(), np.uint8))
        self.buffers.append(self._table("Buffer", Data=data))
        more = {}
        if constant.scales is not None:
            zeros = np.zeros(len(constant.scales), np.int64) if constant.zeros is None else constant.zeros.astype(np.int64)
            vectors = {"Scale": constant.scales.astype(np.float32), "ZeroPoint": zeros}
            given = {name: self.builder.CreateNumpyVector(vector) for name, vector in vectors.items()}
            more["Quantization"] = self._table("QuantizationParameters", **given, QuantizedDimension=constant.axis)
        kind = {"f": FLOAT32, "i": INT8 if constant.stored.itemsize == 1 else INT32}[constant.stored.dtype.kind]
        return self._tensor(constant.stored.shape, Type=kind, Buffer=len(self.buffers) - 1, **more)

    def _tensor(self, shape: Sequence[int], **fields: int) -> int:
        self.tensors.append(self._table("Tensor", Shape=self._numbers(shape), **fields))
        return len(self.tensors) - 1

    def _operator(self, kind: str, inputs: list[int], output: int, options: tuple[str, dict[str, int]] | None = None) -> int:
        fields = {"Inputs": self._numbers(inputs), "Outputs": self._numbers([output])}
        if options is not None:
            name, values = options
            fields["BuiltinOptionsType"] = getattr(self.schema.BuiltinOptions, name)
            fields["BuiltinOptions"] = self._table(name, **values)
        return self._table("Operator", OpcodeIndex=list(CODES).index(kind), **fields)

    def _table(self, name: str, **fields: int) -> int:
        getattr(self.schema, f"{name}Start")(self.builder)
        for field, value in fields.items():
            getattr(self.schema, f"{name}Add{field}")(self.builder, value)
        return getattr(self.schema, f"{name}End")(self.builder)

    def _numbers(self, numbers: Sequence[int]) -> int:
        return self.builder.CreateNumpyVector(np.array(numbers, np.int32))

    def _offsets(self, tables: Sequence[int]) -> int:
        self.builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self.builder.PrependUOffsetTRelative(table)
        return self.builder.EndVector()
