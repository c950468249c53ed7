"""The lowest score at which each class that a tagger was taught is reported, from clips that were left out."""

from __future__ import annotations

import numpy as np

from audiorep.embeddings.few_shot import Examples, Layer
from audiorep.evaluation.thresholds import lowest
from audiorep.info.calibration import calibrated
from audiorep.info.model_info import ModelInfo

COMMON = 0.5
OWN_CLIPS = 20
"""Clips of a class at which its own threshold counts as much as the common one."""


def limits(layer: Layer, examples: Examples, info: ModelInfo) -> list[float]:
    """The threshold of each class: that of its best F1, moved towards `COMMON` by how few clips it has.

    F1 is that among the clips and the background, each scored by what the others taught. A single clip says nothing.

    Args:
        layer: with the logits of windows by the other clips.
        examples: what it was taught with.
        info: of the model that the classes are added to.
    """
    scores, first = file_scores(layer.left_out, examples.clips, info), np.unique(examples.clips, return_index=True)[1]
    found = []
    for number in range(len(layer.weight)):
        right = examples.classes[first] == number
        clips = int(right.sum())
        own = lowest(scores[:, number], right, clips, "f1", 0.0) if clips > 1 else None
        share = clips / (clips + OWN_CLIPS)
        found.append(COMMON if own is None else round(share * own + (1 - share) * COMMON, 6))
    return found


def file_scores(logits: np.ndarray, clips: np.ndarray, info: ModelInfo) -> np.ndarray:
    """(clips, K) what a taught model says of clips as files: the mean over their windows, calibrated where the model is.

    Args:
        logits: (N, K) of windows, as they are when they are calibrated.
        clips: (N,) the clip of each window, numbered from 0 in order.
        info: the model's.
    """
    [head] = info.labels
    settings = info.calibration.get(head, {})
    window = settings.get("window", {})
    raw = (logits - window.get("bias", 0.0)) * window.get("temperature", 1.0)
    borders = np.flatnonzero(np.diff(clips, prepend=-1))
    means = np.add.reduceat(1 / (1 + np.exp(-np.clip(raw, -80, 80))), borders)
    means /= np.diff(borders, append=len(raw))[:, None]
    return calibrated(means, settings["file"], "sigmoid") if "file" in settings else means
