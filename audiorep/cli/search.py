"""Settings searched for accuracy and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import DataRoot, Folds, Format, ValidFolds, data_set
from audiorep.escape import shell


def search(
    data: DataRoot,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the search; a stopped one there goes on.", show_default=False)
    ],
    space: Annotated[Path, typer.Option(help="TOML file: a table [space] of what varies.", show_default=False)],
    recipe: Annotated[
        list[Path] | None, typer.Option(help="TOML file of settings that all trials share; of several the last wins.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One shared setting, for example optimizer.weight_decay=0.1.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="In all, those of earlier runs counted.")] = 50,
    timeout: Annotated[float | None, typer.Option(min=0.0, help="Seconds after which no trial begins.")] = None,
    objective: Annotated[str, typer.Option(help="What is kept small: macs, latency or parameters.")] = "macs",
    max_cost: Annotated[
        float | None, typer.Option(help="What costs more is not trained: MACs, milliseconds or parameters, by objective.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each trial; default: the recipe's.")] = None,
    warmup_epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs before which no trial is stopped; default: a third.")
    ] = None,
    startup_trials: Annotated[
        int, typer.Option(min=1, help="Comparable trials that must have reached an epoch before one is stopped there.")
    ] = 5,
    sampler: Annotated[str, typer.Option(help="tpe, or nsga2 for some hundreds of trials.")] = "tpe",
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn; of the trainings it is the recipe's.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Trials at once, which share the processor's cores.")] = 1,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
) -> None:
    """Search settings for accuracy on validation clips and small cost at once; the same command resumes a search."""
    from audiorep import config

    found = audiorep.search(
        data_set(data, data_format, test_fold, valid_fold),
        output,
        space,
        recipe=recipe or (),
        settings=config.override({}, settings or []),
        trials=trials,
        seconds=timeout,
        workers=workers,
        command=terminal.typed_command(),
        say=terminal.say,
        progress=terminal.progress,
        objective=objective,
        max_cost=max_cost,
        epochs=epochs,
        warmup_epochs=warmup_epochs,
        startup_trials=startup_trials,
        sampler=sampler,
        seed=seed,
    )
    from audiorep.search.outcome import as_cells

    header, cells = as_cells(found)
    terminal.show_table(header, cells, right={1, 2, 3})
    terminal.say(f"All trials, picture and recipes: {output}\nNext: audiorep train … --recipe {shell(output / cells[-1][0])}")
