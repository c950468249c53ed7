"""The command line: parse, one library call, print."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import audiorep
from audiorep import screen
from audiorep.errors import AudiorepError, ConfigError, DataError, require

if TYPE_CHECKING:
    from audiorep.datasets import Splits
    from audiorep.predict import Classifier
    from audiorep.recipe import TrainConfig

DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    help="Recognise sounds fast on small machines.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True, rich_markup_mode=None)
models_app = typer.Typer(help="Look at networks and models.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")

Model = Annotated[
    Path | None, typer.Option("--model", "-m", help="Bundle (.onnx) or checkpoint folder; default: the one inside the package.")
]

View = Literal["auto", "file", "windows", "merged"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; default: all.")]
DataRoot = Annotated[
    Path, typer.Argument(help="Folder of classes, CSV manifest, shards, or a data set in its own layout.", show_default=False)
]
Format = Annotated[
    str | None,
    typer.Option("--data-format", help="Layout of the data, for example folder, csv or vggsound; default: recognised."),
]
Folds = Annotated[list[int] | None, typer.Option("--test-fold", help="Fold to test on; may be given again.")]
ValidFolds = Annotated[list[int] | None, typer.Option("--valid-fold", help="Fold to validate on; may be given again.")]


def main() -> None:
    """Runs the command line; what is refused becomes one sentence and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        app(prog_name="audiorep")
    except AudiorepError as error:
        screen.say(f"Error: {error}")
        sys.exit(WRONG_USAGE)
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(SOME_FAILED)
    except OSError as error:
        screen.say(f"Error: {error.filename or 'a file'} cannot be used: {error.strerror or error}.")
        sys.exit(WRONG_USAGE)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(audiorep.__version__)
        raise typer.Exit(DONE)


