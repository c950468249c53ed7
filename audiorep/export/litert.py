"""Write a checkpoint as `.tflite`, for LiteRT (once TensorFlow Lite)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiorep.errors import BundleError, require
from audiorep.export.parity import Parity, accept
from audiorep.files import replacing
from audiorep.info import EMBEDDING, model_info
from audiorep.runtimes import cores, fixed_shape
from audiorep.runtimes.litert import INPUTS, LiteRtSession
from audiorep.runtimes.silence import TORCH_LOGGERS, silenced

if TYPE_CHECKING:
    from audiorep.models.checkpoint import Checkpoint
    from audiorep.models.front_end import LogMel, MatrixLogMel

FRONT_END, NETWORK = "front_end", "network"
PARTS = {FRONT_END: b"_front_end", NETWORK: b"_network"}
"""The parts of a pipeline, and what the converter's names of their tensors contain: the names of the modules."""


def export(
    model: Checkpoint,
    path: str | os.PathLike[str],
    clips: Sequence[np.ndarray],
    precision: str = "fp32",
    calibration: Sequence[np.ndarray] = (),
) -> Parity:
    """Writes `model` to `path` as one self-describing `.tflite`, waveform in, scores and embedding out, checked on `clips`.

    The network is fused, the front end is inside as matrix products, and the shape is one clip of one window. `clips` are
    (N,) float32 waveforms at the model's rate. The file appears only after its scores agree with the checkpoint's. int8 is
    static: weights by channel, activations by the ranges seen on the `calibration` waveforms, (N,) each; the front end and
    the activation compute in float32, the former with constants stored in float16.

    Raises:
        BundleError: its scores are not the checkpoint's (see `parity.Parity.refusal`), or no calibration clips for int8.
        MissingExtraError: torch, litert-torch or, for int8, ai-edge-quantizer is not installed.
    """
    path = Path(path)
    seen = fixed_shape.inputs(model.info, calibration) if precision == "int8" else []
    with replacing(path) as partial:
        _write(model, partial, small=bool(seen))
        if seen:
            with silenced():
                partial.write_bytes(_quantized(_renamed(partial.read_bytes()), seen))
        model_info.append(partial, model.info.with_precision(precision) if seen else model.info)
        return accept(model, LiteRtSession(partial), clips, path, precision)


def _write(model: Checkpoint, path: Path, small: bool) -> None:
    require("torch", extra="train")
    from audiorep.export.fixed_program import fixed_program

    program, example = fixed_program(model, small)
    if small:
        _halve(program.pipeline.front_end)
    with silenced(*TORCH_LOGGERS):
        litert_torch = require("litert_torch", extra="litert-export")
        litert_torch.convert(program, sample_kwargs=dict(zip(INPUTS, example, strict=False))).export(str(path))


def _halve(front_end: LogMel | MatrixLogMel) -> None:
    """Rounds the Fourier matrices of an exportable front end to float16 values, in place.

    What one sample's row loses is made good in the next: the error then lies at high frequencies, where sounds have little,
    and half as much of a loud sound, or less, leaks into quiet bands.
    """
    for matrix in front_end.get_submodule("spectra").parameters():
        lost = 0.0
        for row in matrix.numpy():  # of one sample and every bin; in the matrix's own memory
            wanted = row + lost
            row[:] = wanted.astype(np.float16)
            lost = wanted - row


def _renamed(content: bytes) -> bytes:
    """The model with short names for its tensors that begin with what they are part of.

    They are paths of modules in each of a hundred operators, a fifth of a small file, and are read by nothing else.
    """
    graphs = require("ai_edge_litert.tools.flatbuffer_utils", extra="litert-export")
    model = graphs.read_model_from_bytearray(content)
    named = {item.tensorIndex: item.name.decode() for item in model.signatureDefs[0].outputs}
    own = {index: NETWORK if output == EMBEDDING else "" for index, output in named.items()}  # by no module's name
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        part = next((part for part, mark in PARTS.items() if mark in tensor.name), "")
        tensor.name = f"{own.get(index, part)}{index}".encode()
    return bytes(graphs.convert_object_to_bytearray(model))


def _quantized(content: bytes, calibration: Sequence[dict[str, np.ndarray]]) -> bytes:
    """A renamed model with its network in int8 and the matrices of its front end stored in float16.

    Raises:
        BundleError: the network gives NaN.
    """
    quantizer, calibrator, recipes, types, updates, algorithms = (
        require(f"ai_edge_quantizer.{name}", extra="litert-export")
        for name in ("quantizer", "calibrator", "recipe_manager", "qtyping", "utils.qsv_utils", "algorithm_manager")
    )
    recipe, operators = recipes.RecipeManager(), types.TFLOperationName
    recipe.add_static_config(f"^{NETWORK}", operators.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    recipe.add_quantization_config(f"^{NETWORK}", operators.OUTPUT, algorithm_key=algorithms.AlgorithmName.NO_QUANTIZE)
    recipe.add_weight_only_config(
        f"^{FRONT_END}", operators.FULLY_CONNECTED, num_bits=16, algorithm_key=algorithms.AlgorithmName.FLOAT_CASTING
    )
    observer = calibrator.Calibrator(content, cores() or 1, qsv_update_func=updates.min_max_update)  # the default forgets
    observer.calibrate({next(iter(observer.get_signature_list())): calibration}, recipe)
    ranges = observer.get_model_qsvs()
    if any(np.isnan(bound).any() for seen in ranges.values() for bound in seen.values()):
        raise BundleError(fixed_shape.UNMEASURABLE)
    return bytes(quantizer.Quantizer(content, recipe.get_quantization_recipe()).quantize(ranges).quantized_model)
