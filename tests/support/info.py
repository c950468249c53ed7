"""Information of made-up models."""

from __future__ import annotations

from typing import Any

from audiorep.info.model_info import ModelInfo

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
