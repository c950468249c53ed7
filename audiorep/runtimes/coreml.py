"""Run `.mlpackage` folders with Core ML, on a Mac."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from audiorep.errors import BundleError, first_line, require
from audiorep.info.model_info import ModelInfo
from audiorep.runtimes import Session, fixed_shape, running
from audiorep.runtimes.silence import TORCH_LOGGERS, silenced

LOGGERS = (*TORCH_LOGGERS, "coremltools")
INPUTS = ["waveform", "samples"]  # the second only where the model fills short clips


class CoreMlSession(Session):
    """A `.mlpackage` of ours ready to run on a Mac: (B, N) float32 to scores and embeddings, N one window.

    Raises:
        BundleError: the folder is missing, not Core ML's, or not an audiorep model; or this is no Mac.
        MissingExtraError: coremltools is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self._path = path = Path(path)
        self.info = information(path)
        if not runs_here():
            raise BundleError(f"{path} runs on a Mac only. Use it there, or export to .onnx for this machine.")
        with silenced(*LOGGERS):
            coremltools = require("coremltools", extra="coreml")
            self._model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_AND_GPU)
        self.device = f"Core ML (coremltools {coremltools.__version__}), CPU and GPU"

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs that are asked for: {name: (B, size)}.

        Raises:
            BundleError: another number of samples than the model takes.
        """
        return fixed_shape.clip_by_clip(self.info, waveform, outputs, partial(self._run, outputs=outputs))

    def _run(self, clip: np.ndarray, samples: int, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        values = {"waveform": clip, "samples": np.array([samples], np.int32)}
        with running(self._path):
            found = self._model.predict({name: values[name] for name in INPUTS[: 1 + fixed_shape.fills(self.info)]})
            return {output: found[output] for output in outputs}


def runs_here() -> bool:
    """Whether this machine can run Core ML; any can convert to it."""
    return sys.platform == "darwin"


def information(path: Path) -> ModelInfo:
    """What the model in a `.mlpackage` says of itself, on any machine.

    Raises:
        BundleError: there is none, or not of audiorep.
        MissingExtraError: coremltools is not installed.
    """
    if not path.is_dir():
        raise BundleError(f"{path} {'is a file' if path.exists() else 'does not exist'}; a folder .mlpackage is needed.")
    with silenced(*LOGGERS):
        coremltools = require("coremltools", extra="coreml")
        try:
            metadata = dict(coremltools.models.MLModel(str(path), skip_model_load=True).user_defined_metadata)
        except Exception as error:  # coremltools' have no base, and protobuf's come through
            raise BundleError(f"{path} is not a model that Core ML reads ({first_line(error)}).") from None
    return ModelInfo.from_metadata(metadata, path)
