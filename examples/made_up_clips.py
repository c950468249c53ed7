"""Write a folder of labelled clips to try training on: three kinds of tones, as `clips/<class>/<number>.wav`."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 4000
TINY: dict[str, Any] = {  # settings of a network that learns such tones in seconds; for real sounds the defaults are better
    "architecture": "arin_pico",
    "network": {"depths": [1, 1], "time_kernels": [3], "frequency_kernels": [3]},
    "optimizer": {"learning_rate": 0.01},
    "front_end": {"sample_rate": RATE, "window_ms": 32, "hop_ms": 16, "n_fft": 128, "mels": 16},
    "window_seconds": 0.5,
    "batch_size": 8,
    "epochs": 10,
}


def write(folder: Path, clips: int = 20) -> Path:
    """The folder `clips` below `folder`."""
    generator = np.random.default_rng(0)
    for label, hertz in {"low": 150, "middle": 500, "high": 1500}.items():
        (folder / "clips" / label).mkdir(parents=True)
        for number in range(clips):
            tone = np.sin(2 * np.pi * hertz * generator.uniform(0.9, 1.1) * np.arange(2400) / RATE)
            soundfile.write(folder / "clips" / label / f"{number}.wav", 0.3 * tone, RATE)
    return folder / "clips"
