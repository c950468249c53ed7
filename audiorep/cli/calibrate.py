"""The command `calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import SOME_FAILED, DataRoot, Folds, Format, Json, ValidFolds, data_set, share


def calibrate(
    model: Annotated[
        Path, typer.Argument(help="Deployed model (.onnx or another exported file) or checkpoint folder.", show_default=False)
    ],
    data: DataRoot,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File to write, of the same kind as the model; a new folder for a checkpoint.",
            show_default=False,
        ),
    ],
    split: Annotated[str, typer.Option(help="Clips to use: valid, test, or all.")] = "valid",
    thresholds: Annotated[
        Literal["f1", "precision"],
        typer.Option(help="Rule for the lowest score of each class that is reported: best F1, or --precision."),
    ] = "f1",
    precision: Annotated[
        float, typer.Option(callback=share, help="Share of right labels among those reported, for --thresholds precision.")
    ] = 0.9,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Make probabilities of a model's scores, and choose a threshold for each class, on clips that it does not know."""
    place = data_set(data, data_format, test_fold, valid_fold)
    with terminal.stop_message("Stopped; nothing was written."), terminal.progress("Calibrating", None) as advance:
        found = audiorep.calibrate(
            model,
            place,
            output,
            split,
            thresholds=thresholds,
            precision=precision,
            say=terminal.say,
            on_progress=advance,
        )
    if as_json:
        print(json.dumps(found.summary(), ensure_ascii=False))
    else:
        terminal.show_calibration(found)
    for failure in found.failures:
        terminal.say(f"Error: {failure.error}")
    terminal.say(f"Written: {output}")
    if found.failures:
        raise typer.Exit(SOME_FAILED)
