"""YAMNet's published `.tflite` as this package's network (github.com/tensorflow/models, research/audioset/yamnet)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import nn

from audiorep import __version__, models
from audiorep.errors import CheckpointError, ConfigError
from audiorep.files import new_folder
from audiorep.hub import class_names, tflite_file
from audiorep.hub.tflite_file import Graph, Operator
from audiorep.info.front_end import FRONT_ENDS
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint, tensors
from audiorep.models.front_end import mel_filters
from audiorep.models.tensors import some

ARCHITECTURE = "yamnet"
WINDOW_SECONDS, HOP_SECONDS = 0.975, 0.48  # a patch of 96 frames, which needs 15 ms more than its 0.96 s; half a patch
CLASS_MAP = "yamnet_class_map.csv"
"""The file of class names that is published beside the network."""
SOURCE = "https://github.com/tensorflow/models/tree/master/research/audioset/yamnet"

HEARING = (
    "RESHAPE", "SLICE", "RESHAPE", "GATHER", "RESHAPE", "MUL", "PAD", "FULLY_CONNECTED", "MUL", "FULLY_CONNECTED", "MUL",
    "ADD", "SQRT", "FULLY_CONNECTED", "LOG",
)  # fmt: skip
PATCH = ("STRIDED_SLICE", "RESHAPE", "GATHER", "RESHAPE")
LAYER = ("DEPTHWISE_CONV_2D", "CONV_2D")
END = ("MEAN", "FULLY_CONNECTED", "LOGISTIC")
ROWS, WINDOW, COSINES, SINES, MELS = 3, 5, 7, 9, 13
"""Places in `HEARING` of the operators with the front end's constants."""
SAME, RELU = 0, 1  # padding and activation, as the schema counts them
WINDOWED = {"Padding": SAME, "DilationHFactor": 1, "DilationWFactor": 1, "FusedActivationFunction": RELU}
PLAIN = {
    "CONV_2D": WINDOWED,
    "DEPTHWISE_CONV_2D": {**WINDOWED, "DepthMultiplier": 1},
    "FULLY_CONNECTED": {"FusedActivationFunction": 0},
}
"""Options of the operators behind the front end, by kind."""
CLOSE = 1e-4  # of the front end's constants, beside half a step of their whole numbers


def convert(path: Path, output: Path, labels: Sequence[Path] = ()) -> tuple[nn.Module, ModelInfo]:
    """Writes YAMNet's file `path` as a checkpoint folder `output`; nothing is left there if that fails.

    `labels` is a file of class names. Without it the published map is read if it lies beside `path`; else classes are
    numbered.

    Raises:
        CheckpointError: as `read`.
        ConfigError, DataError: class names do not fit or cannot be read, or there is something at `output`.
    """
    with new_folder(output) as partial:
        network = read(path)
        info = _describe(network, path, labels)
        checkpoint.save(partial, network, info, ARCHITECTURE)
    return network, info


def read(path: Path) -> nn.Module:
    """The network in a YAMNet's file, in evaluation mode and without norms, every size from its tensors.

    Raises:
        CheckpointError: it cannot be read, or does not hold exactly such a network behind YAMNet's front end.
        MissingExtraError: tflite is not installed.
    """
    try:
        graph = tflite_file.read(path)
        trunk = _trunk(graph)
        _check_hearing(graph)
        found = _weights(graph, trunk)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise CheckpointError(f"{path} {error}. YAMNet's own .tflite is needed: {SOURCE}") from None
    try:
        with torch.device("meta"):
            network = models.build(ARCHITECTURE, {"label": len(found[-1][0])}, _settings(trunk, found))
    except ConfigError as error:
        raise CheckpointError(f"{path} does not hold a whole YAMNet ({error}).") from None
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    state = {
        f"{layer}.{part}": torch.from_numpy(values)
        for layer, pair in zip(layers, found, strict=True)
        for part, values in zip(("weight", "bias"), pair, strict=True)
    }
    if problems := tensors.difference(state, network.state_dict()):
        raise CheckpointError(f"{path} does not hold a whole YAMNet; {problems}.")
    if bad := tensors.not_finite(state):
        raise CheckpointError(f"{path} holds values that are no finite numbers, in {some(bad)}.")
    network.load_state_dict(state, assign=True)
    return network.eval()


def said(network: nn.Module, info: ModelInfo) -> list[str]:
    """What was imported and taken for granted, in sentences."""
    count = sum(parameter.numel() for parameter in network.parameters())
    names = class_names.naming(info, [CLASS_MAP]) or f"The class order is {info.provenance['class_order']}"
    return [f"YAMNet without norms, {count:,} parameters, classes: label {len(info.labels['label'])}", names]


def _describe(network: nn.Module, path: Path, labels: Sequence[Path]) -> ModelInfo:
    beside = path.with_name(CLASS_MAP)
    files = labels or ([beside] if beside.exists() else [])
    heads = {"label": len(network.get_parameter("heads.label.bias"))}
    front_end = FRONT_ENDS[ARCHITECTURE]
    return ModelInfo(
        name=ARCHITECTURE,
        labels=class_names.read(heads, files) if files else class_names.numbered(heads),
        sample_rate=front_end.sample_rate,
        window_seconds=WINDOW_SECONDS,
        hop_seconds=HOP_SECONDS,
        front_end=front_end.as_dict(),
        activation="sigmoid",
        license="Apache-2.0",
        provenance={
            "imported_from": path.name,
            "source": SOURCE,
            "data_set": "AudioSet",
            "class_order": class_names.order_of(files) if files else class_names.NUMBERED,
            "audiorep": __version__,
            "date": date.today().isoformat(),
        },
    )


