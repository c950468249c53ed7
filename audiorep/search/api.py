"""`audiorep.search`: settings searched for accuracy and small cost at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiorep import config, interrupts
from audiorep.datasets.api import Progress, unseen
from audiorep.datasets.location import Data, Place, located
from audiorep.errors import ConfigError, require

if TYPE_CHECKING:
    from audiorep.search.outcome import Outcome
    from audiorep.search.study import Budget
    from audiorep.search.trial import Job, Rules
    from audiorep.training.settings import Recipe


def search(
    data: Place,
    output: str | os.PathLike[str],
    space: str | os.PathLike[str],
    *,
    recipe: Recipe = (),
    settings: Mapping[str, Any] | None = None,
    trials: int = 50,
    seconds: float | None = None,
    workers: int = 1,
    command: str = "",
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = unseen,
    **rules: Any,
) -> Outcome:
    """Trains many small networks, or goes on where a search in `output` stopped, and keeps the accurate and cheap ones.

    Args:
        data: as for `audiorep.train`. Clips to test on are not used; where none validate, some are drawn.
        output: the folder for the trials, their table, the picture, and a recipe for each of the best.
        space: a TOML file with a table `[space]` of what varies.
        recipe: a TOML file of settings that all trials share, or several, of which the last wins.
        settings: fields of `audiorep.training.recipe.TrainConfig`, which win over the recipe's.
        trials: how many in all, those of earlier runs counted.
        seconds: time after which no trial begins.
        workers: processes, which share the processor's cores.
        command: what to write into the record as the way to get it again.
        say: is told a line a trial.
        progress: makes a progress bar of a title and a number of trials.
        **rules: fields of `audiorep.search.trial.Rules`: objective, max_cost, epochs, warmup_epochs, startup_trials, sampler
            and seed.

    Raises:
        ConfigError: a setting that there is not or that is refused, another search in `output`, or no trial that could be
            trained to the end.
        DataError: no clips to train on or to judge by.
        KeyboardInterrupt: stopped; the trials so far are written, and the same call goes on.

    >>> found = audiorep.search(clips, "search", "space.toml", recipe="tiny.toml", trials=2, epochs=2)
    >>> len(found.rows), found.front[0].accuracy > 0.4
    (2, True)
    """
    for package in ("lightning", "optuna"):
        require(package, extra="search")
    from audiorep.search.study import Budget
    from audiorep.search.trial import Rules

    if unknown := sorted(rules.keys() - Rules.__dataclass_fields__.keys()):
        raise ConfigError(f"{', '.join(unknown)}: no rule of a search; there are {', '.join(Rules.__dataclass_fields__)}.")
    recipes = config.read_recipes([recipe] if isinstance(recipe, str | os.PathLike) else recipe)
    job = _job(located(data), Path(output), Path(space), config.merged(recipes, settings or {}), Rules(**rules), say)
    return _run(job, Budget(trials, seconds, workers), command, say, progress)


def _job(data: Data, output: Path, space: Path, shared: dict[str, Any], rules: Rules, say: Callable[[str], None]) -> Job:
    from audiorep.search.clips import search_clips
    from audiorep.search.space import read
    from audiorep.search.trial import Job
    from audiorep.training.recipe import configure

    folds = {"test_folds": data.test_folds, "valid_folds": data.valid_folds}
    if asked := {name: list(numbers) for name, numbers in folds.items() if numbers}:
        shared = config.merged(shared, {"splits": asked})
    splits = configure(shared, "the recipe").splits
    varied = read(config.read_toml(space), shared, str(space))
    if rules.epochs is not None and "epochs" in [entry.field for entry in varied.entries]:
        raise ConfigError(f"{space} varies epochs, so that epochs cannot be given for all trials.")
    clips = search_clips(data.examples(splits, say), splits, str(data.path), data.labels(splits))
    drawn = ", drawn from those to train on" if clips.held_out else ""
    say(f"{len(clips.train)} clips to train on, {len(clips.valid)} to judge by{drawn}; those to test on are not used.")
    return Job(varied, rules, clips, output)


def _run(job: Job, budget: Budget, command: str, say: Callable[[str], None], progress: Progress) -> Outcome:
    from audiorep.search import outcome, study

    try:
        with progress("Searching", budget.trials) as advance:
            done = study.search(job, budget, say, advance)
    except KeyboardInterrupt as stop:
        with interrupts.delay_signals():
            outcome.write(job, outcome.outcome(job, study.open_study(job)), command)
        stop.add_note(f"Stopped. The same command goes on in {job.folder}, the trial under way from its last whole epoch.")
        raise
    found = outcome.outcome(job, done)
    written = outcome.write(job, found, command)
    if not found.front:
        raise ConfigError(f"None of {len(found.rows)} trials was trained to the end; {written[0]} says why.")
    return found
