"""A checkpoint to a file that runs, any network merged, and what this machine can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from audiorep.cli import terminal
from audiorep.cli.options import Json
from audiorep.errors import ConfigError, misfit, require


def export(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; default: the checkpoint's name, here.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="onnx, openvino, litert, executorch or coreml; default: by the output's suffix.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, int8, or for onnx and openvino weights as fp16, int8_weights, int4_weights, shared8, shared4."
        ),
    ] = "fp32",
    clips: Annotated[
        list[str] | None, typer.Option(help="Sounds to check the scores on; default: clips the training run lists.")
    ] = None,
    calibration: Annotated[
        list[str] | None, typer.Option(help="Sounds to measure int8's ranges on; default: the run's training clips.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model that runs elsewhere: waveform in, scores out, checked against the checkpoint."""
    require("torch", extra="train")
    from audiorep import runtimes
    from audiorep.export import writer
    from audiorep.export.sounds import calibration_clips, parity_clips
    from audiorep.files import reserve
    from audiorep.models import checkpoint

    runtime, path = _target(source, output, to)
    if precision not in runtimes.RUNTIMES[runtime].exports:
        allowed = " or ".join(runtimes.RUNTIMES[runtime].exports)
        raise ConfigError(f"{runtime} files are written in {allowed}; {precision} was asked for.")
    if calibration and precision != "int8":
        raise ConfigError(f"--calibration is for int8; {precision} was asked for.")
    reserve(path)
    loaded = checkpoint.load(source)
    waveforms, origin = parity_clips(source, loaded.info, clips, terminal.say)
    more: dict[str, Any] = {} if precision == "fp32" else {"precision": precision}
    if precision == "int8":
        more["calibration"] = calibration_clips(source, loaded.info, calibration, terminal.say)
    try:
        parity = writer(runtime)(loaded, path, waveforms, **more)
    except KeyboardInterrupt as stop:
        stop.add_note("Stopped; nothing was written.")
        raise
    size = sum(file.stat().st_size for file in runtimes.files_of(path))
    if as_json:
        shown = vars(parity) if parity is not None else {}
        print(json.dumps({"path": str(path), "runtime": runtime, "bytes": size, **shown, "clips_from": origin}))
        return
    print(f"{path}: {size / 1e6:.2f} MB, waveform in, {', '.join(loaded.info.labels)} out")
    if parity is None:
        terminal.say(f"Not checked against the checkpoint: nothing on this machine runs {path.suffix} files.")
        return
    row = [str(parity.clips), f"{parity.largest:.1e}", f"{parity.mean:.1e}", f"{parity.agreement:.0%}"]
    terminal.show_table([origin, "largest difference", "mean difference", "same label"], [row], right={0, 1, 2, 3})


def _target(source: Path, output: Path | None, to: str | None) -> tuple[str, Path]:
    """The runtime to export to, and the file."""
    from audiorep.runtimes import RUNTIMES

    written = {name: row.writes for name, row in RUNTIMES.items() if row.writes}
    if to is not None and to not in written:
        raise ConfigError(f"--to {to!r}: models are exported to {', '.join(written)}.")
    if output is None:
        to = to or "onnx"
        return to, Path(f"{source.resolve().name}{written[to]}")
    fitting = next((name for name, suffix in written.items() if suffix == output.suffix), None)
    if fitting is None or to not in (None, fitting):
        allowed = written[to] if to else ", ".join(written.values())
        raise ConfigError(f"{output}: the name of a model{f' for {to}' if to else ''} ends in {allowed}.")
    return fitting, output


def doctor(as_json: Json = False) -> None:
    """Say which runtimes are installed, what hardware each would use, and what to type for the rest."""
    from audiorep.benchmark.environment import environment
    from audiorep.runtimes import installed

    rows, about, problem = installed.runtimes(), environment(), misfit()
    if as_json:
        told = {"environment": about, "runtimes": [vars(row) for row in rows], "problems": [problem] if problem else []}
        print(json.dumps(told, ensure_ascii=False))
        return
    instructions = f" ({', '.join(about['instructions'])})" if about["instructions"] else ""
    print(f"{about['processor']}, {about['cores']} cores{instructions}; Python {about['python']}, audiorep {about['audiorep']}")
    print()
    cells = [[row.name, row.version or "-", row.hardware or f"missing: {row.install}", row.precisions] for row in rows]
    terminal.show_table(["runtime", "version", "runs on", "precisions"], cells, right=set())
    if problem:
        terminal.say(f"Training and evaluation cannot start: {problem}.")


def fuse(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Checkpoint folder, or package.module:factory.", show_default=False)
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="Shape of an input, for example 1x3x224x224 or 2x16:int64; again for more."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights for what the factory makes (.safetensors, .pt).")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File for the merged network: .pt2 or .onnx.")] = None,
    report: Annotated[Path | None, typer.Option(help="JSON file for the whole report.")] = None,
    dry_run: Annotated[bool, typer.Option("--plan", help="Only say what would be merged, from shapes alone.")] = False,
    as_json: Json = False,
) -> None:
    """Merge any network's linear branches, norms and constants, prove that it computes the same, and say what was done."""
    require("torch", extra="train")
    from audiorep import reparam
    from audiorep.files import write_json
    from audiorep.hub import networks

    if output is not None:
        networks.check_suffix(output)
        if dry_run:
            raise ConfigError("--plan makes no network; leave out --output.")
    try:
        network, given = networks.source_of(source, inputs or [], weights, terminal.say)
        result = reparam.plan(network, *given) if dry_run else reparam.fuse(network, *given)
    except KeyboardInterrupt as stop:
        stop.add_note("Stopped; nothing was written.")
        raise
    if report is not None:
        write_json(report, result.to_dict())
    print(json.dumps(result.to_dict(), ensure_ascii=False) if as_json else result)
    if isinstance(result, reparam.FuseResult):
        if output is not None:
            networks.save(result.model, given, output)
            terminal.say(f"Written: {output}")
        if not result.merges:
            terminal.say("Nothing could be merged.")
