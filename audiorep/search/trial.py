"""One trial: settings that are refused, trained for nothing no longer than needed, or judged on the validation clips."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiorep.config import refuse
from audiorep.errors import ConfigError, DataError, FuseError, require
from audiorep.evaluation.evaluate import evaluate
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.runtimes.torch import TorchSession
from audiorep.search import cost as costs
from audiorep.search.clips import SearchClips
from audiorep.search.space import Space
from audiorep.training.fit import BEST, LAST, fit
from audiorep.training.recipe import TrainConfig

if TYPE_CHECKING:  # an extra's, imported where it is used
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

TRIALS = "trials"
"""Folder of the trials' checkpoints."""


@dataclass(frozen=True)
class Rules:
    """What two runs in one folder must have in common, beside space and clips."""

    objective: str = "macs"
    """A key of `cost.UNITS`: what is kept small while accuracy is made large."""
    max_cost: float | None = None
    """Settings that cost more are not trained."""
    epochs: int | None = None
    """The epochs of each trial; None: as many as the recipe or the space says."""
    warmup_epochs: int | None = None
    """Epochs before which no trial is stopped; None: a third of them."""
    startup_trials: int = 5
    """As many comparable trials must have reached an epoch before one is stopped there."""
    sampler: str = "tpe"
    """`tpe` or `nsga2`."""
    seed: int = 0

    def __post_init__(self) -> None:
        checks = [
            (self.objective in costs.UNITS, f"objective is {self.objective!r}; there are {', '.join(costs.UNITS)}"),
            (self.max_cost is None or self.max_cost > 0, f"max_cost is {self.max_cost}; more than 0 is needed"),
            (self.sampler in ("tpe", "nsga2"), f"sampler is {self.sampler!r}; there are tpe, nsga2"),
            (self.epochs is None or self.epochs >= 1, f"epochs is {self.epochs}; at least 1 is needed"),
            (min(self.warmup_epochs or 0, self.startup_trials, self.seed) >= 0, "no number may be negative"),
        ]
        refuse(checks)


@dataclass(frozen=True)
class Job:
    """All that a process needs to run trials."""

    space: Space
    rules: Rules
    clips: SearchClips
    folder: Path

    def config(self, chosen: dict[str, Any]) -> TrainConfig:
        """The settings of a trial.

        Raises:
            ConfigError: the chosen values do not go together.
        """
        epochs = {} if self.rules.epochs is None else {"epochs": self.rules.epochs}
        return self.space.config({**chosen, **epochs})


def run(job: Job, study: Study, trial: Trial, say: Callable[[str], None]) -> list[float]:
    """Accuracy on the validation clips, and cost, of the settings of an Optuna `trial`; its attributes tell the rest.

    Accuracy is top-1, or mean average precision where clips have several labels; the mean over heads.

    Raises:
        optuna.TrialPruned: the settings are refused, or not worth training to the end; the text says why.
        DataError, CheckpointError: no trial could be trained.
        KeyboardInterrupt: the user stopped it.
    """
    pruned = require("optuna", extra="search").TrialPruned
    try:
        config = job.config(job.space.chosen(trial.params))
    except ConfigError as error:
        trial.set_constraint("impossible", 1.0)
        raise pruned(str(error)) from None
    trial.set_user_attr("settings", digest(config))
    if (same := _same(study, trial)) is not None:
        return _repeat(trial, same)
    price = _price(job, config, trial)
    folder = job.folder / TRIALS / str(trial.user_attrs.get("folder", trial.number))
    began = time.monotonic() - trial.user_attrs.get("seconds", 0.0)
    watch = _Watch(job.rules, config, study, trial, price, began)
    try:
        fit(config, job.clips.both, folder, say=say, classes=job.clips.classes, on_epoch=watch)
        reached = accuracy(folder, job.clips)
    except pruned:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _slim(folder)
    trial.set_user_attr("seconds", time.monotonic() - began)
    return [reached, price]


def digest(config: TrainConfig) -> str:
    """The same for the same settings."""
    return hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:16]


def accuracy(folder: Path, clips: SearchClips) -> float:
    """The accuracy of the checkpoint in `folder` on the validation clips, through the same classifier as prediction."""
    classifier = Classifier(TorchSession(checkpoint.load(folder)))
    found = evaluate(classifier, clips.valid, "validation split", clips.train)
    name = "mean_average_precision" if classifier.info.activation == "sigmoid" else "top1"
    return statistics.fmean(card.summary[name] for card in found.heads.values())


