"""ExecuTorch, PyTorch's runtime for phones and small boards: export a checkpoint to `.pte`, and run it."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep import bundle
from audiorep.errors import BundleError, ConfigError, first_line, require
from audiorep.files import replacing
from audiorep.foreign import brief
from audiorep.runtimes import cores, existing, fixed, running
from audiorep.runtimes.check import Parity, accept
from audiorep.runtimes.quiet import TORCH_LOGGERS, quiet

if TYPE_CHECKING:
    from torch import Tensor

    from audiorep.checkpoint import Checkpoint
    from audiorep.runtimes.fixed_program import FixedPipeline

METHOD = "forward"  # the only one of a program

_settled: int | None = None  # threads of ExecuTorch's pool in this process


class ExecuTorchSession:
    """A `.pte` of ours ready to run: (B, N) float32 at `info.sample_rate` to {head: scores (B, K)}, N one window.

    Raises:
        BundleError: the file is missing, damaged, not ExecuTorch's, or not an audiorep model.
        ConfigError: another number of threads than that of this process's first session.
        MissingExtraError: executorch is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self._path = path = existing(path)
        self._torch = require("torch", extra="train")
        with quiet(*TORCH_LOGGERS):
            runtime = require("executorch.runtime", extra="executorch").Runtime.get()
        self.info = bundle.appended(path)
        _settle(threads)
        try:
            with quiet():
                self._method = runtime.load_program(path).load_method(METHOD)
                found = self._shapes()
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise BundleError(f"{path} is not a model that ExecuTorch reads ({first_line(error)}).") from None
        self._check_shapes(found, path)
        self.device = f"ExecuTorch {importlib.metadata.version('executorch')}, CPU with XNNPACK"

    def __call__(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of each head for each waveform of the batch.

        Raises:
            BundleError: another number of samples than the model takes.
        """
        return fixed.scores(self.info, waveform, self._run)

    def _run(self, clip: np.ndarray, samples: int) -> dict[str, np.ndarray]:
        values = [self._torch.from_numpy(clip)]
        if fixed.fills(self.info):
            values.append(self._torch.tensor([samples], dtype=self._torch.int32))
        with running(self._path):
            outputs = self._method.execute(values)  # in the order of the labels: a program's have no names
            return {head: output.numpy() for head, output in zip(self.info.labels, outputs, strict=True)}

    def _shapes(self) -> list[list[int]]:
        """Of its inputs, then its outputs."""
        method = self._method.metadata
        found = [method.input_tensor_meta(index) for index in range(method.num_inputs())]
        found += [method.output_tensor_meta(index) for index in range(method.num_outputs())]
        return [list(meta.sizes()) for meta in found]

    def _check_shapes(self, found: list[list[int]], path: Path) -> None:
        samples = [[1]] if fixed.fills(self.info) else []
        needed = [[1, self.info.window_samples], *samples, *([1, len(names)] for names in self.info.labels.values())]
        if found != needed:
            raise BundleError(
                f"{path}: its program has shapes {brief(found)}; {brief(needed)} are needed. Export the model again."
            )


def export(
    model: Checkpoint,
    path: str | os.PathLike[str],
    clips: Sequence[np.ndarray],
    precision: str = "fp32",
    calibration: Sequence[np.ndarray] = (),
) -> Parity:
    """Writes `model` to `path` as one self-describing `.pte`, waveform in and scores out, and checks it on `clips`.

    The network is fused, the front end is inside as matrix products, what XNNPACK has kernels for is given to it, and the
    shape is one clip of one window. `clips` are (N,) float32 waveforms at the model's rate. The file appears only after its
    scores agree with the checkpoint's. int8 is static: weights by channel, activations by the ranges seen on the
    `calibration` waveforms, (N,) each; the front end and the activation stay in float32.

    Raises:
        BundleError: its scores are not the checkpoint's (see `check.Parity.refusal`), or no calibration clips for int8.
        MissingExtraError: torch or executorch is not installed.
    """
    path = Path(path)
    seen = fixed.inputs(model.info, calibration) if precision == "int8" else []
    with replacing(path) as partial:
        partial.write_bytes(_converted(model, seen).buffer)
        bundle.append(partial, model.info.in_precision(precision) if seen else model.info)
        return accept(model, ExecuTorchSession(partial), clips, path, precision)


def _settle(threads: int | None) -> None:
    """Sets the size of ExecuTorch's one thread pool, once: a session loaded before would crash the process afterwards."""
    global _settled
    if _settled is None:
        _settled = threads or cores() or 1
        with quiet(*TORCH_LOGGERS):
            require("executorch.extension.pybindings.portable_lib", extra="executorch")._unsafe_reset_threadpool(_settled)
    elif threads not in (None, _settled):
        raise ConfigError(
            f"ExecuTorch has one pool of threads, which has {_settled} in this process; {threads} were asked for. "
            "Use another process."
        )


def _converted(model: Checkpoint, calibration: Sequence[dict[str, np.ndarray]]) -> Any:
    """The program, its network in int8 where there is something to calibrate it on."""
    torch = require("torch", extra="train")
    from audiorep.runtimes.fixed_program import fixed_program

    program, example = fixed_program(model, small=bool(calibration))
    with quiet(*TORCH_LOGGERS):
        lowering = require("executorch.exir", extra="executorch")
        xnnpack = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", extra="executorch")
        if calibration:
            program.pipeline.network = _quantised(program, example, calibration)
        exported = torch.export.export(program, example)
        lowered = lowering.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
        return lowered.to_executorch()


def _quantised(program: FixedPipeline, example: tuple[Tensor, ...], calibration: Sequence[dict[str, np.ndarray]]) -> Any:
    """The network in int8, by the ranges it sees.

    It is made apart from the program: a quantiser that is told to leave the front end does not.

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
                raise BundleError(fixed.UNMEASURABLE) from None
            raise
        return pt2e.convert_pt2e(observed)
