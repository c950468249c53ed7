"""The command `search`: settings that give high accuracy at low cost."""

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
        Path,
        typer.Option("--output", "-o", help="Folder for the search; a stopped search in it is continued.", show_default=False),
    ],
    space: Annotated[Path, typer.Option(help="TOML file with a table [space] of the settings that vary.", show_default=False)],
    recipe: Annotated[
        list[Path] | None, typer.Option(help="TOML file of settings that all trials share; of several files the last one wins.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting of all trials, for example optimizer.weight_decay=0.1.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Total number of trials, including those of earlier runs.")] = 50,
    timeout: Annotated[float | None, typer.Option(min=0.0, help="Seconds after which no new trial starts.")] = None,
    objective: Annotated[str, typer.Option(help="Cost to keep small: macs, latency or parameters.")] = "macs",
    max_cost: Annotated[
        float | None, typer.Option(help="Networks that cost more are not trained; in MACs, milliseconds or parameters.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each trial; default: the recipe's.")] = None,
    warmup_epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs before a trial may be stopped; default: a third of all.")
    ] = None,
    startup_trials: Annotated[
        int,
        typer.Option(min=1, help="Comparable trials that must have reached an epoch before another trial is stopped there."),
    ] = 5,
    sampler: Annotated[str, typer.Option(help="Method that picks settings: tpe, or nsga2 for hundreds of trials.")] = "tpe",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the settings that are picked; trainings use the recipe's seed.")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Trials that run at the same time and share the processor's cores.")] = 1,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
) -> None:
    """Search for settings with high accuracy on validation clips and low cost; the same command resumes a search."""
    from audiorep import config

    outcome = audiorep.search(
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

    header, cells = as_cells(outcome)
    terminal.show_table(header, cells, right={1, 2, 3})
    terminal.say(f"All trials, a picture and recipes: {output}\nNext: audiorep train … --recipe {shell(output / cells[-1][0])}")
