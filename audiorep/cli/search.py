"""Settings searched for accuracy and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiorep import interrupts
from audiorep.cli import terminal
from audiorep.cli.options import DataRoot, Folds, Format, ValidFolds
from audiorep.errors import ConfigError, require
from audiorep.escape import shell

if TYPE_CHECKING:
    from audiorep.search.trial import Job, Rules


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
    for package in ("lightning", "optuna"):
        require(package, extra="search")
    from audiorep.search.study import Budget
    from audiorep.search.trial import Rules

    rules = Rules(objective, max_cost, epochs, warmup_epochs, startup_trials, sampler, seed)
    folds = {"test_folds": test_fold, "valid_folds": valid_fold}
    shared = [*(settings or []), *(f"splits.{name}={value}" for name, value in folds.items() if value)]
    job = _job(data, output, space, _values(recipe or [], shared), rules, data_format)
    _run(job, Budget(trials, timeout, workers))


def _values(recipes: list[Path], settings: list[str]) -> dict[str, Any]:
    from audiorep import config

    values: dict[str, Any] = {}
    for path in recipes:
        values = config.merged(values, config.read_toml(path))
    return config.override(values, settings)


def _job(data: Path, output: Path, space: Path, recipe: dict[str, Any], rules: Rules, data_format: str | None) -> Job:
    from audiorep import config, datasets
    from audiorep.search.clips import search_clips
    from audiorep.search.space import read
    from audiorep.search.trial import Job
    from audiorep.training.recipe import configure

    splits = configure(recipe, "the recipe").splits
    varied = read(config.read_toml(space), recipe, str(space))
    if rules.epochs is not None and "epochs" in [entry.field for entry in varied.entries]:
        raise ConfigError(f"{space} varies epochs; leave --epochs out.")
    examples = datasets.examples(data, format=data_format, splits=splits)
    terminal.say_notes(data, data_format)
    clips = search_clips(examples, splits, str(data), datasets.labels(data, data_format, splits))
    drawn = ", drawn from those to train on" if clips.held_out else ""
    terminal.say(f"{len(clips.train)} clips to train on, {len(clips.valid)} to judge by{drawn}; those to test on are not used.")
    return Job(varied, rules, clips, output)


def _run(job: Job, budget: Any) -> None:
    from audiorep.search import outcome
    from audiorep.search.study import open_study, search

    try:
        with terminal.progress("Searching", budget.trials) as advance:
            study = search(job, budget, terminal.say, advance)
    except KeyboardInterrupt as stop:
        with interrupts.held():
            outcome.write(job, outcome.outcome(job, open_study(job)), terminal.typed_command())
        stop.add_note(f"Stopped. The same command goes on in {job.folder}, the trial under way from its last whole epoch.")
        raise
    found = outcome.outcome(job, study)
    written = outcome.write(job, found, terminal.typed_command())
    if not found.front:
        raise ConfigError(f"None of {len(found.rows)} trials was trained to the end; {written[0]} says why.")
    header, cells = outcome.as_cells(found)
    terminal.show_table(header, cells, right={1, 2, 3})
    terminal.say(
        f"All trials, picture and recipes: {job.folder}\nNext: audiorep train … --recipe {shell(job.folder / cells[-1][0])}"
    )
