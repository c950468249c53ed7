"""Write a checkpoint as the one-file bundle: an `.onnx` of waveform in, scores and embedding out."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from audiorep.errors import require
from audiorep.export.parity import Parity, first_accepted
from audiorep.files import replacing
from audiorep.runtimes import sealed
from audiorep.runtimes.onnx import LOG_MEL, OnnxSession, session

if TYPE_CHECKING:
    from torch import nn

    from audiorep.info.front_end import FrontEndConfig
    from audiorep.models.checkpoint import Checkpoint


def export(
    model: Checkpoint,
    path: str | os.PathLike[str],
    clips: Sequence[np.ndarray],
    precision: str = "fp32",
    calibration: Sequence[np.ndarray] = (),
) -> Parity:
    """Writes `model` to `path` as one self-describing `.onnx`, waveform in, scores and embedding out, checked on `clips`.

    The network is fused, batch and length are dynamic, and the front end is inside as matrix products, in the fastest form
    that is exact enough for `clips`: (N,) float32 waveforms at the model's rate. The file appears only after its scores agree
    with the checkpoint's. The same checkpoint, clips and versions give the same bytes.

    `int8` is static, with ranges from the `calibration` waveforms by the method that changes the scores of `clips` least; the
    other forms of `weights.KINDS` only store weights in fewer bytes, and compute in float32. The front end stays
    in float32.

    Raises:
        BundleError: its scores are not the checkpoint's (see `parity.Parity.refusal`).
        DataError: no calibration clips for int8.
        MissingExtraError: torch or onnx is not installed.
    """
    require("torch", extra="train")
    from audiorep.models.front_end import forms

    path = Path(path)
    fused = model.fuse().model
    with replacing(path) as partial:

        def attempts() -> Iterator[OnnxSession]:
            for form in forms(model.front_end.config):
                partial.write_bytes(
                    sealed.seal(_in_precision(bundle(model, fused, form), model, precision, clips, calibration))
                )
                yield OnnxSession(partial)

        return first_accepted(model, attempts(), clips, path, precision)


def _in_precision(
    content: bytes, model: Checkpoint, precision: str, clips: Sequence[np.ndarray], calibration: Sequence[np.ndarray]
) -> bytes:
    if precision == "fp32":
        return content
    from audiorep.export.precision import Quantizer, best, nearness, stored

    if precision != "int8":
        return stored(content, precision)
    quantizer = Quantizer(content, calibration)
    return quantizer.make(best(quantizer, nearness(content, clips)))


def bundle(model: Checkpoint, fused: nn.Module, form: str | None = None) -> bytes:
    """The unchecked bundle of `model`.

    Args:
        model: the checkpoint.
        fused: its merged network.
        form: of its front end, by default the first of `models.front_end.forms`.

    Raises:
        MissingExtraError: torch or onnxscript is not installed.
    """
    require("torch", extra="train")
    from audiorep.models.front_end import forms

    form = form or forms(model.front_end.config)[0]
    info = model.info.with_provenance(front_end_form=form)
    proto = _graph(model, fused, form)
    for key, value in info.to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    return proto.SerializeToString()


_GRAPHS: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], bytes]] = WeakKeyDictionary()
"""The ONNX models of networks that are still in use."""


def _graph(model: Checkpoint, fused: nn.Module, form: str) -> Any:
    """The ONNX model of waveform to scores and embedding, without metadata."""
    config, info = model.front_end.config, model.info
    key = (config, info.window_samples, info.padding, info.activation, tuple(info.labels))
    network = exported_once(fused, key, lambda: _network(model, fused))
    return _joined(_front_end(config, form, info.window_samples), require("onnx", extra="train").load_from_string(network))


def exported_once(network: nn.Module, key: tuple[Any, ...], export: Callable[[], Any]) -> bytes:
    """The ONNX model that `export` makes of a network in the way that `key` tells; made once, as long as the network lives."""
    made = _GRAPHS.setdefault(network, {})
    if key not in made:
        made[key] = export().SerializeToString()
    return made[key]


@lru_cache(maxsize=8)
def _front_end(config: FrontEndConfig, form: str, samples: int) -> Any:
    """The ONNX model of waveform (B, N) to log-mel (B, 1, T, F), exported once for all networks behind it."""
    import torch

    from audiorep.models.front_end import MatrixLogMel

    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples")}
    free = {"input_names": ["waveform"], "dynamic_shapes": {"waveform": shape}}
    made = to_onnx(MatrixLogMel(config, form).eval(), (torch.zeros(2, samples),), [LOG_MEL], **free)
    return require("onnx", extra="train").compose.add_prefix(made, "front_end/", rename_inputs=False, rename_outputs=False)


def _network(model: Checkpoint, fused: nn.Module) -> Any:
    """The ONNX model of log-mel (B, 1, T, F) to scores and embedding."""
    import torch

    from audiorep.runtimes.torch import Scores

    spectrogram = torch.zeros(2, *model.example().shape[1:])
    shape = {0: torch.export.Dim("batch"), 2: torch.export.Dim("frames")}
    free = {"input_names": ["spectrogram"], "dynamic_shapes": {"spectrogram": shape}}
    return to_onnx(Scores(fused, model.info).eval(), (spectrogram,), list(model.info.outputs), **free)


def _joined(front_end: Any, network: Any) -> Any:
    """One ONNX model of both."""
    compose = require("onnx", extra="train").compose
    made = compose.merge_models(
        front_end,
        network,
        io_map=[(LOG_MEL, "spectrogram")],
        name=network.graph.name,
        producer_name=network.producer_name,
        producer_version=network.producer_version,
    )
    del made.opset_import[:]  # which it lists once for each part
    made.opset_import.extend(network.opset_import)
    return made


def caller(content: bytes) -> Callable[[np.ndarray], object]:
    """An ONNX model ready to be called on a waveform (B, N)."""
    ready = session(content)
    return lambda waveform: ready.run(None, {"waveform": waveform})


def name_log_mel(proto: Any) -> None:
    """Gives the front end's last value a name, by which others find where the network begins."""
    last = next(node for node in proto.graph.node if node.op_type == "Log").output[0]
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == last:
                    names[place] = LOG_MEL
    for value in proto.graph.value_info:
        if value.name == last:
            value.name = LOG_MEL


def to_onnx(network: Any, args: tuple[Any, ...] | None, outputs: list[str], **more: Any) -> Any:
    """The ONNX model of a torch module or exported program, without traces of the machine it was made on.

    Raises:
        MissingExtraError: torch or onnxscript is not installed.
    """
    torch, _ = require("torch", extra="train"), require("onnxscript", extra="train")
    with _quiet():
        program = torch.onnx.export(network, args or (), dynamo=True, output_names=outputs, verbose=False, **more)
    proto = program.model_proto  # made anew at every look
    _strip(proto)
    return proto


def _strip(proto: Any) -> None:
    """Removes the exporter's notes, which hold stack traces with the paths of the exporting machine."""
    graph = proto.graph
    for noted in (proto, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del noted.metadata_props[:]
        noted.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk of its own deprecations and of torchvision, which no user can act on."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
