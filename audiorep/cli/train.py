"""Clips to a checkpoint, and the authors' checkpoints to ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiorep.cli import terminal
from audiorep.cli.options import DataRoot, Format
from audiorep.errors import ConfigError, require
from audiorep.escape import shell

if TYPE_CHECKING:
    from audiorep.training.recipe import TrainConfig


Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the checkpoint; a stopped run there goes on.", show_default=False)
]
Recipe = Annotated[
    list[Path] | None, typer.Option(help="TOML file of settings that differ from the defaults; of several the last wins.")
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="One setting, for example optimizer.learning_rate=0.001.")]
Start = Annotated[Path | None, typer.Option(help="Checkpoint folder to fine-tune, of the same network.")]


def train(
    data: DataRoot,
    output: Output,
    recipe: Recipe = None,
    settings: Settings = None,
    start: Start = None,
    every_fold: Annotated[bool, typer.Option("--every-fold", help="Train once for each official fold, tested on it.")] = False,
    data_format: Format = None,
) -> None:
    """Train a network on labelled clips; the same command resumes a run that was stopped."""
    config = _configured(recipe, settings, start)
    if every_fold:
        _train_every_fold(config, data, output, data_format)
    else:
        _train(config, data, output, data_format)


def distil(
    data: DataRoot,
    teacher: Annotated[
        list[Path],
        typer.Option(help="Checkpoint folder or deployed file to learn from; given again, their mean.", show_default=False),
    ],
    output: Output,
    recipe: Recipe = None,
    settings: Settings = None,
    start: Start = None,
    data_format: Format = None,
) -> None:
    """Train a network on labelled clips and on what trained ones say of them; otherwise as train."""
    config = _configured(recipe, settings, start, {"distil": {"teachers": [str(folder) for folder in teacher]}})
    _train(config, data, output, data_format)


def _configured(
    recipe: list[Path] | None, settings: list[str] | None, start: Path | None, told: dict[str, Any] | None = None
) -> TrainConfig:
    """The settings of recipes, of the command's other options (`told`) and of `--set`; of those in several the last."""
    require("lightning", extra="train")
    from audiorep import config as configuration
    from audiorep.models import checkpoint
    from audiorep.training.recipe import configure

    values: dict[str, Any] = {}
    if start is not None:
        layers = checkpoint.read_json(start / checkpoint.CONFIG).get("layers", {})
        values = {"start": str(start), **({"layers": layers} if layers else {})}
    for path in recipe or []:
        values = configuration.merged(values, configuration.read_toml(path))
    values = configuration.override(configuration.merged(values, told or {}), settings or [])
    return configure(values, where=", ".join(map(str, recipe or [])) or "settings")


def _train(config: TrainConfig, data: Path, output: Path, data_format: str | None) -> None:
    from audiorep import datasets
    from audiorep.training import workflow
    from audiorep.training.fit import quieten

    examples = datasets.examples(data, format=data_format, splits=config.splits)
    classes = datasets.labels(data, data_format, config.splits)
    terminal.tell(data, data_format)
    for line in [workflow.describe(examples), *workflow.warnings(examples, config)]:
        terminal.say(line)
    quieten()
    try:
        evaluations = workflow.train(config, examples, data, output, sys.stderr.isatty(), terminal.say, classes)
    except KeyboardInterrupt as stop:
        stop.add_note(f"Stopped. The same command goes on from the last whole epoch in {output}.")
        raise
    for evaluation in evaluations:
        terminal.show_evaluation(evaluation)
    terminal.say(f"Checkpoint, model card and pictures: {output}\nNext: audiorep export {shell(output)} -o model.onnx")


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
        typer.Option(
            help="Class names, one a line or with columns id,key; again for nouns; default: the official order, or numbers."
        ),
    ] = None,
) -> None:
    """Make a checkpoint folder of one that the paper's authors' code wrote, to evaluate, export or fine-tune."""
    require("torch", extra="train")
    from audiorep.hub import authors

    found, info = authors.convert(source, output, data_set, labels or [])
    about = info.provenance
    heads = ", ".join(f"{head} {classes}" for head, classes in found.heads.items())
    print(f"{found.form.capitalize()} form, {found.parameters:,} parameters, classes: {heads}")
    print(
        f"Data set: {about['data_set']}" + ("" if data_set else ", which has as many classes; if it is another, say --data-set")
    )
    print("The file counts no epochs" if found.epoch is None else f"Epoch {found.epoch} by the file's own count")
    print(authors.naming(info) or f"The class order is taken to be {about['class_order']}; the file does not say")
    terminal.say(f"Checkpoint: {output}\nNext: audiorep export {shell(output)} -o model.onnx")


def _train_every_fold(config: TrainConfig, data: Path, output: Path, data_format: str | None) -> None:
    from audiorep.training import workflow
    from audiorep.training.fit import quieten

    if config.distil.teachers:
        raise ConfigError(
            "--every-fold trains on each fold in turn, and a teacher was trained on all folds but one. Distil a fold at a "
            "time, from a teacher of the same one, with splits.test_folds=[…]."
        )
    quieten()
    try:
        summary = workflow.train_every_fold(config, data, output, data_format, sys.stderr.isatty(), terminal.say)
    except KeyboardInterrupt as stop:
        stop.add_note(f"Stopped. The same command goes on from the last whole epoch in {output}.")
        raise
    terminal.show_folds(summary)
    terminal.say(f"A checkpoint a fold, and {workflow.FOLDS}: {output}")
