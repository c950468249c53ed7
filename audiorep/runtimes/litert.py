"""LiteRT (once TensorFlow Lite), for phones and small boards: export a checkpoint to `.tflite`, and run it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiorep import bundle
from audiorep.errors import BundleError, require
from audiorep.files import replacing
from audiorep.runtimes import cores, existing, fixed
from audiorep.runtimes.check import Parity, accept
from audiorep.runtimes.quiet import TORCH_LOGGERS, quiet

if TYPE_CHECKING:
    from audiorep.checkpoint import Checkpoint

INPUTS = ["waveform", "samples"]  # names in the signature; the second only where the model fills short clips


class LiteRtSession:
    """A `.tflite` of ours ready to run: (B, N) float32 at `info.sample_rate` to {head: scores (B, K)}, N one window.

    It needs the package ai-edge-litert alone, not torch.

    Raises:
        BundleError: the file is missing, damaged, not LiteRT's, or not an audiorep model.
        MissingExtraError: ai-edge-litert is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        path = existing(path)
        with quiet():
            runtime, interpreter = (
                require("ai_edge_litert", extra="litert"),
                require("ai_edge_litert.interpreter", extra="litert"),
            )
        self.info = bundle.appended(path)
        try:
            with quiet():
                self._interpreter = interpreter.Interpreter(str(path), num_threads=threads or cores() or 1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{path} is not a model that LiteRT reads ({str(error).strip().rstrip('.')}).") from None
        self._inputs, self._outputs = self._places(path)
        self.device = f"LiteRT {runtime.__version__}, CPU with XNNPACK"

    def __call__(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of each head for each waveform of the batch.

        Raises:
            BundleError: another number of samples than the model takes.
        """
        return fixed.scores(self.info, waveform, self._run)

    def _run(self, clip: np.ndarray, samples: int) -> dict[str, np.ndarray]:
        values = {"waveform": clip, "samples": np.array([samples], np.int32)}
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, values[name])
        self._interpreter.invoke()
        return {head: self._interpreter.get_tensor(index) for head, index in self._outputs.items()}

    def _places(self, path: Path) -> tuple[dict[str, int], dict[str, int]]:
        """The tensors of each input and each head, by their names in the signature: a converter may change their order."""
        signatures = self._interpreter.get_signature_list()
        runner = self._interpreter.get_signature_runner(next(iter(signatures))) if signatures else None
        inputs, outputs = (runner.get_input_details(), runner.get_output_details()) if runner else ({}, {})
        found = {name: tuple(map(int, tensor["shape"])) for name, tensor in [*inputs.items(), *outputs.items()]}
        needed: dict[str, tuple[int, ...]] = {"waveform": (1, self.info.window_samples)}
        if fixed.fills(self.info):
            needed["samples"] = (1,)
        needed |= {head: (1, len(names)) for head, names in self.info.labels.items()}
        if found != needed:
            raise BundleError(f"{path}: its graph has {found}; {needed} are needed. Export the model again.")
        return {name: inputs[name]["index"] for name in inputs}, {head: outputs[head]["index"] for head in self.info.labels}


def export(model: Checkpoint, path: str | os.PathLike[str], clips: Sequence[np.ndarray]) -> Parity:
    """Writes `model` to `path` as one self-describing `.tflite`, waveform in and scores out, and checks it on `clips`.

    The network is fused, the front end is inside as matrix products, and the shape is one clip of one window. `clips` are
    (N,) float32 waveforms at the model's rate. The file appears only after its scores agree with the checkpoint's.

    Raises:
        BundleError: a score differs by more than `check.PARITY_LIMIT`.
        MissingExtraError: torch or litert-torch is not installed.
    """
    path = Path(path)
    with replacing(path) as partial:
        _write(model, partial)
        bundle.append(partial, model.info)
        return accept(model, LiteRtSession(partial), clips, path)


def _write(model: Checkpoint, path: Path) -> None:
    require("torch", extra="train")
    from audiorep.runtimes.fixed_program import fixed_program

    program, example = fixed_program(model)
    with quiet(*TORCH_LOGGERS):
        litert_torch = require("litert_torch", extra="litert-export")
        litert_torch.convert(program, sample_kwargs=dict(zip(INPUTS, example, strict=False))).export(str(path))
