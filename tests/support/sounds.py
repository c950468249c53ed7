"""Sounds made on the spot, and what is heard in them."""

from __future__ import annotations

import numpy as np


def sine(frequency: float, seconds: float, sample_rate: int, level: float = 0.5) -> np.ndarray:
    """(N,) float32 of one frequency, whose peak is `level`."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def loudest_frequency(waveform: np.ndarray, sample_rate: int) -> float:
    """Hz of the highest peak of the spectrum."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum) * sample_rate / len(waveform))
