"""The commands `export`, `fuse` and `doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import Json
from audiorep.errors import ConfigError, torchvision_problem
from audiorep.files import write_json


def export(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: the checkpoint's name, in this folder.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Runtime: onnx, openvino, litert, executorch or coreml; default: by the output's suffix."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32 or int8; for onnx and openvino also fp16, int8_weights, int4_weights, shared8, shared4 (weights only)."
        ),
    ] = "fp32",
    clips: Annotated[
        list[str] | None, typer.Option(help="Sounds to check the scores on; default: clips that the training run lists.")
    ] = None,
    calibration: Annotated[
        list[str] | None, typer.Option(help="Sounds to measure the ranges of int8 on; default: the run's training clips.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model file for another runtime, from waveforms to scores and embeddings, and check it against the checkpoint."""
    with terminal.stop_message("Stopped; nothing was written."):
        made = audiorep.export(
            source,
            output,
            to=to,
            precision=precision,
            clips=clips or (),
            calibration=calibration or (),
            say=terminal.say,
        )
    parity = made.parity
    if as_json:
        checked = vars(parity) if parity is not None else {}
        values = {
            "path": str(made.path),
            "runtime": made.runtime,
            "bytes": made.bytes,
            **checked,
            "clips_from": made.clips_from,
        }
        print(json.dumps(values))
        return
    print(f"{made.path}: {made.bytes / 1e6:.2f} MB, waveform in, {', '.join(made.heads)} and embedding out")
    if parity is None:
        terminal.say(f"Not checked against the checkpoint: nothing on this machine runs {made.path.suffix} files.")
        return
    row = [str(parity.clips), f"{parity.largest:.1e}", f"{parity.mean:.1e}", f"{parity.agreement:.0%}"]
    columns = [made.clips_from, "largest difference", "mean difference", "same label", "embedding difference"]
    terminal.show_table(columns, [[*row, f"{parity.embedding:.1e}"]], right=set(range(len(columns))))


def doctor(as_json: Json = False) -> None:
    """Show which runtimes are installed, the hardware that each uses, and the command that installs the others."""
    from audiorep.benchmark.environment import environment
    from audiorep.runtimes import installed

    rows, about, problem = installed.runtimes(), environment(), torchvision_problem()
    if as_json:
        values = {"environment": about, "runtimes": [vars(row) for row in rows], "problems": [problem] if problem else []}
        print(json.dumps(values, ensure_ascii=False))
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
        typer.Option("--input", help="Shape of an input, for example 1x3x224x224 or 2x16:int64; given once for each input."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights for the network that the factory makes (.safetensors, .pt).")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File for the merged network: .pt2 or .onnx.")] = None,
    report: Annotated[Path | None, typer.Option(help="JSON file for the whole report.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--plan", help="Only show what would be merged, found from the shapes alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Merge the linear branches, norms and constants of any network, check that it computes the same, and report it."""
    from audiorep.hub.api import plan

    if dry_run and output is not None:
        raise ConfigError("--plan writes no network; leave out --output.")
    with terminal.stop_message("Stopped; nothing was written."):
        if dry_run:
            planned = plan(source, *(inputs or []), weights=weights, say=terminal.say)
        else:
            planned = audiorep.fuse(source, *(inputs or []), weights=weights, output=output, say=terminal.say)
    if report is not None:
        write_json(report, planned.to_dict())
    print(json.dumps(planned.to_dict(), ensure_ascii=False) if as_json else planned)
    if output is not None:
        terminal.say(f"Written: {output}")
    if not dry_run and not planned.merges:
        terminal.say("Nothing could be merged.")
