"""The commands `predict` and `evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import audiorep
from audiorep import config, shipped
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
    from audiorep.predict.batch import Batch
    from audiorep.predict.events import EventConfig
    from audiorep.predict.journal import Journal
    from audiorep.predict.output import Outputs
    from audiorep.predict.results import Detection, Failure, Recording

    Write = Callable[[Recording | Failure, Sequence[Detection]], Sequence[Exception] | None]

MANY_FILES = 500  # from which on a run has a journal without being asked


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
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Keep each result in a journal beside the output, and go on from it; default: from 500 files on.",
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Hear files again that failed in the journal.")] = False,
    as_json: Json = False,
) -> None:
    """Recognize the sounds in files and print labels with times and scores."""
    from audiorep.audio import pipes
    from audiorep.predict.batch import Batch
    from audiorep.predict.output import Outputs

    classifier = audiorep.load(model, threads, runtime, precision, unknown=not no_unknown).with_windows(window, hop)
    if events is not None and view not in ("auto", "events"):
        raise ConfigError("--events goes with --view events alone.")
    told = None if events is None else event_settings(events, threshold, classifier.info)
    files = terminal.sounds_in(paths)
    batch = Batch(classifier, shipped.file_of(model or shipped.DEFAULT), files, channel, view, top, threshold, told, precision)
    place = journal_place(output or [], len(files), resume)
    if retry_failed and place is None:
        raise typer.BadParameter("--retry-failed goes with --resume and --output.")
    with pipes.keep_copies(), Outputs(output or [], format, files, separate_channels=channel == "each") as outputs:
        if place is None:
            failed = _hear(batch, files, outputs.write, as_json)
        else:
            failed = _go_on(batch, place, outputs, as_json, retry_failed, keep=resume is True)
    if failed:
        terminal.say(f"{failed} of {len(files)} files could not be used.")
        raise typer.Exit(SOME_FAILED)


def journal_place(outputs: Sequence[Path], count: int, resume: bool | None) -> Path | None:
    """Where the journal of a run is; None for a run without one, whose old journal is deleted if that is asked for.

    Raises:
        ConfigError: a journal is asked for, and there is no file beside which it could be.
    """
    from audiorep.files import is_stream
    from audiorep.predict.journal import SUFFIX

    beside = next((output for output in outputs if not is_stream(output)), None)
    if beside is None:
        if resume:
            raise ConfigError("--resume needs a file or folder to keep the results in: add --output.")
        return None
    place = beside.with_name(beside.name + SUFFIX)
    if resume is False:
        place.unlink(missing_ok=True)
    return place if resume or (resume is None and (count >= MANY_FILES or place.exists())) else None


def _hear(batch: Batch, files: Sequence[Path], write: Write, as_json: bool) -> int:
    """How many of `files` could not be used; each result is shown and written."""
    several, done, failed = len(batch.files) > 1 or batch.channel == "each", 0, set()
    try:
        with terminal.progress("Listening", terminal.total_seconds(files)) as advance:
            for result, detections in batch.hear(files, advance):
                errors = write(result, detections) or []
                done += 1
                if _has_failed(result, errors):
                    failed.add(result.path)
                terminal.show(result, detections, as_json, several)
    except KeyboardInterrupt as stop:
        stop.add_note(f"Stopped after {done} of {len(files)} files; the results so far are kept.")
        raise
    return len(failed)


def _go_on(batch: Batch, place: Path, outputs: Outputs, as_json: bool, retry_failed: bool, keep: bool) -> int:
    """The same with a journal: files that it knows are not heard again, and the outputs are written from it in the end."""
    from audiorep.predict.journal import Journal

    with Journal(place, batch.run(), batch.classifier.info) as journal:
        states = [journal.state(file) for file in batch.files]
        wanted = ("", "failed") if retry_failed else ("",)
        waiting = [file for file, state in zip(batch.files, states, strict=True) if state in wanted]
        if known := len(states) - len(waiting):
            again = "" if retry_failed or "failed" not in states else f", {states.count('failed')} in vain (--retry-failed)"
            terminal.say(f"{known} of {len(states)} files were heard before{again}.")
        try:
            _hear(batch, waiting, journal.add, as_json)
        except KeyboardInterrupt:
            _write_all(journal, batch, outputs)
            raise
        failed = _write_all(journal, batch, outputs)
    if not failed and not keep:
        journal.remove()
    return failed


def _write_all(journal: Journal, batch: Batch, outputs: Outputs) -> int:
    """Writes all that a journal holds; how many files failed, or could not be written."""
    written = ((result, outputs.write(result, detections)) for result, detections in journal.results(batch.files))
    return len({result.path for result, errors in written if _has_failed(result, errors)})


def _has_failed(result: Recording | Failure, errors: Sequence[Exception]) -> bool:
    """Whether a file failed, or could not be written, which is told."""
    from audiorep.predict.results import Failure

    for error in errors:
        terminal.say(f"Error: {error}")
    return isinstance(result, Failure) or bool(errors)


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
