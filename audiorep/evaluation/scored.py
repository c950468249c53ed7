"""The scores that a `Classifier` gives labelled clips, and which clips it may be judged on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from audiorep.audio.decode import Stretch
from audiorep.datasets import Example, trained_clips
from audiorep.datasets.class_names import normalized
from audiorep.errors import DataError
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Failure, Recording


@dataclass(frozen=True)
class Scored:
    """Scores of clips beside what they should be."""

    examples: list[Example]
    """The clips that could be read."""
    scores: dict[str, np.ndarray]
    """{head: (clips, K)} by which labels are chosen (see `ModelInfo.contested`)."""
    targets: dict[str, np.ndarray]
    """{head: (clips, K)} of 0 and 1."""
    failures: list[Failure]
    labels: dict[str, list[str]] = field(default_factory=dict)
    """The classes of each head, in the order of its scores."""
    given: dict[str, np.ndarray] = field(default_factory=dict)
    """The scores before that choice."""


def score_clips(
    classifier: Classifier,
    examples: Sequence[Example],
    split: str,
    on_progress: Callable[[float], None] | None = None,
    views: int | None = None,
) -> Scored:
    """Each clip's scores as a file (see `Recording.mean`) over `views` windows, by default the model's number of them.

    Raises:
        DataError: no clip can be read, or one has a label that the model does not know.
    """
    heard = hear(classifier, examples, split, on_progress, classifier.info.views if views is None else views)
    info = classifier.info
    given = {head: np.stack([recording.mean(head) for recording in heard.recordings]) for head in heard.targets}
    scores = {head: info.contested(head, values) for head, values in given.items()}
    return Scored(heard.examples, scores, heard.targets, heard.failures, info.labels, given)


@dataclass(frozen=True)
class Heard:
    """What a model heard in clips, beside what they should be."""

    examples: list[Example]
    """The clips that could be read."""
    recordings: list[Recording]
    targets: dict[str, np.ndarray]
    """{head: (clips, K)} of 0 and 1."""
    failures: list[Failure]


def hear(
    classifier: Classifier,
    examples: Sequence[Example],
    split: str,
    on_progress: Callable[[float], None] | None = None,
    views: int = 0,
) -> Heard:
    """What `classifier` hears in each clip, in `views` windows or, with 0, all, one hop apart.

    Raises:
        DataError: no clip can be read, or one has a label that the model does not know.
    """
    targets = {head: targets_of(examples, head, labels) for head, labels in classifier.info.labels.items()}
    stretches = [Stretch(example.path, example.start, example.end) for example in examples]
    results = list(classifier.files(stretches, on_progress, views))
    failures = [result for result in results if isinstance(result, Failure)]
    good = [index for index, result in enumerate(results) if not isinstance(result, Failure)]
    if not good:
        reason = f"None of the {len(examples)} clips of {split} can be read; the first: {failures[0].error}" if failures else ""
        raise DataError(reason or f"{split} has no clips.")
    recordings = [result for result in results if isinstance(result, Recording)]
    return Heard([examples[i] for i in good], recordings, {head: values[good] for head, values in targets.items()}, failures)


def count_known(classifier: Classifier, examples: Sequence[Example], use: str) -> int:
    """How many of the clips the model was `seen` (trained), `tested` or `calibrated` on, as its provenance tells.

    For `seen`, those of a teacher count too. As few as a filter takes for others by chance are none.
    """
    provenance = classifier.info.provenance
    filters = trained_clips.filters_of(provenance) if use == "seen" else [provenance.get(use, {})]
    count = max(trained_clips.count_trained(memory, examples) for memory in filters)
    return count if count > trained_clips.most_false_matches(len(examples)) else 0


def refuse_trained_clips(classifier: Classifier, examples: Sequence[Example], split: str) -> None:
    """No number on clips that the model, or a teacher of it, was trained on.

    Raises:
        DataError: some of these were.
    """
    if count := count_known(classifier, examples, "seen"):
        raise DataError(
            f"{count} of the {len(examples)} clips of {split} were trained on, so a number for them would say nothing of new "
            "sounds. Choose another split or fold, or other data."
        )


def describe_split(data: str | os.PathLike[str], split: str, examples: Sequence[Example]) -> str:
    """The split in words, with its folds, and whether it was drawn at random."""
    folds = sorted({example.fold for example in examples if example.fold is not None})
    numbers = f", fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}" if folds else ""
    drawn = "random " if any(example.drawn for example in examples) else ""
    return f"{drawn}{split} split of {Path(data).absolute().name}{numbers}"


def targets_of(examples: Sequence[Example], head: str, labels: list[str]) -> np.ndarray:
    """(clips, K) of 0 and 1: which of a head's classes `examples` are labelled with.

    Raises:
        DataError: a clip has no label for the head, or one that is not among `labels`.
    """
    numbers = {normalized(label): k for k, label in enumerate(labels)} | {label: k for k, label in enumerate(labels)}
    targets = np.zeros((len(examples), len(labels)), np.int64)
    for index, example in enumerate(examples):
        names = example.labels.get(head)
        if names is None:
            raise DataError(f"{example.path} has no label for the model's head {head!r}; it has {', '.join(example.labels)}.")
        for name in names:
            if name not in numbers:
                known = f"{len(labels)}: {', '.join(labels[:8])}{' …' if len(labels) > 8 else ''}"
                raise DataError(f"{example.path} is labelled {name!r}, which the model does not know; it knows {known}.")
            targets[index, numbers[name]] = 1
    return targets
