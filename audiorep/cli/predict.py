"""Sounds to labels, and how often the labels are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import (
    SOME_FAILED,
    Channel,
    DataRoot,
    Folds,
    Format,
    Json,
    Model,
    Precision,
    RuntimeName,
    Threads,
    ValidFolds,
    View,
    data_set,
    share,
)
from audiorep.files import reserve, write_json


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Sound files, folders (searched recursively), patterns, and - for standard input.", show_default=False
        ),
    ],
    model: Model = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="File (.csv, .jsonl), or folder for --format audacity or raven; may be given again."
        ),
    ] = None,
    format: Annotated[str | None, typer.Option(help="csv, jsonl, audacity or raven; default: the output's suffix.")] = None,
    view: Annotated[
        View, typer.Option(help="One answer a file, each window, or windows merged; auto: file up to 30 s, then merged.")
    ] = "auto",
    top: Annotated[int, typer.Option(min=1, help="Labels for each file or window.")] = 1,
    threshold: Annotated[
        float | None, typer.Option(callback=share, help="Report scores from here; default: the model's.")
    ] = None,
    window: Annotated[float | None, typer.Option(help="Seconds heard at once; default: the model's.")] = None,
    hop: Annotated[float | None, typer.Option(help="Seconds between windows; default: the model's.")] = None,
    channel: Channel = "mean",
    threads: Threads = None,
    runtime: RuntimeName = None,
    precision: Precision = "fp32",
    as_json: Json = False,
) -> None:
    """Recognize the sounds in files: labels with times and scores."""
    from audiorep.audio import decode, pipes, sources
    from audiorep.escape import visible
    from audiorep.predict.output import Outputs
    from audiorep.predict.results import Failure

    classifier = audiorep.load(model, threads, runtime, precision).with_windows(window, hop)
    passed_over: list[Path] = []
    files = list(sources.find(paths, passed_over.append))
    if passed_over:
        terminal.say(visible(sources.describe_passed_over(passed_over)))
    done = failed = 0
    try:
        with (
            pipes.keep_copies(),
            Outputs(output or [], format, files, separate_channels=channel == "each") as outputs,
            terminal.progress("Listening", terminal.total_seconds(files)) as advance,
        ):
            for result in classifier.files(decode.channel_stretches(files, channel), advance):
                found = [] if isinstance(result, Failure) else result.view(view, top, threshold)
                lost = outputs.write(result, found)
                done += 1
                failed += isinstance(result, Failure) or bool(lost)
                for error in lost:
                    terminal.say(f"Error: {error}")
                terminal.show(result, found, as_json, several=len(files) > 1 or channel == "each")
    except KeyboardInterrupt as stop:
        stop.add_note(f"Stopped after {done} of {len(files)} files; what was written is complete for these.")
        raise
    if failed:
        terminal.say(f"{failed} of {f'{done} channels' if channel == 'each' else f'{len(files)} files'} could not be used.")
        raise typer.Exit(SOME_FAILED)


def evaluate(
    model: Annotated[
        Path, typer.Argument(help="Bundle (.onnx), other exported file or checkpoint folder.", show_default=False)
    ],
    data: DataRoot,
    split: Annotated[str, typer.Option(help="train, valid, test, or all.")] = "test",
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file for all numbers.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG file for the confusion matrix.")] = None,
    data_format: Format = None,
    views: Annotated[
        int | None, typer.Option(min=0, help="Windows spread over each clip; 0: all, one hop apart; default: the model's.")
    ] = None,
    threads: Threads = None,
    runtime: RuntimeName = None,
    precision: Precision = "fp32",
    as_json: Json = False,
) -> None:
    """Measure a model on labelled clips, through the same path as predict."""
    for made in (output, picture):
        if made is not None:
            reserve(made, model)
    classifier = audiorep.load(model, threads, runtime, precision)
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.progress("Evaluating", None) as advance:
        evaluation = audiorep.evaluate(classifier, place, split, views=views, say=terminal.say, on_progress=advance)
    if output is not None:
        write_json(output, evaluation.summary())
    if picture is not None:
        evaluation.draw(picture)
    if as_json:
        print(json.dumps(evaluation.summary(), ensure_ascii=False))
    else:
        terminal.show_evaluation(evaluation, every_class=True)
    for failure in evaluation.failures:
        terminal.say(f"Error: {failure.error}")
    if evaluation.failures:
        raise typer.Exit(SOME_FAILED)
