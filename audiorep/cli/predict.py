"""The commands `predict` and `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import audiorep
from audiorep import config
from audiorep.cli import terminal
from audiorep.cli.options import (
    SOME_FAILED,
    Channel,
    DataRoot,
    Folds,
    Format,
    Hop,
    Json,
    Model,
    NoUnknown,
    Precision,
    RuntimeName,
    Threads,
    ValidFolds,
    View,
    data_set,
    share,
)
from audiorep.errors import ConfigError
from audiorep.files import reserve, write_json

if TYPE_CHECKING:
    from audiorep.info.model_info import ModelInfo
    from audiorep.predict.events import EventConfig


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Sound files, folders (searched recursively), patterns, or - for standard input.", show_default=False
        ),
    ],
    model: Model = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="File (.csv, .jsonl), or folder for --format audacity or raven; may be given several times."
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Format of the output: csv, jsonl, audacity or raven; default: by its suffix.")
    ] = None,
    view: Annotated[
        View,
        typer.Option(
            help="Labels of the file, of each window, of merged windows, or of events, each with its beginning and end; "
            "auto: file up to 30 s, else events, or merged with --top."
        ),
    ] = "auto",
    events: Annotated[
        Path | None, typer.Option(help="TOML file that says when windows become an event; it asks for --view events.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, help="Largest number of labels for each file or window; default: 1, or 3 if sounds may have several."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(callback=share, help="Lowest score that is reported; default: the model's.")
    ] = None,
    window: Annotated[float | None, typer.Option(help="Length of a window in seconds; default: the model's.")] = None,
    hop: Hop = None,
    channel: Channel = "mean",
    threads: Threads = None,
    runtime: RuntimeName = None,
    precision: Precision = "fp32",
    no_unknown: NoUnknown = False,
    as_json: Json = False,
) -> None:
    """Recognize the sounds in files and print labels with times and scores."""
    from audiorep.audio import decode, pipes
    from audiorep.predict.output import Outputs
    from audiorep.predict.results import Failure

    classifier = audiorep.load(model, threads, runtime, precision, unknown=not no_unknown).with_windows(window, hop)
    if events is not None and view not in ("auto", "events"):
        raise ConfigError("--events goes with --view events alone.")
    told = None if events is None else event_settings(events, threshold, classifier.info)
    files = terminal.sounds_in(paths)
    done = failed = 0
    try:
        with (
            pipes.keep_copies(),
            Outputs(output or [], format, files, separate_channels=channel == "each") as outputs,
            terminal.progress("Listening", terminal.total_seconds(files)) as advance,
        ):
            for result in classifier.files(decode.channel_stretches(files, channel), advance):
                if isinstance(result, Failure):
                    detections = []
                else:
                    detections = result.view(view, top, threshold) if told is None else result.events(told)
                errors = outputs.write(result, detections)
                done += 1
                failed += isinstance(result, Failure) or bool(errors)
                for error in errors:
                    terminal.say(f"Error: {error}")
                terminal.show(result, detections, as_json, several=len(files) > 1 or channel == "each")
    except KeyboardInterrupt as stop:
        stop.add_note(f"Stopped after {done} of {len(files)} files; the results so far are kept.")
        raise
    if failed:
        terminal.say(f"{failed} of {f'{done} channels' if channel == 'each' else f'{len(files)} files'} could not be used.")
        raise typer.Exit(SOME_FAILED)


def event_settings(file: Path | None, threshold: float | None, info: ModelInfo) -> EventConfig:
    """The settings of events in a file, or those by the threshold alone.

    Raises:
        ConfigError: they are not allowed, name labels that the model does not have, or do not go with the other options.
    """
    from audiorep.predict.events import EventConfig, trackers

    if file is None:
        return EventConfig(on=threshold or 0.0)
    if threshold is not None:
        raise ConfigError("--events says itself from which score a window counts (on); leave --threshold out.")
    settings = EventConfig.from_dict(config.read_toml(file))
    trackers(info, settings)
    return settings


def evaluate(
    model: Annotated[
        Path, typer.Argument(help="Deployed model (.onnx or another exported file) or checkpoint folder.", show_default=False)
    ],
    data: DataRoot,
    split: Annotated[str, typer.Option(help="Clips to use: train, valid, test, or all.")] = "test",
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file for all results.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG file for the confusion matrix.")] = None,
    reliability: Annotated[Path | None, typer.Option(help="PNG file for the reliability diagram.")] = None,
    data_format: Format = None,
    views: Annotated[
        int | None,
        typer.Option(min=0, help="Number of windows spread over each clip; 0: all, one hop apart; default: the model's."),
    ] = None,
    unknown: Annotated[
        list[Path] | None,
        typer.Option(help="File or folder of sounds of none of the model's classes: how many does it tell from these?"),
    ] = None,
    threads: Threads = None,
    runtime: RuntimeName = None,
    precision: Precision = "fp32",
    no_unknown: NoUnknown = False,
    as_json: Json = False,
) -> None:
    """Measure the accuracy of a model on labelled clips, with the same code as predict."""
    for file in (output, picture, reliability):
        if file is not None:
            reserve(file, model)
    classifier = audiorep.load(model, threads, runtime, precision, unknown=not no_unknown)
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.progress("Evaluating", None) as advance:
        evaluation = audiorep.evaluate(
            classifier, place, split, views=views, unknown=unknown or (), say=terminal.say, on_progress=advance
        )
    if output is not None:
        write_json(output, evaluation.summary())
    if picture is not None:
        evaluation.draw(picture)
    if reliability is not None:
        evaluation.draw_reliability(reliability)
    if as_json:
        print(json.dumps(evaluation.summary(), ensure_ascii=False))
    else:
        terminal.show_evaluation(evaluation, every_class=True)
    for failure in evaluation.failures:
        terminal.say(f"Error: {failure.error}")
    if evaluation.failures:
        raise typer.Exit(SOME_FAILED)
