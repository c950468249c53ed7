"""From labelled clips to a trained, evaluated and documented checkpoint."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from audiorep import checkpoint, models, report
from audiorep.datasets import SPLITS, Example
from audiorep.datasets.manifest import COLUMNS
from audiorep.evaluate import Evaluation, describe_split, evaluate
from audiorep.files import open_text, replacing
from audiorep.parity import CLIPS
from audiorep.predict import Classifier
from audiorep.recipe import TrainConfig
from audiorep.runtimes.torch import TorchSession
from audiorep.train import fit


def train(
    config: TrainConfig,
    examples: Sequence[Example],
    data: Path,
    output: str | os.PathLike[str],
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> list[Evaluation]:
    """Trains, evaluates on the test clips (and the validation clips), and writes everything into `output`.

    Raises:
        DataError, ConfigError, CheckpointError: as `audiorep.train.fit`.
    """
    output = Path(output)
    fit(config, examples, output, progress, say)
    write_clips(examples, output / CLIPS)
    loaded = checkpoint.load(output)
    classifier = Classifier(TorchSession(loaded))
    chosen = {split: [example for example in examples if example.split == split] for split in SPLITS}
    evaluations = [
        evaluate(classifier, chosen[split], describe_split(data, split, chosen[split]), chosen["train"])
        for split in ("test", "valid")
        if chosen[split]
    ]
    for failure in [failure for evaluation in evaluations for failure in evaluation.failures]:
        say(f"Left out: {failure.error}")
    measured = {e.title: {head: card.summary for head, card in e.heads.items()} for e in evaluations}
    checkpoint.annotate(output, measured=measured)
    front = config.front_end_config
    shape = (1, 1, front.frames(front.samples(config.window_seconds)), front.mels)
    report.write(output, loaded, evaluations, models.cost(loaded.network, shape))
    return evaluations


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
    folds = sorted({example.fold for example in examples if example.fold is not None})
    if folds and not (config.splits.test_folds or config.splits.valid_folds):
        named = ", ".join(map(str, folds))
        found.append(
            f"The data has folds ({named}) and none is named to test on; name one: --set splits.test_folds=[{folds[-1]}]"
        )
    if not any(example.split == "test" for example in examples):
        found.append("No clips are left to test on, so the model's accuracy will not be known.")
    return found


def write_clips(examples: Sequence[Example], path: Path) -> None:
    """The clips and their splits as a CSV manifest."""
    with replacing(path) as partial, open_text(partial) as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for e in examples:
            label = ";".join(next(iter(e.labels.values())))
            end = "" if e.end is None else e.end
            rows.writerow((os.path.relpath(e.path, path.parent), label, e.start, end, e.split, e.fold, e.group, e.licence))
