"""A `Classifier` over the clips of a split, as metrics."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiorep.datasets import Example
from audiorep.evaluation import rejection
from audiorep.evaluation.metrics import Scorecard, joint, score
from audiorep.evaluation.rejection import Rejection
from audiorep.evaluation.reliability import Reliability, reliability
from audiorep.evaluation.scored import count_known, refuse_trained_clips, score_clips
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
    reliability: dict[str, Reliability] = field(default_factory=dict)
    """How far each head's scores are probabilities."""
    calibrated: int = 0
    """How many of the clips the scores were calibrated on, which makes them look more reliable."""

    @property
    def title(self) -> str:
        """The split in words, with its numbers."""
        leak = f", {self.leaking} of them from recordings that were trained on" if self.leaking else ""
        known = f", {self.calibrated} of them calibrated on" if self.calibrated else ""
        lost = f", {len(self.failures)} more unreadable" if self.failures else ""
        views = f", {self.views} views each" if self.views > 1 else ""
        return f"{self.split} ({self.clips} clips{views}{leak}{known}{lost})"

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Writes the confusion matrix of the first head as a PNG; a multi-label task has none, and no picture."""
        from audiorep.evaluation import pictures

        card = next(iter(self.heads.values()))
        pictures.confusion(card, [row.label for row in card.classes], self.title, Path(path))

    def draw_reliability(self, path: str | os.PathLike[str]) -> None:
        """Writes the reliability diagram of each head as a PNG."""
        from audiorep.evaluation import pictures

        pictures.reliability(self.reliability, self.title, Path(path))

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
            **({"calibrated_on": self.calibrated} if self.calibrated else {}),
            "reliability": {head: found.as_dict() for head, found in self.reliability.items()},
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
    return Evaluation(
        split,
        len(scored.examples),
        leaking,
        scored.failures,
        cards,
        together,
        views,
        rejection.measure(classifier, next(iter(scored.given.values())), unknown, on_progress) if unknown else None,
        {head: reliability(scored.scores[head], scored.targets[head]) for head in heads},
        count_known(classifier, examples, "calibrated"),
    )
