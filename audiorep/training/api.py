"""`audiorep.train`: labelled clips to a checkpoint folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiorep.datasets.location import Place, located
from audiorep.errors import ConfigError, require

if TYPE_CHECKING:
    from audiorep.evaluation.evaluate import Evaluation
    from audiorep.training.settings import Recipe


def train(
    data: Place,
    output: str | os.PathLike[str],
    recipe: Recipe = (),
    *,
    say: Callable[[str], None] = lambda text: None,
    progress: bool = False,
    **settings: Any,
) -> list[Evaluation]:
    """Trains a network on labelled clips, or goes on where a run in `output` stopped, and evaluates it.

    Args:
        data: a folder of classes, a CSV manifest, another data set, or a `Data` with its layout; with
            `distil.classes = "teacher"` a folder of any sounds.
        output: the folder for the checkpoint, its model card and its pictures.
        recipe: a TOML file of settings, or several, of which the last wins. Without one, training goes on from the tagger in
            the package by settings that suit little data, or from random weights by others where `start` is `none` or the
            settings name another network, front end or teacher.
        say: is told a line an epoch, and what was left out.
        progress: show a bar in place of the lines.
        **settings: fields of `audiorep.training.recipe.TrainConfig`, for example `epochs=30` or
            `optimizer={"learning_rate": 0.001}`. They win over the recipe's. `start` names a checkpoint to fine-tune, whose
            network, front end and windows are then taken over where the settings do not say otherwise; `none` starts anew.

    Returns:
        What the model reached on the test clips and on the validation clips, where there are any.

    Raises:
        DataError: no readable training clips, fewer than two classes, or labels that do not fit the task.
        ConfigError: a setting that there is not or that is refused, or another run in `output`.
        CheckpointError: the run in `output` or the checkpoint to start from cannot be used.
        KeyboardInterrupt: stopped; the same call goes on from the last whole epoch.

    >>> tested = audiorep.train(clips, "run", recipe="tiny.toml", epochs=2)[0]
    >>> tested.clips
    6
    """
    require("lightning", extra="train")
    from audiorep.training import workflow
    from audiorep.training.fit import quieten
    from audiorep.training.settings import remarks, settings_of

    config, place = settings_of(recipe, settings), located(data)
    labelled = config.distil.classes == "labels"
    examples = (place.examples if labelled else place.sounds)(config.splits, say)
    classes = place.labels(config.splits) if labelled else None
    for line in [workflow.describe(examples), *remarks(config, examples), *workflow.warnings(examples, config)]:
        say(line)
    quieten()
    return workflow.train(config, examples, place.root, output, progress, say, classes)


def train_every_fold(
    data: Place,
    output: str | os.PathLike[str],
    recipe: Recipe = (),
    *,
    say: Callable[[str], None] = lambda text: None,
    progress: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Trains once for each official fold of the data, tested on it; otherwise as `train`.

    Returns:
        Each metric's values, mean and standard deviation over the folds.

    Raises:
        ConfigError: as `train`, and for teachers, which were trained on all folds but one.
        DataError: as `train`, and for data without folds.

    >>> summary = audiorep.train_every_fold("folds.csv", "every_fold", recipe="tiny.toml", epochs=1)
    >>> summary["folds"]
    [1, 2]
    """
    require("lightning", extra="train")
    from audiorep.training import workflow
    from audiorep.training.fit import quieten
    from audiorep.training.settings import settings_of

    config, place = settings_of(recipe, settings), located(data)
    if config.distil.teachers:
        raise ConfigError(
            "A training on every fold takes each in turn, and a teacher was trained on all folds but one. Distil a fold at a "
            "time, from a teacher of the same one, with splits.test_folds=[…]."
        )
    quieten()
    return workflow.train_every_fold(config, place.root, Path(output), place.format, progress, say)