def behind(
    history: Sequence[float], price: float, peers: Iterable[tuple[float, Sequence[float]]], startup: int
) -> float | None:
    """The median that the best epoch so far of a trial is below, or None where it may go on (Optuna's MedianPruner).

    `history` holds a value an epoch, `peers` the (cost, history) of others. Only those that cost no more are compared with:
    a small network that is less accurate than large ones may well be the best of its size.
    """
    reached = [values[len(history) - 1] for cost, values in peers if cost <= price and len(values) >= len(history)]
    if len(reached) < max(startup, 1):
        return None
    middle = statistics.median(reached)
    return middle if max(history) < middle else None


class _Watch:
    """Records a trial's epochs, and ends it when it diverges or falls behind."""

    def __init__(self, rules: Rules, config: TrainConfig, study: Study, trial: Trial, price: float, began: float) -> None:
        self._rules, self._config, self._study, self._trial, self._price = rules, config, study, trial, price
        self._began = began
        self._history: list[float] = list(trial.user_attrs.get("epochs", []))
        self._warmup = config.epochs // 3 if rules.warmup_epochs is None else rules.warmup_epochs

    def __call__(self, epoch: int, values: dict[str, float]) -> None:
        """Called after each epoch, from 0, with its metrics."""
        pruned = require("optuna", extra="search").TrialPruned
        if "valid_loss" not in values:
            raise DataError("None of the validation clips can be read, so no trial can be judged.")
        if not all(math.isfinite(values[name]) for name in ("train_loss", "valid_loss")):
            self._trial.set_constraint("diverged", 1.0)
            raise pruned(f"training diverged in epoch {epoch + 1}: its loss is no number")
        value = -values["valid_loss"] if self._config.multi_label else values["valid_accuracy"]
        self._history = [*self._history[:epoch], value]  # an epoch that was cut off is trained again
        self._trial.set_user_attr("epochs", self._history)
        self._trial.set_user_attr("seconds", time.monotonic() - self._began)
        if self._warmup <= epoch < self._config.epochs - 1:
            middle = behind(self._history, self._price, self._peers(), self._rules.startup_trials)
            if middle is not None:
                raise pruned(
                    f"after epoch {epoch + 1} its best validation value, {max(self._history):.4g}, is below {middle:.4g}, the "
                    "median of trials that cost no more"
                )

    def _peers(self) -> list[tuple[float, list[float]]]:
        """(cost, history) of the others that are trained, to the end or still."""
        states = require("optuna", extra="search").trial.TrialState
        others = self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.RUNNING))
        return [
            (other.user_attrs["cost"], other.user_attrs["epochs"])
            for other in others
            if other.number != self._trial.number and "epochs" in other.user_attrs and "same_as" not in other.user_attrs
        ]


def _price(job: Job, config: TrainConfig, trial: Trial) -> float:
    """What the network costs, once it is known to be within what is allowed."""
    pruned = require("optuna", extra="search").TrialPruned
    try:
        price = costs.cost(config, job.clips.classes, job.rules.objective, job.folder)
    except ConfigError as error:
        trial.set_constraint("impossible", 1.0)
        raise pruned(str(error)) from None
    except FuseError as error:
        raise pruned(str(error)) from None
    trial.set_user_attr("cost", price)
    if job.rules.max_cost is not None and price > job.rules.max_cost:
        trial.set_constraint("max_cost", price / job.rules.max_cost - 1)
        allowed = costs.in_words(job.rules.max_cost, job.rules.objective)
        raise pruned(f"it costs {costs.in_words(price, job.rules.objective)}; up to {allowed} are allowed")
    return price


def _same(study: Study, trial: Trial) -> FrozenTrial | None:
    """An earlier trial of the same settings that is done or under way; None where there is none."""
    states = require("optuna", extra="search").trial.TrialState
    mine = trial.user_attrs["settings"]
    earlier = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED, states.RUNNING))
    for other in earlier:
        attributes = other.user_attrs
        if other.number < trial.number and attributes.get("settings") == mine and "same_as" not in attributes:
            return other
    return None


def _repeat(trial: Trial, same: FrozenTrial) -> list[float]:
    """What became of the same settings before."""
    trial.set_user_attr("same_as", same.number)
    for name in ("cost", "epochs"):
        if name in same.user_attrs:
            trial.set_user_attr(name, same.user_attrs[name])
    for name, violation in same.constraints.items():
        trial.set_constraint(name, violation)
    if same.state.name == "COMPLETE":
        return list(same.values)
    raise require("optuna", extra="search").TrialPruned(same.user_attrs.get("reason", f"trial {same.number} is at it"))


def _slim(folder: Path) -> None:
    """Leaves the checkpoint alone."""
    for name in (LAST, BEST):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / checkpoint.LOGS, ignore_errors=True)
