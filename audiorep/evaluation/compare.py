"""Two models, checkpoints or deployed files, on the same labelled clips: accuracy and its uncertainty, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audiorep import runtimes
from audiorep.datasets import Example
from audiorep.errors import ConfigError
from audiorep.evaluation.intervals import resampled, wilson
from audiorep.evaluation.metrics import mean_average_precision
from audiorep.evaluation.scored import Scored, refuse_trained_clips, score_clips
from audiorep.predict.agreement import agreement
from audiorep.predict.classifier import Classifier


@dataclass(frozen=True)
class Accuracy:
    """A model's accuracy on labelled clips."""

    name: str
    clips: int
    metric: str
    """`top1`, or `mean_average_precision` for multi-label models; of several heads, their mean."""
    accuracy: float
    low: float
    """The lower end of its 95 % interval over clips like these."""
    high: float
    scored: Scored = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {key: value for key, value in vars(self).items() if key != "scored"}


@dataclass(frozen=True)
class Difference:
    """How a model differs from another on the same clips."""

    change: float
    """Accuracy of the second less that of the first."""
    low: float
    """The lower end of its 95 % interval, by resampling the clips (paired)."""
    high: float
    agreement: float
    """Share of clips given the same label in every head."""
    largest: float
    """Largest difference of a score."""
    mean: float

    def refusal(self, loss: float, agreement: float = 0.0) -> str | None:
        """Why the second model does not pass for the first, or None."""
        if refusal := accuracy_refusal(self.change, loss):
            return refusal
        if self.agreement < agreement:
            return f"labels are the same on {self.agreement:.1%} of the clips; {agreement:.1%} is needed"
        return None

    def summary(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def accuracy_refusal(change: float, loss: float) -> str | None:
    """Why a change of accuracy is more than the `loss` that is allowed, or None."""
    if change >= -loss - 1e-9:  # NaN is not
        return None
    return f"accuracy falls by {-100 * change:.1f} points; {100 * loss:g} are allowed"


def measure_accuracy(
    model: Classifier | str | Path,
    examples: Sequence[Example],
    split: str,
    name: str = "",
    on_progress: Callable[[float], None] | None = None,
    allow_trained: bool = False,
) -> Accuracy:
    """The accuracy of a model on `examples`, called `split` in words; `allow_trained` allows clips that it was trained on.

    Raises:
        DataError: as `evaluate.evaluate`.
        BundleError, CheckpointError, ConfigError, MissingExtraError: the model cannot be run here.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(runtimes.open_session(model))
    if not allow_trained:
        refuse_trained_clips(classifier, examples, split)
    scored = score_clips(classifier, examples, split, on_progress)
    multi_label = classifier.info.activation == "sigmoid"
    metric = "mean_average_precision" if multi_label else "top1"

    def accuracy(chosen: np.ndarray | None = None) -> float:
        return _accuracy(scored, metric, chosen)

    clips = len(scored.examples)
    found = accuracy()
    low, high = resampled(accuracy, clips) if multi_label or len(scored.scores) > 1 else wilson(found, clips)
    return Accuracy(name or str(model), clips, metric, found, low, high, scored)


def compare(first: Accuracy, second: Accuracy) -> Difference:
    """How `second` differs from `first`.

    Raises:
        ConfigError: they were not judged on the same clips, or have other heads or classes, or those in another order.
    """
    if first.scored.labels != second.scored.labels:
        raise ConfigError(
            f"{first.name} and {second.name} cannot be compared: they have other classes, or another order of them."
        )
    if first.scored.examples != second.scored.examples:
        raise ConfigError(f"{first.name} and {second.name} cannot be compared: they could not read the same clips.")
    near = agreement(first.scored.scores, second.scored.scores)
    low, high = _change_interval(first, second)
    return Difference(second.accuracy - first.accuracy, low, high, near.agreement, near.largest, near.mean)


def _accuracy(scored: Scored, metric: str, chosen: np.ndarray | None) -> float:
    values = []
    for head, scores in scored.scores.items():
        targets = scored.targets[head]
        if chosen is not None:
            scores, targets = scores[chosen], targets[chosen]
        if metric == "top1":
            values.append(float((scores.argmax(1) == targets.argmax(1)).mean()))
        else:
            values.append(mean_average_precision(scores, targets))
    return float(np.mean(values))


def _change_interval(first: Accuracy, second: Accuracy) -> tuple[float, float]:
    def change(chosen: np.ndarray) -> float:
        return _accuracy(second.scored, second.metric, chosen) - _accuracy(first.scored, first.metric, chosen)

    return resampled(change, first.clips)
