"""Core ML, for Apple's devices: export a checkpoint to `.mlpackage`, and run it on a Mac."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep.bundle import ModelInfo
from audiorep.errors import BundleError, first_line, require
from audiorep.files import landing, named, partial_of
from audiorep.interrupts import held
from audiorep.runtimes import fixed, running
from audiorep.runtimes.check import Parity, accept
from audiorep.runtimes.quiet import TORCH_LOGGERS, quiet

if TYPE_CHECKING:
    from audiorep.checkpoint import Checkpoint

LOGGERS = (*TORCH_LOGGERS, "coremltools")
INPUTS = ["waveform", "samples"]  # the second only where the model fills short clips


class CoreMlSession:
    """A `.mlpackage` of ours ready to run on a Mac: (B, N) float32 to {head: scores (B, K)}, N one window.

    Raises:
        BundleError: the folder is missing, not Core ML's, or not an audiorep model; or this is no Mac.
        MissingExtraError: coremltools is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self._path = path = Path(path)
        self.info = information(path)
        if not runs_here():
            raise BundleError(f"{path} runs on a Mac only. Use it there, or export to .onnx for this machine.")
        with quiet(*LOGGERS):
            coremltools = require("coremltools", extra="coreml")
            self._model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_AND_GPU)
        self.device = f"Core ML (coremltools {coremltools.__version__}), CPU and GPU"

    def __call__(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of each head for each waveform of the batch.

        Raises:
            BundleError: another number of samples than the model takes.
        """
        return fixed.scores(self.info, waveform, self._run)

    def _run(self, clip: np.ndarray, samples: int) -> dict[str, np.ndarray]:
        values = {"waveform": clip, "samples": np.array([samples], np.int32)}
        with running(self._path):
            found = self._model.predict({name: values[name] for name in INPUTS[: 1 + fixed.fills(self.info)]})
            return {head: found[head] for head in self.info.labels}


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
    with quiet(*LOGGERS):
        coremltools = require("coremltools", extra="coreml")
        try:
            metadata = dict(coremltools.models.MLModel(str(path), skip_model_load=True).user_defined_metadata)
        except Exception as error:  # coremltools' have no base, and protobuf's come through
            raise BundleError(f"{path} is not a model that Core ML reads ({first_line(error)}).") from None
    return ModelInfo.from_metadata(metadata, path)


def export(model: Checkpoint, path: str | os.PathLike[str], clips: Sequence[np.ndarray]) -> Parity | None:
    """Writes `model` to `path` as one `.mlpackage` in float32, waveform in and scores out, for iOS 16 and macOS 13 on.

    The network is fused, the front end is inside as matrix products, and the shape is one clip of one window. On a Mac it
    is checked on `clips`, (N,) float32 waveforms at the model's rate, and appears only after its scores agree with the
    checkpoint's. Elsewhere Core ML does not run and the result is None: nothing was checked.

    Raises:
        BundleError: a score differs by more than `check.PARITY_LIMIT`.
        ConfigError: nothing can be written there.
        MissingExtraError: torch or coremltools is not installed.
    """
    path = Path(path)
    with _replacing(path) as partial:
        converted = _converted(model)
        converted.user_defined_metadata.update(model.info.to_metadata())
        converted.save(str(partial))
        (partial / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)  # of no use to Core ML
        for file in [partial, *partial.rglob("*")]:  # it leaves them unreadable to other users
            file.chmod(0o755 if file.is_dir() else 0o644)
        return accept(model, CoreMlSession(partial), clips, path) if runs_here() else None


def _converted(model: Checkpoint) -> Any:
    torch = require("torch", extra="train")
    from audiorep.runtimes.fixed_program import fixed_program

    program, example = fixed_program(model)
    aliases = {torch.ops.aten.alias.default: lambda tensor: tensor}  # torch makes them, coremltools does not know them
    with quiet(*LOGGERS):
        coremltools = require("coremltools", extra="coreml")
        exported = torch.export.export(program, example).run_decompositions(aliases)
        return coremltools.convert(
            exported,
            convert_to="mlprogram",
            outputs=[coremltools.TensorType(name=head) for head in model.info.labels],
            minimum_deployment_target=coremltools.target.iOS16,
            compute_precision=coremltools.precision.FLOAT32,  # half precision would lose the log-mel's quiet bands
            skip_model_load=True,
        )


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """As `files.replacing`, for a folder; an older one is put aside whole before the new one takes its name."""
    place = landing(path)
    partial, older = partial_of(place), partial_of(place.with_name(f"{place.stem}.older{place.suffix}"))
    with named(path, place, partial, older):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with held():
                shutil.rmtree(older, ignore_errors=True)
                if place.is_dir():
                    place.replace(older)
                try:
                    partial.replace(place)
                except OSError:
                    if older.is_dir():
                        older.replace(place)
                    raise
        finally:
            for folder in (partial, older):
                shutil.rmtree(folder, ignore_errors=True)
