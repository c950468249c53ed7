"""A `Classifier` over the clips of a split, as metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.datasets import Example
from audiorep.decode import Stretch
from audiorep.errors import DataError
from audiorep.metrics import Scorecard, score
from audiorep.predict import Classifier, Failure


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

    @property
    def title(self) -> str:
        """The split in words, with its numbers."""
        leak = f", {self.leaking} of them from recordings that were trained on" if self.leaking else ""
        lost = f", {len(self.failures)} more unreadable" if self.failures else ""
        return f"{self.split} ({self.clips} clips{leak}{lost})"

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "split": self.split,
            "clips": self.clips,
            "from_trained_recordings": self.leaking,
            "unreadable": [str(failure.error) for failure in self.failures],
            "heads": {head: card.as_dict() for head, card in self.heads.items()},
        }


def evaluate(
    classifier: Classifier,
    examples: Sequence[Example],
    split: str,
    trained: Sequence[Example] = (),
    on_progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Metrics of `classifier` on `examples`; a clip's scores are the mean over its windows.

    Clips that cannot be read are counted, listed and left out. `trained` clips tell which recordings were trained on.

    Raises:
        DataError: no clip can be read, or one has a label that the model does not know.
    """
    targets = {head: _targets(examples, head, labels) for head, labels in classifier.info.labels.items()}
    stretches = [Stretch(example.path, example.start, example.end) for example in examples]
    results = list(classifier.files(stretches, on_progress=on_progress))
    failures = [result for result in results if isinstance(result, Failure)]
    good = [index for index, result in enumerate(results) if not isinstance(result, Failure)]
    if not good:
        reason = f"None of the {len(examples)} clips of {split} can be read; the first: {failures[0].error}" if failures else ""
        raise DataError(reason or f"{split} has no clips.")
    cards = {}
    for head, labels in classifier.info.labels.items():
        scores = np.stack([results[index].mean(head) for index in good])  # type: ignore[union-attr]
        cards[head] = score(scores, targets[head][good], labels, classifier.info.activation == "sigmoid")
    known = {example.group for example in trained if example.group}
    return Evaluation(split, len(good), sum(example.group in known for example in examples), failures, cards)


def describe_split(data: Path, split: str, examples: Sequence[Example]) -> str:
    """The split in words, with its folds."""
    folds = sorted({example.fold for example in examples if example.fold is not None})
    numbers = f", fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}" if folds else ""
    return f"{split} split of {data.name}{numbers}"


def _targets(examples: Sequence[Example], head: str, labels: list[str]) -> np.ndarray:
    numbers = {label: k for k, label in enumerate(labels)}
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
