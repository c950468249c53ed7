"""The command `tune-events`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import SOME_FAILED, DataRoot, Folds, Format, Hop, Json, ValidFolds, data_set, share
from audiorep.files import refuse_inputs


def tune_events(
    model: Annotated[
        Path, typer.Argument(help="Deployed model (.onnx or another exported file) or checkpoint folder.", show_default=False)
    ],
    data: DataRoot,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write (.toml), for --events of predict and listen.", show_default=False),
    ],
    false_alarms: Annotated[
        float | None, typer.Option(help="The wish: at most so many false alarms an hour, of all labels together; default: 6.")
    ] = None,
    precision: Annotated[
        float | None, typer.Option(callback=share, help="Another wish: the share of the events that are no false alarms.")
    ] = None,
    split: Annotated[str, typer.Option(help="Clips to use: valid, test, or all.")] = "valid",
    hours: Annotated[float, typer.Option(help="Hours of soundscapes: half to choose by, half to measure on.")] = 2.0,
    noise: Annotated[
        Path | None,
        typer.Option(help="Folder of recordings without the model's sounds, for the background; default: coloured noise."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed from which the soundscapes are drawn.")] = 0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    hop: Hop = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Choose settings of events for a wish, on soundscapes of clips that the model does not know."""
    place = data_set(data, data_format, test_fold, valid_fold)
    refuse_inputs(output, model, data)
    with (
        terminal.stop_message("Stopped; nothing was written."),
        terminal.progress("Tuning", 3600 * max(hours, 0)) as advance,
    ):
        found = audiorep.tune_events(
            model,
            place,
            output,
            split,
            false_alarms=false_alarms,
            precision=precision,
            hours=hours,
            noise=noise,
            seed=seed,
            hop_seconds=hop,
            say=terminal.say,
            on_progress=advance,
        )
    if as_json:
        print(json.dumps(found.summary(), ensure_ascii=False))
    else:
        terminal.show_event_tuning(found)
    for failure in found.failures:
        terminal.say(f"Error: {failure.error}")
    terminal.say(f"Written: {output}")
    if found.failures:
        raise typer.Exit(SOME_FAILED)
