"""Made-up models: their information, and scores that can be foreseen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from audiorep.info import EMBEDDING
from audiorep.info.model_info import ModelInfo
from audiorep.runtimes import Session

RATE = 1000  # Hz of the made-up model: seconds are easily counted, and files are small


def make_info(**changes: Any) -> ModelInfo:
    """What a made-up model of three classes and one-second windows says of itself."""
    values: dict[str, Any] = {
        "name": "fake",
        "labels": {"label": ["mean", "peak", "rest"]},
        "sample_rate": RATE,
        "window_seconds": 1.0,
        "hop_seconds": 0.5,
        "front_end": {},
    }
    return ModelInfo(**{**values, **changes})


class FakeSession(Session):
    """Scores that can be foreseen: the window's mean, its peak, and what is left of one; and ten times the first two."""

    device = "none"

    def __init__(self, info: ModelInfo | None = None, before: Callable[[int], None] = lambda call: None) -> None:
        self.info = info or make_info(embedding_size=2)
        self.batches: list[int] = []
        self._before = before

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        assert waveform.dtype == np.float32
        assert waveform.ndim == 2
        self._before(len(self.batches))
        self.batches.append(len(waveform))
        mean, peak = waveform.mean(axis=1), np.abs(waveform).max(axis=1)
        scores, embedding = np.stack([mean, peak, 1 - peak], axis=1), 10 * np.stack([mean, peak], axis=1)
        return {output: embedding if output == EMBEDDING else scores for output in outputs}
