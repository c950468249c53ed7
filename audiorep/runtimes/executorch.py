"""Run `.pte` files with ExecuTorch, PyTorch's runtime for phones and small boards."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from audiorep.errors import BundleError, ConfigError, first_line, require
from audiorep.info import model_info
from audiorep.runtimes import Session, cores, existing, fixed_shape, running
from audiorep.runtimes.silence import TORCH_LOGGERS, silenced
from audiorep.untrusted import brief

METHOD = "forward"  # the only one of a program

_settled: int | None = None  # threads of ExecuTorch's pool in this process


class ExecuTorchSession(Session):
    """A `.pte` of ours ready to run: (B, N) float32 at `info.sample_rate` to scores and embeddings, N one window.

    Raises:
        BundleError: the file is missing, damaged, not ExecuTorch's, or not an audiorep model.
        ConfigError: another number of threads than that of this process's first session.
        MissingExtraError: executorch is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self._path = path = existing(path)
        self._torch = require("torch", extra="train")
        with silenced(*TORCH_LOGGERS):
            runtime = require("executorch.runtime", extra="executorch").Runtime.get()
        self.info = model_info.read_appended(path)
        settle(threads)
        try:
            with silenced():
                self._method = runtime.load_program(path).load_method(METHOD)
                found = self._shapes()
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise BundleError(f"{path} is not a model that ExecuTorch reads ({first_line(error)}).") from None
        self._check_shapes(found, path)
        self.device = f"ExecuTorch {importlib.metadata.version('executorch')}, CPU with XNNPACK"

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs that are asked for: {name: (B, size)}.

        Raises:
            BundleError: another number of samples than the model takes.
        """
        return fixed_shape.clip_by_clip(self.info, waveform, outputs, partial(self._run, outputs=outputs))

    def _run(self, clip: np.ndarray, samples: int, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        values = [self._torch.from_numpy(clip)]
        if fixed_shape.fills(self.info):
            values.append(self._torch.tensor([samples], dtype=self._torch.int32))
        with running(self._path):
            made = self._method.execute(values)  # in the order of `info.outputs`: a program's have no names
            found = dict(zip(self.info.outputs, made, strict=True))
            return {output: found[output].numpy() for output in outputs}

    def _shapes(self) -> list[list[int]]:
        """The shapes of its inputs, then those of its outputs."""
        method = self._method.metadata
        found = [method.input_tensor_meta(index) for index in range(method.num_inputs())]
        found += [method.output_tensor_meta(index) for index in range(method.num_outputs())]
        return [list(meta.sizes()) for meta in found]

    def _check_shapes(self, found: list[list[int]], path: Path) -> None:
        samples = [[1]] if fixed_shape.fills(self.info) else []
        needed = [[1, self.info.window_samples], *samples, *([1, size] for size in self.info.outputs.values())]
        if found != needed:
            raise BundleError(
                f"{path}: its program has shapes {brief(found)}; {brief(needed)} are needed. Export the model again."
            )


def settle(threads: int | None) -> None:
    """Sets the size of ExecuTorch's one thread pool, once: a session loaded before would crash the process afterwards."""
    global _settled
    if _settled is None:
        _settled = threads or cores() or 1
        with silenced(*TORCH_LOGGERS):
            require("executorch.extension.pybindings.portable_lib", extra="executorch")._unsafe_reset_threadpool(_settled)
    elif threads not in (None, _settled):
        raise ConfigError(
            f"ExecuTorch has one pool of threads, which has {_settled} in this process; {threads} were asked for. "
            "Use another process."
        )
