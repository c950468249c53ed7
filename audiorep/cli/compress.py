"""Smaller models with proof: quantize, verify, and whole chains of compression."""

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

Tuned = Annotated[int, typer.Option("--tune", min=0, help="Epochs of training afterwards.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the result, a new one.", show_default=False)]
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.", show_default=False)]


def quantize(
    source: Checkpoint,
    data: DataRoot,
    output: Annotated[Path, typer.Option("--output", "-o", help="File: .onnx, or .xml for OpenVINO.", show_default=False)],
    loss: Annotated[
        float, typer.Option(help="Share of clips that int8 may lose on the clips it is chosen by.", callback=share)
    ] = 0.01,
    keep_float: Annotated[
        list[str] | None, typer.Option("--keep-float", help="Layer to leave in float32; may be given again.")
    ] = None,
    sensitivity: Annotated[
        Path | None, typer.Option(help="CSV file for what each layer costs; measured only if asked for or needed.")
    ] = None,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:
    """Make a static int8 model, calibrated, chosen and tested on real clips."""
    with terminal.stopping("Stopped; nothing was written."):
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
        judged = done.comparison.accuracy() if done.comparison else {}
        shown = {"path": str(done.path), "chosen_on": done.chosen_on, "speed": done.speed, **setting, **judged}
        print(json.dumps(shown, ensure_ascii=False))
        return
    if done.comparison:
        terminal.show_comparison(done.comparison)
    slower = "; its gain is its size" if done.speed < 1 else ""
    print(f"int8 has {done.speed:.2f} times float32's speed in this runtime, here{slower}")


def prune(
    source: Checkpoint,
    data: DataRoot,
    output: Output,
    keep: Annotated[float, typer.Option(help="Share of the cost that is left.")] = 0.5,
    by: Annotated[str, typer.Option(help="The cost: macs, parameters, or latency in ONNX Runtime here.")] = "macs",
    importance: Annotated[str, typer.Option(help="magnitude, norm (scale of the batch norm), or taylor.")] = "magnitude",
    scope: Annotated[
        str, typer.Option(help="Channels compete over the whole network (global) or each stage (stage).")
    ] = "global",
    multiple: Annotated[int, typer.Option(min=1, help="Channels of a layer remain a multiple of it.")] = 4,
    tune: Tuned = 0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
) -> None:
    """Make a checkpoint with fewer channels, and train it on if asked for."""
    values = {"keep": keep, "by": by, "importance": importance, "scope": scope, "multiple": multiple}
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.stopping(f"Stopped; what is in {output} is not finished."):
        done = audiorep.prune(source, place, output, tune=tune, say=terminal.say, **values)
    _show_smaller(done)


def low_rank(
    source: Checkpoint,
    data: DataRoot,
    output: Output,
    keep: Annotated[float, typer.Option(help="Share of the cost that is left; 0: by --energy.")] = 0.0,
    by: Annotated[str, typer.Option(help="The cost: parameters, macs, or latency in ONNX Runtime here.")] = "parameters",
    energy: Annotated[float, typer.Option(help="Of each layer's response that is kept.")] = 0.99,
    tune: Tuned = 0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
) -> None:
    """Make a checkpoint whose pointwise layers are products of thinner ones, and train it on if asked for."""
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.stopping(f"Stopped; what is in {output} is not finished."):
        done = audiorep.low_rank(source, place, output, tune=tune, say=terminal.say, keep=keep, by=by, energy=energy)
    _show_smaller(done)


def compress(
    source: Checkpoint,
    data: DataRoot,
    recipe: Annotated[Path, typer.Option(help="TOML file of the steps.", show_default=False)],
    output: Output,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    threads: Threads = None,
) -> None:
    """Run a chain of compressions; the same command goes on where it stopped. Exit status 1 if a step lost too much."""
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.stopping(f"Stopped. The same command goes on from the last whole step in {output}."):
        done = audiorep.compress(source, place, recipe, output, threads=threads, say=terminal.say)
    from audiorep.compress import chain

    terminal.show_table(chain.HEADER, [chain.cells(row) for row in done.rows], right=set(range(1, len(chain.HEADER))))
    terminal.say(f"Kept: {output / done.best.path}\nReport: {output / chain.REPORT}.md, .json and .png")
    if refused := [row for row in done.rows if row.refused]:
        terminal.say(f"{refused[0].name} was refused: {refused[0].refused}.")
        raise typer.Exit(SOME_FAILED)


def _show_smaller(done: Smaller) -> None:
    """What a step did to the network's cost and its accuracy."""
    costs = {"parameters": done.parameters, "MACs": done.macs}
    print(", ".join(f"{name} {before:,} to {after:,} ({after / before:.0%})" for name, (before, after) in costs.items()))
    if done.comparison:
        terminal.show_comparison(done.comparison)
    terminal.say(f"Checkpoint: {done.path}")


def verify(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="Checkpoint folder or model file: the original.", show_default=False)
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one, which should do as well.", show_default=False)],
    data: Annotated[Path, typer.Option(help="Labelled clips: as for evaluate.", show_default=False)],
    split: Annotated[str, typer.Option(help="train, valid, test, or all.")] = "test",
    loss: Annotated[float, typer.Option(help="Accuracy that B may lose, as a share: 0.01 is a point.", callback=share)] = 0.01,
    agreement: Annotated[
        float, typer.Option(help="Share of clips on which both must give the same label.", callback=share)
    ] = 0.0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of timing a window, in which both take turns.")] = 10,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file for all numbers.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two models on the same labelled clips; exit status 1 if the second is worse than allowed."""
    if output is not None:
        reserve(output, first, second)
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.progress("Comparing", None) as advance:
        found = audiorep.compare(
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
        write_json(output, found.summary())
    if as_json:
        print(json.dumps(found.summary(), ensure_ascii=False))
    else:
        terminal.show_comparison(found)
        terminal.show_table(
            ["model", "kB", "runtime", "ms", "peak MB", "speed"], list(map(_cells, found.costs)), right={1, 3, 4, 5}
        )
    if found.refusal is not None:
        terminal.say(f"{second} does not pass for {first}: {found.refusal}.")
        raise typer.Exit(SOME_FAILED)


def _cells(cost: ModelCost) -> list[str]:
    times = [f"{cost.median_ms:.2f}", f"{cost.peak_memory_mb:.0f}", f"{cost.speed:.2f}"]
    return [cost.name, f"{cost.bytes / 1e3:,.0f}", cost.runtime, *(["-", "-", cost.not_timed] if cost.not_timed else times)]
