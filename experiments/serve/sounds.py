"""The clips that are sent: five seconds each, mono, 16 kHz, 16-bit WAV."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from experiments.serve.servers import ROOT

RATE, SECONDS = 16_000, 5.0


def clips() -> list[bytes]:
    """Ten clips of the samples."""
    found = []
    for path in sorted((ROOT / "samples").glob("*.flac")):
        samples, rate = soundfile.read(path, dtype="float32")
        if rate == RATE and samples.ndim == 1 and len(samples) >= SECONDS * RATE:
            found.append(wav(samples[: int(SECONDS * RATE)]))
    return found[:10]


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """A file of samples."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, "PCM_16", format="WAV")
    return file.getvalue()


def compressed(clip: bytes) -> bytes:
    """The same clip in Ogg Vorbis, some 20 kB: a crowd of these is a crowd of requests, and not of bytes."""
    samples, rate = soundfile.read(io.BytesIO(clip), dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, "VORBIS", format="OGG")
    return file.getvalue()


def silence(seconds: float) -> bytes:
    """A long sound in a small file."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(seconds * RATE), np.int16), RATE, format="FLAC")
    return file.getvalue()
