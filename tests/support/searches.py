"""Small searches on folders of tones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audiorep import datasets
from audiorep.datasets import Splits
from audiorep.search import clips, outcome, space, study, trial
from audiorep.search.study import Budget
from audiorep.search.trial import Rules
from support.training import QUICK

RECIPE = {**QUICK, "network": {"depths": [1], "time_kernels": [3], "frequency_kernels": [3]}, "epochs": 2, "augment": {}}
SPACE = {"network.expansion": [1, 2], "optimizer.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}


def read(entries: dict[str, Any], **changes: Any) -> space.Space:
    return space.read({"space": entries}, {**RECIPE, **changes}, "space.toml")


def job(
    root: Path, folder: Path, entries: dict[str, Any] | None = None, rules: Rules | None = None, **changes: Any
) -> trial.Job:
    found = clips.search_clips(datasets.examples(root), Splits(), root.name)
    return trial.Job(read(entries or SPACE, **changes), rules or Rules(), found, folder)


def run(made: trial.Job, trials: int, workers: int = 1) -> outcome.Outcome:
    said: list[str] = []
    return outcome.outcome(made, study.search(made, Budget(trials, workers=workers), said.append))