def _trunk(graph: Graph) -> list[Operator]:
    """The operators from the log-mel to the scores, each fed by the one before.

    Raises:
        ValueError: the graph is another.
    """
    steps = [operator for operator in graph.operators if operator.kind != "DEQUANTIZE"]
    kinds, first = tuple(step.kind for step in steps), len(HEARING)
    layers = (len(steps) - first - len(PATCH) - 1 - len(END)) // len(LAYER)
    if kinds != (*HEARING, *PATCH, "CONV_2D", *(max(layers, 0) * LAYER), *END):
        raise ValueError(f"is another network: its operators are {some(list(kinds)) or 'none'}")
    chained = all(after.inputs[:1] == before.outputs for before, after in zip(steps[first - 1 :], steps[first:], strict=False))
    trunk = steps[first + len(PATCH) :]
    front_end = FRONT_ENDS[ARCHITECTURE]
    samples = front_end.samples(WINDOW_SECONDS)
    map_shape = (front_end.frames(samples), front_end.mels)
    shapes = [graph.shapes.get(tensor, ()) for tensor in (*graph.inputs, *steps[first - 1].outputs, *trunk[0].inputs[:1])]
    if not chained or shapes != [(1, samples), map_shape, (1, *map_shape, 1)]:
        raise ValueError(f"is another network: it does not make {map_shape[1]} bands of {samples} samples in one line")
    strides = [(2,), *((1, 2) if step.kind == LAYER[0] else (1,) for step in trunk[1:])]
    if odd := [step.kind for step, allowed in zip(trunk, strides, strict=True) if not _is_plain(step, allowed)]:
        raise ValueError(f"is another network: it has a {odd[0]} with options that YAMNet's have not")
    return trunk


def _is_plain(step: Operator, strides: Sequence[int]) -> bool:
    """Whether an operator has the options that all of its kind have in a YAMNet, and one of these strides both ways."""
    wanted = PLAIN.get(step.kind, {})
    along_time, along_mels = (step.options.get(name) for name in ("StrideH", "StrideW"))
    regular = along_time is None or (along_time == along_mels and along_time in strides)
    return regular and all(step.options[name] == value for name, value in wanted.items())


def _check_hearing(graph: Graph) -> None:
    """Compares the constants of the front end in the file with those of the settings that stand for it.

    Raises:
        ValueError: they differ.
    """
    config = FRONT_ENDS[ARCHITECTURE]
    steps = [operator for operator in graph.operators if operator.kind != "DEQUANTIZE"]
    angles = 2 * np.pi * np.arange(config.n_fft // 2 + 1)[:, None] * np.arange(config.n_fft) / config.n_fft
    row = np.gcd(config.window, config.hop)
    wanted = {
        ROWS: np.arange(config.frames(config.samples(WINDOW_SECONDS)))[:, None] * (config.hop // row)
        + np.arange(config.window // row),
        WINDOW: np.hanning(config.window + 1)[None, :-1],
        COSINES: np.cos(angles),
        SINES: np.sin(angles),
        MELS: mel_filters(config).T,
    }
    bias = _values(graph, steps[MELS].inputs, 2)
    near = bias.shape == (config.mels,) and np.allclose(bias, config.log_offset, rtol=CLOSE, atol=0)
    for place, values in wanted.items():
        found = graph.constants.get(steps[place].inputs[1])
        near = near and found is not None and found.stored.shape == values.shape
        near = near and bool((np.abs(found.values - values) <= found.step / 2 + CLOSE).all())  # type: ignore[union-attr]
    if not near:
        raise ValueError("is another network: its front end is not YAMNet's")


def _weights(graph: Graph, trunk: list[Operator]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias of each layer as PyTorch has them, kernels reversed as the network wants them."""
    whole = {output: step.inputs[0] for step in graph.operators if step.kind == "DEQUANTIZE" for output in step.outputs}
    orders = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "FULLY_CONNECTED": (0, 1)}
    found = []
    for step in trunk:
        if step.kind not in orders:
            continue
        inputs = [whole.get(tensor, tensor) for tensor in step.inputs]
        weight, bias, order = _values(graph, inputs, 1), _values(graph, inputs, 2), orders[step.kind]
        if weight.ndim != len(order) or bias.ndim != 1:
            raise ValueError(f"is another network: a {step.kind} has weights of {weight.ndim} dimensions")
        weight = weight.transpose(order)
        found.append(((weight[..., ::-1, ::-1] if weight.ndim == 4 else weight).copy(), bias))
    return found


def _values(graph: Graph, inputs: Sequence[int], place: int) -> np.ndarray:
    found = graph.constants.get(inputs[place]) if place < len(inputs) else None
    if found is None:
        raise ValueError("is another network: it computes what should be its weights")
    return found.values.astype(np.float32)


def _settings(trunk: list[Operator], found: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, object]:
    """Fields of `models.yamnet.YamNetConfig`; what else they claim is compared with the shapes of all weights."""
    widths = [len(bias) for _, bias in found[:-1]]
    strides = [step.options["StrideH"] for step in trunk if "DepthMultiplier" in step.options]
    return {"norms": False, "stem_width": widths[0], "widths": tuple(widths[2::2]), "strides": tuple(strides)}
