"""Sounds made on the spot, and the way to the real ones."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiorep.info.model_info import ModelInfo

ROOT = Path(__file__).resolve().parent.parent
RATE = 1000  # Hz of the made-up model: seconds are easily counted, and files are small

os.environ.setdefault("OMP_NUM_THREADS", "1")


def sine(frequency: float, seconds: float, sample_rate: int, level: float = 0.5) -> np.ndarray:
    """(N,) float32 of one frequency, whose peak is `level`."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def loudest_frequency(waveform: np.ndarray, sample_rate: int) -> float:
    """Hz of the highest peak of the spectrum."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum) * sample_rate / len(waveform))


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


@pytest.fixture
def tone(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sine under the test's own folder and gives its path."""

    def write(
        name: str,
        frequency: float = 440.0,
        seconds: float = 1.0,
        sample_rate: int = 16000,
        level: float = 0.5,
        channels: int = 1,
        subtype: str | None = None,
        format: str | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        waveform = sine(frequency, seconds, sample_rate, level)
        soundfile.write(path, np.tile(waveform[:, None], (1, channels)), sample_rate, subtype, format=format)
        return path

    return write


@pytest.fixture(scope="session")
def audiorep_data() -> Path:
    """The folder of real audio: AUDIOREP_DATA, or ../shared/data beside the project."""
    given = os.environ.get("AUDIOREP_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real audio: {folder} does not exist; name its folder in AUDIOREP_DATA")
    return folder


@pytest.fixture(autouse=True)
def no_lapses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule of the engine that fails on an operator costs a user that operator; here it is a fault of ours, and is shown."""
    lapses = sys.modules.get("audiorep.reparam.lapses")

    def told(error: Exception) -> str:
        pytest.fail("".join(traceback.format_exception(error)))

    if lapses is not None:
        monkeypatch.setattr(lapses, "reason", told)
