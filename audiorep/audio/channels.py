"""The channels of a sound as one: their mean, one of them, or a loud one where they cancel each other out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audiorep.errors import AudioError, ConfigError

CHOICES = ("mean", "left", "right", "each")
"""What a user may ask for; `each` is every channel as a sound of its own."""

CANCELLED = 0.1  # of the power that the mean of unrelated channels has: less is left of channels in opposite phase
AUDIBLE = 1e-8  # of full scale's power (-80 dB): what is quieter has nothing to lose


class Mixer:
    """Blocks of several channels to blocks of one.

    Raises:
        AudioError: the sound has no such channel.
        ConfigError: `channel` is nothing that can be asked for.
    """

    def __init__(self, path: Path, channels: int, channel: str) -> None:
        self._path, self._index = path, _index(path, channels, channel)
        self._cancelled = self._frames = 0
        self._taken: set[int] = set()

    def mix(self, block: np.ndarray) -> np.ndarray:
        """(n, channels) to (n,)."""
        self._frames += len(block)
        if block.shape[1] == 1:
            return np.ascontiguousarray(block[:, 0])
        if self._index is not None:
            return np.ascontiguousarray(block[:, self._index])
        with np.errstate(invalid="ignore", over="ignore"):  # infinities: for the caller to refuse
            mono = block.mean(axis=1, dtype=np.float32)
            powers = np.einsum("nc,nc->c", block, block) / max(1, len(block))
            left = float(np.dot(mono, mono)) / max(1, len(block))
        if not powers.mean() > AUDIBLE or not left < CANCELLED * powers.mean() / len(powers):
            return mono
        loud = int(np.argmax(powers >= powers.max() / 2))  # the first such one, so that blocks do not take turns
        self._cancelled += len(block)
        self._taken.add(loud)
        return np.ascontiguousarray(block[:, loud])

    def notes(self, sample_rate: int) -> Iterator[str]:
        """A sentence, where channels cancelled each other out."""
        if not self._cancelled:
            return
        seconds, whole = self._cancelled / sample_rate, self._frames / sample_rate
        where = "" if self._cancelled == self._frames else f" in {seconds:.1f} of {whole:.1f} s"
        taken = " or ".join(str(index + 1) for index in sorted(self._taken))
        yield (
            f"{self._path}: its channels are in opposite phase and cancel each other out{where}; channel {taken} was heard "
            "instead of their mean."
        )


def _index(path: Path, channels: int, channel: str) -> int | None:
    """The number of the channel asked for, from 0; None for the mean. The only channel there is stands for both sides."""
    if channel == "mean":
        return None
    if channel in ("left", "right"):
        return min(("left", "right").index(channel), channels - 1)
    if not channel.isdecimal() or int(channel) < 1:
        raise ConfigError(f"The channel {channel!r} was asked for; mean, left, right or a number from 1 is allowed.")
    if int(channel) > channels:
        raise AudioError(f"{path} has {channels} channels; number {channel} is not one of them.")
    return int(channel) - 1
