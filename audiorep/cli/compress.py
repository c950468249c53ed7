"""The commands `quantize`, `prune`, `low-rank`, `compress` and `verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import SOME_FAILED, DataRoot, Folds, Format, Json, Threads, ValidFolds, data_set, share
from audiorep.files import reserve, write_json

if TYPE_CHECKING:
    from audiorep.benchmark.api import ModelCost
    from audiorep.compress.api import Smaller

TuneEpochs = Annotated[int, typer.Option("--tune", min=0, help="Epochs of training after the step; 0: none.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="New folder for the result.", show_default=False)]
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.", show_default=False)]


def quantize(
    source: Checkpoint,
    data: DataRoot,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .onnx, or .xml for OpenVINO.", show_default=False)
    ],
    loss: Annotated[
        float,
        typer.Option(
            help="Largest loss of accuracy on the clips that choose the setting, as a share: 0.01 is one point.", callback=share
        ),
    ] = 0.01,
    keep_float: Annotated[
        list[str] | None, typer.Option("--keep-float", help="Layer that stays in float32; may be given several times.")
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(help="CSV file for the effect of each layer on the scores; measured only if this is given or needed."),
    ] = None,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:
    """Make a static int8 model: calibrate it, choose its setting and test it on real clips."""
    with terminal.stop_message("Stopped; nothing was written."):
        done = audiorep.quantize(
            source,
            data_set(data, data_format, test_fold, valid_fold),
            output,
            loss=loss,
            keep_float=keep_float or (),
            sensitivity=sensitivity,
            say=terminal.say,
        )
    if as_json:
        setting = {"setting": asdict(done.setting)} if done.setting else {}
        accuracy = done.comparison.accuracy() if done.comparison else {}
        values = {"path": str(done.path), "chosen_on": done.chosen_on, "speed": done.speed, **setting, **accuracy}
        print(json.dumps(values, ensure_ascii=False))
        return
    if done.comparison:
        terminal.show_comparison(done.comparison)
    slower = "; it is smaller, but not faster" if done.speed < 1 else ""
    print(f"int8 runs at {done.speed:.2f} times the speed of float32 in this runtime on this machine{slower}")


def prune(
    source: Checkpoint,
    data: DataRoot,
    output: Output,
    keep: Annotated[float, typer.Option(help="Share of the cost that remains.")] = 0.5,
    by: Annotated[
        str, typer.Option(help="Cost to reduce: macs, parameters, or latency (in ONNX Runtime on this machine).")
    ] = "macs",
    importance: Annotated[
        str, typer.Option(help="Importance of a channel: magnitude, norm (scale of its batch norm), or taylor.")
    ] = "magnitude",
    scope: Annotated[
        str, typer.Option(help="Where channels are compared: in the whole network (global) or in each stage (stage).")
    ] = "global",
    multiple: Annotated[int, typer.Option(min=1, help="The number of channels of each layer stays a multiple of this.")] = 4,
    tune: TuneEpochs = 0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
) -> None:
    """Remove the least important channels of a checkpoint; with --tune, train it afterwards."""
    values = {"keep": keep, "by": by, "importance": importance, "scope": scope, "multiple": multiple}
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.stop_message(f"Stopped; what is in {output} is not finished."):
        done = audiorep.prune(source, place, output, tune=tune, say=terminal.say, **values)
    _show_smaller(done)


def low_rank(
    source: Checkpoint,
    data: DataRoot,
    output: Output,
    keep: Annotated[float, typer.Option(help="Share of the cost that remains; 0: --energy decides.")] = 0.0,
    by: Annotated[
        str, typer.Option(help="Cost to reduce: parameters, macs, or latency (in ONNX Runtime on this machine).")
    ] = "parameters",
    energy: Annotated[float, typer.Option(help="Share of each layer's squared response that is kept.")] = 0.99,
    tune: TuneEpochs = 0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
) -> None:
    """Replace each pointwise layer of a checkpoint by two thinner ones; with --tune, train it afterwards."""
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.stop_message(f"Stopped; what is in {output} is not finished."):
        done = audiorep.low_rank(source, place, output, tune=tune, say=terminal.say, keep=keep, by=by, energy=energy)
    _show_smaller(done)


def compress(
    source: Checkpoint,
    data: DataRoot,
    recipe: Annotated[Path, typer.Option(help="TOML file with the steps.", show_default=False)],
    output: Output,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    threads: Threads = None,
) -> None:
    """Run a chain of compression steps; the same command resumes it. Exit status 1 if a step loses too much accuracy."""
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.stop_message(f"Stopped. The same command continues from the last complete step in {output}."):
        done = audiorep.compress(source, place, recipe, output, threads=threads, say=terminal.say)
    from audiorep.compress import report

    terminal.show_table(report.HEADER, [report.cells(row) for row in done.rows], right=set(range(1, len(report.HEADER))))
    terminal.say(f"Kept: {output / done.best.path}\nReport: {output / report.REPORT}.md, .json and .png")
    if refused := [row for row in done.rows if row.refused]:
        terminal.say(f"{refused[0].name} was refused: {refused[0].refused}.")
        raise typer.Exit(SOME_FAILED)


def _show_smaller(done: Smaller) -> None:
    """Prints the change of the network's cost and of its accuracy."""
    costs = {"parameters": done.parameters, "MACs": done.macs}
    print(", ".join(f"{name} {before:,} to {after:,} ({after / before:.0%})" for name, (before, after) in costs.items()))
    if done.comparison:
        terminal.show_comparison(done.comparison)
    terminal.say(f"Checkpoint: {done.path}")


def verify(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="Checkpoint folder or model file: the original.", show_default=False)
    ],
    second: Annotated[
        Path,
        typer.Argument(metavar="B", help="Checkpoint folder or model file to compare with the original.", show_default=False),
    ],
    data: Annotated[Path, typer.Option(help="Labelled clips, as for evaluate.", show_default=False)],
    split: Annotated[str, typer.Option(help="Clips to use: train, valid, test, or all.")] = "test",
    loss: Annotated[
        float, typer.Option(help="Largest loss of accuracy of B, as a share: 0.01 is one point.", callback=share)
    ] = 0.01,
    agreement: Annotated[
        float, typer.Option(help="Smallest share of clips on which both give the same label.", callback=share)
    ] = 0.0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of timing; in each round both models run on a window.")] = 10,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file for all results.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two models on the same labelled clips; exit status 1 if the second is worse than allowed."""
    if output is not None:
        reserve(output, first, second)
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.progress("Comparing", None) as advance:
        comparison = audiorep.compare(
            first,
            second,
            place,
            split,
            loss=loss,
            agreement=agreement,
            rounds=rounds,
            say=terminal.say,
            on_progress=advance,
        )
    if output is not None:
        write_json(output, comparison.summary())
    if as_json:
        print(json.dumps(comparison.summary(), ensure_ascii=False))
    else:
        terminal.show_comparison(comparison)
        terminal.show_table(
            ["model", "kB", "runtime", "ms", "peak MB", "speed"], list(map(_cells, comparison.costs)), right={1, 3, 4, 5}
        )
    if comparison.refusal is not None:
        terminal.say(f"{second} does not pass for {first}: {comparison.refusal}.")
        raise typer.Exit(SOME_FAILED)


def _cells(cost: ModelCost) -> list[str]:
    times = [f"{cost.median_ms:.2f}", f"{cost.peak_memory_mb:.0f}", f"{cost.speed:.2f}"]
    return [cost.name, f"{cost.bytes / 1e3:,.0f}", cost.runtime, *(["-", "-", cost.not_timed] if cost.not_timed else times)]
