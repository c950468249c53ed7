"""Sounds made on the spot, and the way to the real ones."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import ROOT
from support.sounds import sine

TONE_RATE = 4000  # Hz of the tones that are trained on

os.environ.setdefault("OMP_NUM_THREADS", "1")


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


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """Three classes of 12 clips each, told apart by pitch."""
    root = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(0)
    for label, hertz in {"low": 150, "middle": 500, "high": 1500}.items():
        (root / label).mkdir()
        for number in range(12):
            times = np.arange(int(TONE_RATE * generator.uniform(0.4, 0.9))) / TONE_RATE
            clip = 0.3 * np.sin(2 * np.pi * hertz * generator.uniform(0.9, 1.1) * times) + 0.01 * generator.standard_normal(
                len(times)
            )
            soundfile.write(root / label / f"{number}.wav", clip, TONE_RATE)
    return root
