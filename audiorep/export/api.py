"""`audiorep.export`: a checkpoint as a file that runs elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiorep import runtimes, shipped
from audiorep.errors import ConfigError, require
from audiorep.export import writer
from audiorep.export.parity import Parity
from audiorep.export.sounds import calibration_clips, parity_clips
from audiorep.files import reserve


@dataclass(frozen=True)
class Exported:
    """A model file, and how near it is to its checkpoint."""

    path: Path
    runtime: str
    """That runs it."""
    bytes: int
    """Of all its files."""
    heads: list[str]
    parity: Parity | None
    """None where nothing on this machine runs such files."""
    clips_from: str
    """Where the clips that it was checked on are from, in words."""


def export(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    to: str | None = None,
    precision: str = "fp32",
    clips: Sequence[str | os.PathLike[str]] = (),
    calibration: Sequence[str | os.PathLike[str]] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Writes a checkpoint as a model file, waveform in and scores out, checked against the checkpoint.

    Args:
        model: the checkpoint folder.
        output: the file; the checkpoint's name in the current folder, if not given.
        to: `onnx`, `openvino`, `litert`, `executorch` or `coreml`; by the output's suffix, if not given.
        precision: `fp32`, `int8`, or one that `audiorep.runtimes.RUNTIMES` lists for the runtime.
        clips: sounds to check the scores on; those that the training run lists, if not given.
        calibration: sounds to measure int8's ranges on; the run's training clips, if not given.
        say: is told what was left out.

    Raises:
        BundleError: the file's scores are not the checkpoint's; it is not written.
        CheckpointError: the folder is no checkpoint.
        ConfigError: a runtime, precision or suffix that there is not, or a place that cannot be written to.
        AudioError, DataError: none of the sounds can be used.
        MissingExtraError: the packages that write such files are not installed.

    >>> made = audiorep.export(checkpoint, "mine.onnx")
    >>> made.parity.agreement
    1.0
    >>> audiorep.load(made.path).info.labels["label"]
    ['high', 'low']
    """
    require("torch", extra="train")
    from audiorep.models import checkpoint

    source = shipped.place(model)
    runtime, path = _target(source, None if output is None else Path(output), to)
    if precision not in runtimes.RUNTIMES[runtime].exports:
        allowed = " or ".join(runtimes.RUNTIMES[runtime].exports)
        raise ConfigError(f"{runtime} files are written in {allowed}; {precision} was asked for.")
    if calibration and precision != "int8":
        raise ConfigError(f"Sounds to calibrate on are for int8; {precision} was asked for.")
    reserve(path)
    loaded = checkpoint.load(source)
    waveforms, origin = parity_clips(source, loaded.info, list(map(str, clips)), say)
    more: dict[str, Any] = {} if precision == "fp32" else {"precision": precision}
    if precision == "int8":
        more["calibration"] = calibration_clips(source, loaded.info, list(map(str, calibration)), say)
    parity = writer(runtime)(loaded, path, waveforms, **more)
    size = sum(file.stat().st_size for file in runtimes.files_of(path))
    return Exported(path, runtime, size, list(loaded.info.labels), parity, origin)


def _target(source: Path, output: Path | None, to: str | None) -> tuple[str, Path]:
    """The runtime to export to, and the file."""
    written = {name: row.writes for name, row in runtimes.RUNTIMES.items() if row.writes}
    if to is not None and to not in written:
        raise ConfigError(f"{to!r}: models are exported to {', '.join(written)}.")
    if output is None:
        to = to or "onnx"
        return to, Path(f"{source.resolve().name}{written[to]}")
    fitting = next((name for name, suffix in written.items() if suffix == output.suffix), None)
    if fitting is None or to not in (None, fitting):
        allowed = written[to] if to else ", ".join(written.values())
        raise ConfigError(f"{output}: the name of a model{f' for {to}' if to else ''} ends in {allowed}.")
    return fitting, output