@app.command()
def predict(
    paths: Annotated[
        list[str], typer.Argument(help="Sound files, folders (searched recursively) and patterns.", show_default=False)
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
        float | None, typer.Option(min=0.0, max=1.0, help="Report scores from here; default: the model's.")
    ] = None,
    window: Annotated[float | None, typer.Option(help="Seconds heard at once; default: the model's.")] = None,
    hop: Annotated[float | None, typer.Option(help="Seconds between windows; default: the model's.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Recognise the sounds in files: labels with times and scores."""
    from audiorep import audio
    from audiorep.output import Outputs
    from audiorep.predict import Classifier, Failure

    classifier = Classifier.load(model, threads).with_windows(window, hop)
    files = list(audio.find(paths))
    done = failed = 0
    try:
        with (
            Outputs(output or [], format, files) as outputs,
            screen.progress("Listening", screen.total_seconds(files)) as advance,
        ):
            for result in classifier.files(files, advance):
                found = [] if isinstance(result, Failure) else screen.chosen(result, view, top, threshold)
                outputs.write(result, found)
                done += 1
                failed += isinstance(result, Failure)
                screen.show(result, found, as_json, several=len(files) > 1)
    except KeyboardInterrupt:
        screen.say(f"Stopped after {done} of {len(files)} files; what was written is complete for these.")
        raise typer.Exit(INTERRUPTED) from None
    if failed:
        screen.say(f"{failed} of {len(files)} files could not be used.")
        raise typer.Exit(SOME_FAILED)


@app.command()
def train(
    data: DataRoot,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the checkpoint; a stopped run there goes on.", show_default=False)
    ],
    recipe: Annotated[
        list[Path] | None, typer.Option(help="TOML file of settings that differ from the defaults; of several the last wins.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, for example optimizer.learning_rate=0.001.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Checkpoint folder to fine-tune, of the same network.")] = None,
    every_fold: Annotated[bool, typer.Option("--every-fold", help="Train once for each official fold, tested on it.")] = False,
    data_format: Format = None,
) -> None:
    """Train a network on labelled clips; the same command resumes a run that was stopped."""
    require("lightning", extra="train")
    from audiorep import config as configuration
    from audiorep import datasets, workflow
    from audiorep.recipe import configure

    values: dict[str, Any] = {} if start is None else {"start": str(start)}
    for path in recipe or []:
        values = configuration.merged(values, configuration.read_toml(path))
    values = configuration.override(values, settings or [])
    config = configure(values, where=", ".join(map(str, recipe or [])) or "settings")
    if every_fold:
        _train_every_fold(config, data, output, data_format)
        return
    examples = datasets.examples(data, format=data_format, splits=config.splits)
    classes = datasets.labels(data, data_format, config.splits)
    for line in [workflow.describe(examples), *workflow.warnings(examples, config)]:
        screen.say(line)
    _quieten_lightning()
    try:
        evaluations = workflow.train(config, examples, data, output, sys.stderr.isatty(), screen.say, classes)
    except KeyboardInterrupt:
        screen.say(f"Stopped. The same command goes on from the last whole epoch in {output}.")
        raise typer.Exit(INTERRUPTED) from None
    for evaluation in evaluations:
        screen.show_evaluation(evaluation)
    screen.say(f"Checkpoint, model card and pictures: {output}\nNext: audiorep export {output} -o model.onnx")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Bundle (.onnx) or checkpoint folder.", show_default=False)],
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
    as_json: Json = False,
) -> None:
    """Measure a model on labelled clips, through the same path as predict."""
    require("torchmetrics", extra="train")
    from audiorep import datasets, report
    from audiorep.evaluate import describe_split
    from audiorep.evaluate import evaluate as run
    from audiorep.files import write_json
    from audiorep.predict import Classifier

    classifier = Classifier.load(model, threads)
    splits = datasets.Splits() if split == "all" else _splits_of(classifier, test_fold, valid_fold)
    try:
        everything = datasets.examples(data, None, data_format, splits)
        examples = [e for e in everything if split in ("all", e.split)]
    except DataError as error:
        raise DataError(f"{error} Clips that this model was never trained on are measured whole with --split all.") from None
    if not examples:
        raise DataError(f"{data} has no clips in split {split!r}; it has {', '.join(sorted({e.split for e in everything}))}.")
    trained = [] if split in ("all", "train") else [e for e in everything if e.split == "train"]
    with screen.progress("Evaluating", None) as advance:
        evaluation = run(classifier, examples, describe_split(data, split, examples), trained, advance, views)
    if output is not None:
        write_json(output, evaluation.summary())
    if picture is not None:
        head, card = next(iter(evaluation.heads.items()))
        report.confusion(card, classifier.info.labels[head], evaluation.title, picture)
    if as_json:
        print(json.dumps(evaluation.summary(), ensure_ascii=False))
    else:
        screen.show_evaluation(evaluation, every_class=True)
    for failure in evaluation.failures:
        screen.say(f"Error: {failure.error}")
    if evaluation.failures:
        raise typer.Exit(SOME_FAILED)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write (.onnx).", show_default=False)],
    clips: Annotated[
        list[str] | None, typer.Option(help="Sounds to check the scores on; default: clips the training run lists.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the one-file model: waveform in, scores out, checked against the checkpoint."""
    require("torch", extra="train")
    from audiorep import checkpoint
    from audiorep.parity import parity_clips
    from audiorep.runtimes import onnx

    if output.suffix != ".onnx":
        raise ConfigError(f"{output}: a bundle's name ends in .onnx.")
    loaded = checkpoint.load(source)
    waveforms, origin = parity_clips(source, loaded.info, clips, screen.say)
    parity = onnx.export(loaded, output, waveforms)
    if as_json:
        print(json.dumps({"path": str(output), "bytes": output.stat().st_size, **vars(parity), "clips_from": origin}))
        return
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB, waveform in, {', '.join(loaded.info.labels)} out")
    print(
        f"Same scores as the checkpoint on {parity.clips} {origin}: largest difference {parity.largest:.1e}, "
        f"mean {parity.mean:.1e}, same label on {parity.agreement:.0%}"
    )


@app.command()
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
    from audiorep import external, reparam
    from audiorep.files import write_json

    if output is not None:
        external.check_suffix(output)
        if dry_run:
            raise ConfigError("--plan makes no network; leave out --output.")
    try:
        network, given = external.source_of(source, inputs or [], weights)
        result = reparam.plan(network, *given) if dry_run else reparam.fuse(network, *given)
    except KeyboardInterrupt:
        screen.say("Stopped; nothing was written.")
        raise typer.Exit(INTERRUPTED) from None
    if report is not None:
        write_json(report, result.to_dict())
    print(json.dumps(result.to_dict(), ensure_ascii=False) if as_json else result)
    if isinstance(result, reparam.FuseResult):
        if output is not None:
            external.save(result.model, given, output)
            screen.say(f"Written: {output}")
        if not result.merges:
            screen.say("Nothing could be merged.")


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="AUTHORS", help="Checkpoint of the paper's authors (.pyth).", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the checkpoint, a new one.", show_default=False)],
    data_set: Annotated[
        str | None,
        typer.Option(
            "--data-set",
            help="vggsound, epic_kitchens, epic_sounds, speech_commands, urbansound8k or nsynth; "
            "default: the one with as many classes.",
        ),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Class names, one a line or with columns id,key; again for nouns; default: the official order."),
    ] = None,
) -> None:
    """Make a checkpoint folder of one that the paper's authors' code wrote, to evaluate, export or fine-tune."""
    require("torch", extra="train")
    from audiorep import authors

    found, info = authors.convert(source, output, data_set, labels or [])
    about = info.provenance
    heads = ", ".join(f"{head} {classes}" for head, classes in found.heads.items())
    print(f"{found.form.capitalize()} form, {found.parameters:,} parameters, classes: {heads}")
    print(
        f"Data set: {about['data_set']}" + ("" if data_set else ", which has as many classes; if it is another, say --data-set")
    )
    print("The file counts no epochs" if found.epoch is None else f"Epoch {found.epoch} by the file's own count")
    print(f"The class order is taken to be {about['class_order']}; the file does not say")
    screen.say(f"Checkpoint: {output}\nNext: audiorep export {output} -o model.onnx")


@data_app.command("check")
def data_check(
    data: DataRoot,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Every problem as .csv or .json.")] = None,
    shortest: Annotated[float, typer.Option(min=0.0, help="Clips below these seconds are too short.")] = 0.1,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:
    """Find what is wrong with a data set: unreadable, silent, clipped, duplicate, leaking … Exit status 1 if anything is."""
    from audiorep import datasets
    from audiorep.datasets import shards
    from audiorep.datasets.check import check, damaged_shards, write

    if output is not None and output.suffix not in (".csv", ".json"):
        raise ConfigError(f"{output}: problems are written as .csv or .json.")
    splits = datasets.Splits(valid_folds=tuple(valid_fold or ()), test_folds=tuple(test_fold or ()))
    damaged = damaged_shards(data) if data_format in (None, "shards") and shards.is_at(data) else []
    try:
        examples = datasets.examples(data, format=data_format, splits=splits)
    except DataError:
        if not damaged:
            raise
        examples = []  # a shard is missing or cut off: its clips, and what they share with others, cannot be told
    with screen.progress("Checking", len(examples)) as advance:
        problems = [*damaged, *check(examples, shortest, advance)]
    if output is not None:
        write(problems, output)
    if as_json:
        print(json.dumps([vars(problem) for problem in problems], ensure_ascii=False))
    else:
        screen.show_problems(examples, problems)
    raise typer.Exit(SOME_FAILED if problems else DONE)


@data_app.command("prepare")
def data_prepare(
    data: DataRoot,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the shards; a stopped run there goes on.", show_default=False)
    ],
    sample_rate: Annotated[int, typer.Option(min=1, help="Hz of the clips in the shards.")] = 16_000,
    shard_clips: Annotated[int, typer.Option(min=1, help="Clips in each shard.")] = 1000,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a processor.")] = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:
    """Copy a data set into a few large tar files of mono FLAC (WebDataset), which train faster from slow or far disks."""
    from audiorep import datasets
    from audiorep.datasets import shards
    from audiorep.datasets.prepare import prepare

    try:
        examples = datasets.listed(data, data_format)
        with screen.progress("Preparing", len(examples)) as advance:
            done = prepare(examples, datasets.labels(data, data_format), output, sample_rate, shard_clips, workers, advance)
        with screen.progress("Reading back", done.clips) as advance:
            faults = shards.verify(output, advance)
    except KeyboardInterrupt:
        screen.say("Stopped; the same command goes on.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print(json.dumps({"clips": done.clips, "shards": len(done.shards), "bytes": done.bytes, "failed": len(done.failures)}))
    else:
        print(f"{done.clips} clips in {len(done.shards)} shards, {done.bytes / 1e6:.1f} MB: {output}")
    for text in [*(failure.error for failure in done.failures[:5]), *(f"{path} {fault}" for path, fault in faults.items())]:
        screen.say(f"Error: {text}")
    if done.failures:
        screen.say(f"{len(done.failures)} of {len(examples)} clips could not be read; {output / shards.INDEX} lists them.")
    raise typer.Exit(SOME_FAILED if done.failures or faults else DONE)


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """The architectures, with parameters and multiply-accumulates at the paper's input."""
    require("torch", extra="train")
    from audiorep import models

    rows: list[tuple[str, int, int, str]] = []
    for name, row in models.ARCHITECTURES.items():
        cost = models.cost(models.build(name, {"label": 309}), (1, 1, 512, 128))
        rows.append((name, cost.parameters, cost.macs, row.about))
    if as_json:
        print(json.dumps([dict(zip(("name", "parameters", "macs", "about"), row, strict=True)) for row in rows]))
        return
    cells = [[name, f"{parameters:,}", f"{macs / 1e9:.3f} G", about] for name, parameters, macs, about in rows]
    screen.show_table(["name", "parameters", "MACs", "about"], cells, right={1, 2})
    print("309 classes, input 512×128, as trained; audiorep fuse shows what merging saves")


@models_app.command("info")
def models_info(
    path: Annotated[
        Path | None, typer.Argument(help="Bundle (.onnx) or checkpoint folder; default: the one inside the package.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What is inside a model file: labels, rates, window, front end, licence, provenance."""
    from audiorep.predict import BUNDLED, Classifier

    classifier = Classifier.load(path)
    info = classifier.info
    values = {**vars(info), "task": info.task, "path": str(path or BUNDLED), "runs_on": classifier.session.device}
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
        return
    for key, value in values.items():
        if key == "labels":
            for head, labels in info.labels.items():
                print(f"{'labels ' + head:<16} {len(labels)}: {', '.join(labels)}")
        elif value not in ({}, ""):
            print(f"{key:<16} {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")


def _train_every_fold(config: TrainConfig, data: Path, output: Path, data_format: str | None) -> None:
    from audiorep import workflow

    _quieten_lightning()
    try:
        summary = workflow.train_every_fold(config, data, output, data_format, sys.stderr.isatty(), screen.say)
    except KeyboardInterrupt:
        screen.say(f"Stopped. The same command goes on from the last whole epoch in {output}.")
        raise typer.Exit(INTERRUPTED) from None
    screen.show_folds(summary)
    screen.say(f"A checkpoint a fold, and {workflow.FOLDS}: {output}")


def _quieten_lightning() -> None:
    """Lightning's advertising and its advice on settings that this project makes on purpose."""
    import logging
    import warnings

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")


def _splits_of(classifier: Classifier, test_fold: list[int] | None, valid_fold: list[int] | None) -> Splits:
    """The rule the model was trained by, or the folds that are asked for."""
    from audiorep.config import from_plain
    from audiorep.datasets import Splits

    recorded = classifier.info.provenance.get("splits", {})
    splits = from_plain(Splits, recorded)
    if test_fold or valid_fold:
        return replace(splits, test_folds=tuple(test_fold or ()), valid_folds=tuple(valid_fold or ()))
    return splits


if __name__ == "__main__":
    main()
