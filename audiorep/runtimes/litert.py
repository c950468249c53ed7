"""Run `.tflite` files with LiteRT (once TensorFlow Lite), for phones and small boards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.errors import BundleError, first_line, require
from audiorep.info import model_info
from audiorep.runtimes import Session, cores, existing, fixed_shape, running
from audiorep.runtimes.silence import silenced
from audiorep.untrusted import brief

INPUTS = ["waveform", "samples"]  # names in the signature; the second only where the model fills short clips


class LiteRtSession(Session):
    """A `.tflite` of ours ready to run: (B, N) float32 at `info.sample_rate` to scores and embeddings, N one window.

    It needs the package ai-edge-litert alone, not torch.

    Raises:
        BundleError: the file is missing, damaged, not LiteRT's, or not an audiorep model.
        MissingExtraError: ai-edge-litert is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self._path = path = existing(path)
        with silenced():
            runtime, interpreter = (
                require("ai_edge_litert", extra="litert"),
                require("ai_edge_litert.interpreter", extra="litert"),
            )
        self.info = model_info.read_appended(path)
        try:
            with silenced():
                self._interpreter = interpreter.Interpreter(str(path), num_threads=threads or cores() or 1)
                self._interpreter.allocate_tensors()
                signatures = self._interpreter.get_signature_list()
                runner = self._interpreter.get_signature_runner(next(iter(signatures))) if signatures else None
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{path} is not a model that LiteRT reads ({first_line(error)}).") from None
        self._inputs, self._outputs = self._places(runner, path)
        self.device = f"LiteRT {runtime.__version__}, CPU with XNNPACK"

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs that are asked for: {name: (B, size)}.

        Raises:
            BundleError: another number of samples than the model takes.
        """
        return fixed_shape.clip_by_clip(self.info, waveform, outputs, partial(self._run, outputs=outputs))

    def _run(self, clip: np.ndarray, samples: int, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        values = {"waveform": clip, "samples": np.array([samples], np.int32)}
        with running(self._path):
            for name, index in self._inputs.items():
                self._interpreter.set_tensor(index, values[name])
            self._interpreter.invoke()
            return {output: self._interpreter.get_tensor(self._outputs[output]) for output in outputs}

    def _places(self, runner: Any, path: Path) -> tuple[dict[str, int], dict[str, int]]:
        """The tensors of each input and each output, by their names in the signature: a converter may change their order."""
        inputs, outputs = (runner.get_input_details(), runner.get_output_details()) if runner else ({}, {})
        found = {name: tuple(map(int, tensor["shape"])) for name, tensor in [*inputs.items(), *outputs.items()]}
        needed: dict[str, tuple[int, ...]] = {"waveform": (1, self.info.window_samples)}
        if fixed_shape.fills(self.info):
            needed["samples"] = (1,)
        needed |= {name: (1, size) for name, size in self.info.outputs.items()}
        if found != needed:
            raise BundleError(f"{path}: its graph has {brief(found)}; {brief(needed)} are needed. Export the model again.")
        return {name: inputs[name]["index"] for name in inputs}, {name: outputs[name]["index"] for name in self.info.outputs}
