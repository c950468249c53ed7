"""The commands `train`, `distil` and `import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import DataRoot, Format
from audiorep.errors import require
from audiorep.escape import shell

Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Folder for the checkpoint; a stopped run in it is continued.", show_default=False),
]
Recipe = Annotated[
    list[Path] | None,
    typer.Option(help="TOML file of settings that differ from the defaults; of several files the last one wins."),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="One setting, for example optimizer.learning_rate=0.001.")]
Start = Annotated[
    Path | None,
    typer.Option(help="Checkpoint folder to fine-tune; its network, front end and windows are taken over. none: start anew."),
]


def train(
    data: DataRoot,
    output: Output,
    recipe: Recipe = None,
    settings: Settings = None,
    start: Start = None,
    every_fold: Annotated[
        bool, typer.Option("--every-fold", help="Train once for each official fold, and test on that fold.")
    ] = False,
    data_format: Format = None,
) -> None:
    """Train a network on labelled clips; the same command resumes a stopped run."""
    values = _values(settings, start)
    if every_fold:
        _train_every_fold(data, output, recipe, data_format, values)
    else:
        _train(data, output, recipe, data_format, values)


def distil(
    data: DataRoot,
    teacher: Annotated[
        list[Path],
        typer.Option(
            help="Checkpoint folder or deployed model to learn from; of several teachers the mean is used.", show_default=False
        ),
    ],
    output: Output,
    recipe: Recipe = None,
    settings: Settings = None,
    start: Start = None,
    data_format: Format = None,
) -> None:
    """Train a network on labelled clips and on the outputs of trained teachers for them; otherwise as train."""
    values = _values(settings, start, {"distil": {"teachers": [str(folder) for folder in teacher]}})
    _train(data, output, recipe, data_format, values)


def _values(settings: list[str] | None, start: Path | None, values: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings from the command's options and from `--set`, which wins if a setting is in both."""
    from audiorep import config

    given = {**(values or {}), **({"start": str(start)} if start is not None else {})}
    return config.override(given, settings or [])


def _train(data: Path, output: Path, recipe: list[Path] | None, data_format: str | None, values: dict[str, Any]) -> None:
    with terminal.stop_message(f"Stopped. The same command continues from the last complete epoch in {output}."):
        evaluations = audiorep.train(
            audiorep.Data(data, data_format), output, recipe or (), say=terminal.say, progress=sys.stderr.isatty(), **values
        )
    for evaluation in evaluations:
        terminal.show_evaluation(evaluation)
    terminal.say(f"Checkpoint, model card and pictures: {output}\nNext: audiorep export {shell(output)} -o model.onnx")


def _train_every_fold(
    data: Path, output: Path, recipe: list[Path] | None, data_format: str | None, values: dict[str, Any]
) -> None:
    with terminal.stop_message(f"Stopped. The same command continues from the last complete epoch in {output}."):
        summary = audiorep.train_every_fold(
            audiorep.Data(data, data_format), output, recipe or (), say=terminal.say, progress=sys.stderr.isatty(), **values
        )
    terminal.show_folds(summary)
    terminal.say(f"A checkpoint for each fold, and folds.json: {output}")


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="Checkpoint of the paper's authors (.pyth), or YAMNet's published file (.tflite).", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the checkpoint, a new one.", show_default=False)],
    data_set: Annotated[
        str | None,
        typer.Option(
            "--data-set",
            help="Of the authors: vggsound, epic_kitchens, epic_sounds, speech_commands, urbansound8k or nsynth; "
            "default: the one with as many classes.",
        ),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            help="Class names, one a line or a table with id,key or index,display_name; again for nouns; default: the official "
            "order, the class map beside YAMNet's file, or numbers."
        ),
    ] = None,
) -> None:
    """Make a checkpoint folder of what others published, to evaluate, export or fine-tune."""
    require("torch", extra="train")
    from audiorep.hub import imported

    for sentence in imported.convert(source, output, data_set, labels or []):
        print(sentence)
    terminal.say(f"Checkpoint: {output}\nNext: audiorep export {shell(output)} -o model.onnx")
