"""Write a checkpoint as `.mlpackage`, for Core ML."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep.errors import require
from audiorep.export.parity import Parity, accept
from audiorep.files import link_target, partial_path, write_errors
from audiorep.interrupts import delay_signals
from audiorep.runtimes.coreml import LOGGERS, CoreMlSession, runs_here
from audiorep.runtimes.silence import silenced

if TYPE_CHECKING:
    from audiorep.models.checkpoint import Checkpoint


def export(model: Checkpoint, path: str | os.PathLike[str], clips: Sequence[np.ndarray]) -> Parity | None:
    """Writes `model` to `path` as one `.mlpackage` in float32, waveform in, scores and embedding out (iOS 16, macOS 13).

    The network is fused, the front end is inside as matrix products, and the shape is one clip of one window. On a Mac it
    is checked on `clips`, (N,) float32 waveforms at the model's rate, and appears only after its scores agree with the
    checkpoint's. Elsewhere Core ML does not run and the result is None: nothing was checked.

    Raises:
        BundleError: a score differs by more than `parity.PARITY_LIMIT`.
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
    from audiorep.export.fixed_program import fixed_program

    program, example = fixed_program(model)
    aliases = {torch.ops.aten.alias.default: lambda tensor: tensor}  # torch makes them, coremltools does not know them
    with silenced(*LOGGERS):
        coremltools = require("coremltools", extra="coreml")
        exported = torch.export.export(program, example).run_decompositions(aliases)
        return coremltools.convert(
            exported,
            convert_to="mlprogram",
            outputs=[coremltools.TensorType(name=output) for output in model.info.outputs],
            minimum_deployment_target=coremltools.target.iOS16,
            compute_precision=coremltools.precision.FLOAT32,  # half precision would lose the log-mel's quiet bands
            skip_model_load=True,
        )


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """As `files.replacing`, for a folder; an older one is put aside whole before the new one takes its name."""
    place = link_target(path)
    partial, older = partial_path(place), partial_path(place.with_name(f"{place.stem}.older{place.suffix}"))
    with write_errors(path, place, partial, older):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with delay_signals():
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
