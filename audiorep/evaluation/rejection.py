"""How well a model tells sounds of none of its classes from those of its classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc

from audiorep import audio
from audiorep.errors import DataError
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Recording


@dataclass(frozen=True)
class Rejection:
    """What a model makes of sounds of no class of its own, beside labelled clips."""

    sounds: int
    """Sounds of no class that were scored."""
    auroc: float
    """Area under the curve of the score of `unknown`: the chance that such a sound has a higher one than a labelled clip."""
    rejected: float
    """Share of these sounds that are reported as `unknown`, or not at all."""
    lost: float
    """Share of the labelled clips that are."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure(
    classifier: Classifier,
    clips: np.ndarray,
    sounds: Sequence[str | os.PathLike[str]],
    on_progress: Callable[[float], None] | None = None,
) -> Rejection:
    """The rejection of `sounds`, files and folders of no class, beside the scores of labelled `clips` (clips, K).

    Raises:
        DataError: none of the sounds can be read.
    """
    results = list(classifier.files(audio.find(sounds), on_progress))
    scores = [result.mean() for result in results if isinstance(result, Recording)]
    if not scores:
        raise DataError(f"None of the {len(results)} sounds of no class can be read: {results[0].error}")  # type: ignore[union-attr]
    foreign = np.stack(scores)
    values = np.concatenate([unknown_scores(part, classifier.info) for part in (clips, foreign)])
    truth = np.repeat([0, 1], [len(clips), len(foreign)])
    area = binary_auroc(torch.from_numpy(values), torch.from_numpy(truth)).item()
    return Rejection(len(foreign), area, *(float(is_rejected(part, classifier.info).mean()) for part in (foreign, clips)))


def unknown_scores(scores: np.ndarray, info: ModelInfo) -> np.ndarray:
    """(clips,) the scores of `unknown` in those (clips, K) of the first head; without such a class 1 less the highest score."""
    names = next(iter(info.labels.values()))
    return scores[:, names.index(info.unknown)] if info.unknown in names else 1 - scores.max(1)


def is_rejected(scores: np.ndarray, info: ModelInfo) -> np.ndarray:
    """(clips,) whether `unknown` is reported of the first head, or nothing, since no class reaches its threshold."""
    head, names = next(iter(info.labels.items()))
    best, reached = info.contested(head, scores).argmax(1), scores >= np.asarray(info.threshold(head))
    told = np.asarray(reached.any(1) if info.activation == "sigmoid" else reached[np.arange(len(scores)), best])
    return ~told | (best == names.index(info.unknown)) if info.unknown in names else ~told
