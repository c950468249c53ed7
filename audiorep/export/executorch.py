"""Write a checkpoint as `.pte`, for ExecuTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep.errors import BundleError, require
from audiorep.export.parity import Parity, accept
from audiorep.files import replacing
from audiorep.info import model_info
from audiorep.runtimes import fixed_shape
from audiorep.runtimes.executorch import ExecuTorchSession
from audiorep.runtimes.silence import TORCH_LOGGERS, silenced

if TYPE_CHECKING:
    from torch import Tensor

    from audiorep.export.fixed_program import FixedPipeline
    from audiorep.models.checkpoint import Checkpoint


def export(
    model: Checkpoint,
    path: str | os.PathLike[str],
    clips: Sequence[np.ndarray],
    precision: str = "fp32",
    calibration: Sequence[np.ndarray] = (),
) -> Parity:
    """Writes `model` to `path` as one self-describing `.pte`, waveform in, scores and embedding out, checked on `clips`.

    The network is fused, the front end is inside as matrix products, what XNNPACK has kernels for is given to it, and the
    shape is one clip of one window. `clips` are (N,) float32 waveforms at the model's rate. The file appears only after its
    scores agree with the checkpoint's. int8 is static: weights by channel, activations by the ranges seen on the
    `calibration` waveforms, (N,) each; the front end and the activation stay in float32.

    Raises:
        BundleError: its scores are not the checkpoint's (see `parity.Parity.refusal`), or no calibration clips for int8.
        MissingExtraError: torch or executorch is not installed.
    """
    path = Path(path)
    seen = fixed_shape.inputs(model.info, calibration) if precision == "int8" else []
    with replacing(path) as partial:
        partial.write_bytes(_converted(model, seen).buffer)
        model_info.append(partial, model.info.with_precision(precision) if seen else model.info)
        return accept(model, ExecuTorchSession(partial), clips, path, precision)


def _converted(model: Checkpoint, calibration: Sequence[dict[str, np.ndarray]]) -> Any:
    """The program, its network in int8 where there is something to calibrate it on."""
    torch = require("torch", extra="train")
    from audiorep.export.fixed_program import fixed_program

    program, example = fixed_program(model, small=bool(calibration))
    with silenced(*TORCH_LOGGERS):
        lowering = require("executorch.exir", extra="executorch")
        xnnpack = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", extra="executorch")
        if calibration:
            program.pipeline.network = _quantized(program, example, calibration)
        exported = torch.export.export(program, example)
        lowered = lowering.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
        return lowered.to_executorch()


def _quantized(program: FixedPipeline, example: tuple[Tensor, ...], calibration: Sequence[dict[str, np.ndarray]]) -> Any:
    """The network in int8, by the ranges it sees.

    It is made apart from the program: a quantizer that is told to leave the front end does not.

    Raises:
        BundleError: it gives NaN or infinite values.
    """
    torch = require("torch", extra="train")
    pt2e = require("torchao.quantization.pt2e.quantize_pt2e", extra="executorch")
    xnnpack = require("executorch.backends.xnnpack.quantizer.xnnpack_quantizer", extra="executorch")
    settings = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    with torch.no_grad():
        network = torch.export.export(program.pipeline.network, (program.spectrogram(*example),)).module()
        observed = pt2e.prepare_pt2e(network, xnnpack.XNNPACKQuantizer().set_global(settings))
        try:
            for values in calibration:
                observed(program.spectrogram(*(torch.from_numpy(value) for value in values.values())))
        except RuntimeError as error:
            if "not finite" in str(error):  # of the histogram that an observer makes
                raise BundleError(fixed_shape.UNMEASURABLE) from None
            raise
        return pt2e.convert_pt2e(observed)
