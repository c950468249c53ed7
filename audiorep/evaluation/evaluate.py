"""A `Classifier` over the clips of a split, as metrics."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.audio.decode import Stretch
from audiorep.config import from_plain
from audiorep.datasets import Example, Splits, trained_clips
from audiorep.datasets.class_names import normalized
from audiorep.errors import DataError
from audiorep.evaluation import rejection
from audiorep.evaluation.metrics import Scorecard, joint, score
from audiorep.evaluation.rejection import Rejection
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Failure


@dataclass(frozen=True)
class Evaluation:
    """What a model reached on a split."""

    split: str
    """Which clips these are, in words."""
    clips: int
    """How many were scored."""
    leaking: int
    """How many of the split are of a recording that training clips are of too."""
    failures: list[Failure]
    heads: dict[str, Scorecard]
    joint: dict[str, float] = field(default_factory=dict)
    """Accuracy of all heads at once (see `metrics.joint`), for models with several."""
    views: int = 0
    """Windows that each clip was heard in; 0: all, one hop apart."""
    rejection: Rejection | None = None
    """What the model makes of sounds of no class, where there are some."""

    @property
    def title(self) -> str:
        """The split in words, with its numbers."""
        leak = f", {self.leaking} of them from recordings that were trained on" if self.leaking else ""
        lost = f", {len(self.failures)} more unreadable" if self.failures else ""
        views = f", {self.views} views each" if self.views > 1 else ""
        return f"{self.split} ({self.clips} clips{views}{leak}{lost})"

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Writes the confusion matrix of the first head as a PNG; a multi-label task has none, and no picture."""
        from audiorep.evaluation import pictures

        card = next(iter(self.heads.values()))
        pictures.confusion(card, [row.label for row in card.classes], self.title, Path(path))

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "split": self.split,
            "clips": self.clips,
            "from_trained_recordings": self.leaking,
            "unreadable": [str(failure.error) for failure in self.failures],
            "views": self.views,
            "heads": {head: card.as_dict() for head, card in self.heads.items()},
            **({"joint": self.joint} if self.joint else {}),
            **({} if self.rejection is None else {"rejection": self.rejection.as_dict()}),
        }


def evaluate(
    classifier: Classifier,
    examples: Sequence[Example],
    split: str,
    trained: Sequence[Example] = (),
    on_progress: Callable[[float], None] | None = None,
    views: int | None = None,
    unknown: Sequence[str | os.PathLike[str]] = (),
) -> Evaluation:
    """Metrics of `classifier` on `examples`; a clip's scores are the mean over its windows, or over `views` of them.

    Clips that cannot be read are counted, listed and left out. `trained` clips tell which recordings were trained on.
    `views` is the model's own number where it is not given. `unknown` are files and folders of sounds of no class.

    Raises:
        DataError: the model was trained on clips of these, no clip can be read, or one has a label that the model does not
            know.
    """
    refuse_trained_clips(classifier, examples, split)
    scored = score_clips(classifier, examples, split, on_progress, views)
    multi_label = classifier.info.activation == "sigmoid"
    heads = classifier.info.labels
    cards = {head: score(scored.scores[head], scored.targets[head], names, multi_label) for head, names in heads.items()}
    together = joint(scored.scores, scored.targets, heads) if len(cards) > 1 and not multi_label else {}
    known = {example.group for example in trained if example.group}
    leaking = sum(example.group in known for example in examples)
    views = classifier.info.views if views is None else views
    rejected = rejection.measure(classifier, next(iter(scored.scores.values())), unknown, on_progress) if unknown else None
    return Evaluation(split, len(scored.examples), leaking, scored.failures, cards, together, views, rejected)


@dataclass(frozen=True)
class Scored:
    """Scores of clips beside what they should be."""

    examples: list[Example]
    """The clips that could be read."""
    scores: dict[str, np.ndarray]
    """{head: (clips, K)}."""
    targets: dict[str, np.ndarray]
    """{head: (clips, K)} of 0 and 1."""
    failures: list[Failure]
    labels: dict[str, list[str]] = field(default_factory=dict)
    """The classes of each head, in the order of its scores."""


def score_clips(
    classifier: Classifier,
    examples: Sequence[Example],
    split: str,
    on_progress: Callable[[float], None] | None = None,
    views: int | None = None,
) -> Scored:
    """Each clip's scores, the mean over its windows; see `evaluate`.

    Raises:
        DataError: no clip can be read, or one has a label that the model does not know.
    """
    views = classifier.info.views if views is None else views
    targets = {head: targets_of(examples, head, labels) for head, labels in classifier.info.labels.items()}
    stretches = [Stretch(example.path, example.start, example.end) for example in examples]
    results = list(classifier.files(stretches, on_progress, views))
    failures = [result for result in results if isinstance(result, Failure)]
    good = [index for index, result in enumerate(results) if not isinstance(result, Failure)]
    if not good:
        reason = f"None of the {len(examples)} clips of {split} can be read; the first: {failures[0].error}" if failures else ""
        raise DataError(reason or f"{split} has no clips.")
    scores = {head: np.stack([results[index].mean(head) for index in good]) for head in targets}  # type: ignore[union-attr]
    wanted = {head: values[good] for head, values in targets.items()}
    return Scored([examples[index] for index in good], scores, wanted, failures, classifier.info.labels)


def refuse_trained_clips(classifier: Classifier, examples: Sequence[Example], split: str) -> None:
    """No number on clips that the model, or a teacher of it, was trained on.

    Raises:
        DataError: some of these were.
    """
    count = max(
        trained_clips.count_trained(memory, examples) for memory in trained_clips.filters_of(classifier.info.provenance)
    )
    if count > trained_clips.most_false_matches(len(examples)):
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


def splits_of(provenance: Mapping[str, Any], test_folds: Sequence[int] | None, valid_folds: Sequence[int] | None) -> Splits:
    """The rule that a model was trained by, as its provenance tells it, or the folds that are asked for."""
    splits = from_plain(Splits, provenance.get("splits", {}))
    if test_folds or valid_folds:
        return replace(splits, test_folds=tuple(test_folds or ()), valid_folds=tuple(valid_folds or ()))
    return splits


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
