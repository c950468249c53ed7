"""Run bundles with ONNX Runtime, the default, on whatever the machine has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from audiorep.errors import BundleError, first_line
from audiorep.runtimes import Session, cores, existing, in_slices, running, sealed
from audiorep.untrusted import brief

LOG_MEL = "log_mel"
"""The name, in a bundle's graph, of what the front end gives and the network takes."""
FLOATS = "tensor(float)"


class OnnxSession(Session):
    """A bundle ready to run: (B, N) float32 at `info.sample_rate` to scores and embeddings.

    Raises:
        BundleError: the file is missing, not ONNX, or not an audiorep bundle.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self._path = path = existing(path)
        content = path.read_bytes()
        self.info = sealed.information(content, path)
        try:
            self._session = session(content, threads)
        except Exception as error:  # ONNX Runtime's exceptions share no base but this one
            raise BundleError(f"{path} is not a model that ONNX Runtime reads ({first_line(error)}).") from None
        self.device = (
            f"ONNX Runtime {onnxruntime.__version__}, {self._session.get_providers()[0].removesuffix('ExecutionProvider')}"
        )
        self.shares = self._session.get_providers()[0] == "CPUExecutionProvider" and threads == 1
        self._check_graph(path)

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs that are asked for: {name: (B, size)}."""
        on_cpu = self._session.get_providers()[0] == "CPUExecutionProvider"
        run = partial(self._run, outputs=outputs)
        return in_slices(waveform, run) if on_cpu else run(waveform)

    def _run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        with running(self._path):
            return dict(zip(outputs, self._session.run(list(outputs), {"waveform": waveform}), strict=True))

    def _check_graph(self, path: Path) -> None:
        inputs = {node.name: (node.type, len(node.shape)) for node in self._session.get_inputs()}
        outputs = {node.name: (node.type, *node.shape[1:]) for node in self._session.get_outputs()}
        expected = {name: (FLOATS, size) for name, size in self.info.outputs.items()}
        if inputs != {"waveform": (FLOATS, 2)} or any(outputs.get(name) != shape for name, shape in expected.items()):
            raise BundleError(
                f"{path}: its graph takes {brief(inputs)} and gives {brief(outputs)}; waveform as {FLOATS} of 2 axes and "
                f"{brief(expected)} are needed. Export the model again."
            )


def session(model: Path | bytes, threads: int | None = None, profile: str | None = None) -> Any:
    """ONNX Runtime with all its providers on this machine, but a remote one; `profile` is where its times go."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores() or 0  # left alone, it counts those this process may not use too
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    providers = [name for name in onnxruntime.get_available_providers() if name != "AzureExecutionProvider"]
    return onnxruntime.InferenceSession(model, options, providers=providers)
