"""Sounds at known samples of a long stream, which is made piece by piece."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from experiments.listen.child import ROOT

FULL = 32767
FAINT = 4  # of 32767: the noise between sounds, below what the model `esc50` calls silence
NOISE = 100_003  # samples, after which the noise comes again
ONSET_SHARE = 0.1  # of its peak, at which a sound begins
CLIPS = (
    *("church_bells", "clock_alarm", "clock_tick", "crickets", "crow", "door_wood_knock", "fireworks", "footsteps"),
    *("rain", "rooster", "sea_waves", "siren"),
)


@dataclass(frozen=True, eq=False)
class Placed:
    """A sound in a stream."""

    name: str
    first: int
    """Its first sample in the stream."""
    samples: np.ndarray
    """(n,) int16."""

    @property
    def end(self) -> int:
        """The sample behind its last."""
        return self.first + len(self.samples)


class Scene:
    """Sounds, in order and apart, in faint noise; every piece of it can be made at any time."""

    def __init__(self, placed: list[Placed], seed: int = 0) -> None:
        self.placed = placed
        self._noise = np.random.default_rng(seed).integers(-FAINT, FAINT + 1, NOISE).astype(np.int16)
        self._ends = [each.end for each in placed]

    def samples(self, first: int, count: int) -> np.ndarray:
        """(count,) int16 from sample `first` on."""
        found = np.resize(np.roll(self._noise, -(first % NOISE))[:count], count)
        for each in self.placed[bisect_left(self._ends, first + 1) :]:
            if each.first >= first + count:
                break
            start, end = max(first, each.first), min(first + count, each.end)
            found[start - first : end - first] += each.samples[start - each.first : end - each.first]
        return found

    def pieces(self, total: int, size: int) -> Iterator[np.ndarray]:
        """The first `total` samples in pieces (size,)."""
        for first in range(0, total, size):
            yield self.samples(first, min(size, total - first))


def clip(name: str, rate: int, seconds: float) -> np.ndarray:
    """(n,) int16 of a sound of the repository, from where it begins."""
    samples, own_rate = soundfile.read(ROOT / "samples" / f"{name}.flac", dtype="float32")
    loud = np.abs(samples)
    samples = samples[int((loud > ONSET_SHARE * loud.max()).argmax()) :][: round(seconds * own_rate)]
    resampled = soxr.resample(samples, own_rate, rate)
    return (0.9 * FULL * resampled.clip(-1, 1)).astype(np.int16)


def scattered(names: tuple[str, ...], rate: int, seconds: float, pauses: tuple[float, float], seed: int = 0) -> list[Placed]:
    """Clips of a second and a half at random, with pauses of random length between, for so many seconds."""
    generator = np.random.default_rng(seed)
    clips = {name: clip(name, rate, 1.5) for name in names}
    placed: list[Placed] = []
    first = round(pauses[0] * rate)
    while first + 3 * rate < seconds * rate:
        name = names[int(generator.integers(len(names)))]
        placed.append(Placed(name, first, clips[name]))
        first = placed[-1].end + round(rate * generator.uniform(*pauses))
    return placed
