"""Sessions that turn waveforms into scores, one file a runtime: `Session(path)(waveform) → {head: scores}`."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from audiorep.bundle import ModelInfo


class Session(Protocol):
    """A model ready to run: (B, N) float32 at `info.sample_rate` to {head: scores (B, K) float32}."""

    info: ModelInfo
    device: str
    """What it runs on, for people to read."""

    def __call__(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of each head for each waveform of the batch."""
        ...
