"""From labelled clips to a trained, evaluated and documented checkpoint."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from audiorep import datasets, models
from audiorep.datasets import SPLITS, Example, Labels, labels_of, trained_clips
from audiorep.datasets.class_names import look_alikes
from audiorep.datasets.manifest import COLUMNS, joined
from audiorep.evaluation.evaluate import Evaluation, evaluate
from audiorep.evaluation.scored import describe_split
from audiorep.export.sounds import CLIPS
from audiorep.files import open_text, replacing, write_json
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.runtimes.torch import TorchSession
from audiorep.training import card
from audiorep.training.fit import fit
from audiorep.training.recipe import TrainConfig

FOLDS = "folds.json"


def train(
    config: TrainConfig,
    examples: Sequence[Example],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
    classes: Labels | None = None,
) -> list[Evaluation]:
    """Trains, evaluates on the test clips (and the validation clips), and writes everything into `output`.

    `classes` as of `audiorep.training.fit.fit`.

    Raises:
        DataError, ConfigError, CheckpointError: as `audiorep.training.fit.fit`.
    """
    output = Path(output)
    fit(config, examples, output, progress, say, classes)
    write_clips(examples, output / CLIPS)
    loaded = checkpoint.load(output)
    classifier = Classifier(TorchSession(loaded))
    labelled = config.distil.classes == "labels"  # or else there is nothing to compare with
    chosen = {split: [example for example in examples if labelled and example.split == split] for split in SPLITS}
    evaluations = [
        evaluate(classifier, chosen[split], describe_split(data, split, chosen[split]), chosen["train"])
        for split in ("test", "valid")
        if chosen[split]
    ]
    for failure in [failure for evaluation in evaluations for failure in evaluation.failures]:
        say(f"Left out: {failure.error}")
    measured = {e.title: {head: scores.summary for head, scores in e.heads.items()} for e in evaluations}
    checkpoint.annotate(output, measured=measured, tested=trained_clips.filter_of(chosen["test"]))
    front = config.front_end_config
    shape = (1, 1, front.frames(front.samples(config.window_seconds)), front.mels)
    card.write(output, loaded, evaluations, models.cost(loaded.network, shape))
    return evaluations


def train_every_fold(
    config: TrainConfig,
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    format: str | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Trains once for each official fold, tested on it and trained on the others, into `output/fold_<k>`.

    Returns, and writes to `folds.json`, each metric's values, mean and standard deviation (of a sample) over the folds.

    Raises:
        DataError: the data has no folds, or lacks an official one.
    """
    data, output = Path(data), Path(output)
    folds = datasets.folds(data, format)
    measured = {}
    for fold in folds:
        settings = replace(config, splits=replace(config.splits, test_folds=(fold,)))
        examples = datasets.examples(data, format=format, splits=settings.splits)
        say(f"Fold {fold} of {len(folds)}: {describe(examples)}")
        classes = datasets.labels(data, format, settings.splits)
        measured[fold] = train(settings, examples, data, output / f"fold_{fold}", progress, say, classes)[0]
    return summarize_folds(measured, data, output)


def summarize_folds(measured: dict[int, Evaluation], data: Path, output: Path) -> dict[str, Any]:
    """What `train_every_fold` returns, of each fold's evaluation; writes `folds.json`."""
    tables = {
        fold: {**{head: scores.summary for head, scores in e.heads.items()}, **({"joint": e.joint} if e.joint else {})}
        for fold, e in measured.items()
    }
    heads: dict[str, dict[str, Any]] = {}
    for head, metrics in next(iter(tables.values())).items():
        values = {name: [table[head][name] for table in tables.values() if name in table[head]] for name in metrics}
        heads[head] = {
            name: {"mean": mean(found), "deviation": stdev(found) if len(found) > 1 else 0.0, "folds": found}
            for name, found in values.items()
        }
    summary = {"data": data.name, "folds": list(tables), "clips": [e.clips for e in measured.values()], "heads": heads}
    write_json(output / FOLDS, summary)
    return summary


def describe(examples: Sequence[Example]) -> str:
    """How many clips and classes each split has, in one line."""
    parts = []
    for split in SPLITS:
        chosen = [example for example in examples if example.split == split]
        classes = {label for example in chosen for label in example.all_labels}
        parts.append(f"{len(chosen)} clips of {len(classes)} classes to {split}")
    return ", ".join(parts)


def warnings(examples: Sequence[Example], config: TrainConfig) -> list[str]:
    """What about the splits a user should know before training."""
    found = []
    if config.splits.random:
        found.append("The split is drawn at random, as asked for: its numbers compare with no published ones.")
    if not any(example.split == "test" for example in examples):
        found.append("No clips are left to test on, so the model's accuracy will not be known.")
    if config.keep == "best" and not any(example.split == "valid" for example in examples):
        found.append("No clips are left to validate on, so the last epoch's weights are kept.")
    for head, names in labels_of(examples).items():
        alike = list(look_alikes(names))
        if alike:
            first, usual, difference = alike[0]
            more = f", and {len(alike) - 1} more such pairs" if len(alike) > 1 else ""
            found.append(
                f"The classes {usual!r} and {first!r} of {head} look alike and are two: they differ in {difference}{more}. "
                "audiorep data check lists them."
            )
    return found


def write_clips(examples: Sequence[Example], path: Path) -> None:
    """The clips and their splits as a CSV manifest."""
    with replacing(path) as partial, open_text(partial) as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for e in examples:
            label = joined(next(iter(e.labels.values())))
            end = "" if e.end is None else e.end
            place = os.path.relpath(e.path, path.parent)
            place = place if place == place.lstrip() else f"./{place}"  # blanks around a cell are not read
            rows.writerow((place, label, e.start, end, e.split, e.fold, e.group, e.license))
