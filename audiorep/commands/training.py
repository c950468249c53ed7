"""Clips to a checkpoint, and the authors' checkpoints to ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiorep import screen
from audiorep.commands.options import INTERRUPTED, DataRoot, Format
from audiorep.errors import require

if TYPE_CHECKING:
    from audiorep.recipe import TrainConfig


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
