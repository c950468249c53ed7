"""One channel from the channels of a sound: their mean, one of them, or a loud one if they cancel each other out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audiorep.errors import AudioError, ConfigError

CHOICES = ("mean", "left", "right", "each")
"""The choices that a user has; `each` makes every channel a sound of its own."""

CANCELLED_RATIO = 0.1
"""Channels cancel if their mean has less than this share of the power that the mean of unrelated channels would have."""
AUDIBLE_POWER = 1e-8  # of full scale (-80 dB); for quieter sounds the mean is always used


class Mixer:
    """Turns blocks of several channels into blocks of one channel.

    Raises:
        AudioError: the sound does not have this channel.
        ConfigError: `channel` is not `mean`, `left`, `right` or a number from 1.
    """

    def __init__(self, path: Path, channels: int, channel: str) -> None:
        self._path, self._index = path, _index(path, channels, channel)
        self._cancelled = self._frames = 0
        self._used_channels: set[int] = set()

    def mix(self, block: np.ndarray) -> np.ndarray:
        """The (n,) block of one channel from an (n, channels) block."""
        self._frames += len(block)
        if block.shape[1] == 1:
            return np.ascontiguousarray(block[:, 0])
        if self._index is not None:
            return np.ascontiguousarray(block[:, self._index])
        with np.errstate(invalid="ignore", over="ignore"):  # the caller refuses infinite samples
            mono = block.mean(axis=1, dtype=np.float32)
            powers = np.einsum("nc,nc->c", block, block) / max(1, len(block))
            mono_power = float(np.dot(mono, mono)) / max(1, len(block))
        if not powers.mean() > AUDIBLE_POWER or not mono_power < CANCELLED_RATIO * powers.mean() / len(powers):
            return mono
        loud = int(np.argmax(powers >= powers.max() / 2))  # the first loud channel, so that blocks do not alternate
        self._cancelled += len(block)
        self._used_channels.add(loud)
        return np.ascontiguousarray(block[:, loud])

    def notes(self, sample_rate: int) -> Iterator[str]:
        """A sentence for the user if channels cancelled each other out."""
        if not self._cancelled:
            return
        seconds, whole = self._cancelled / sample_rate, self._frames / sample_rate
        where = "" if self._cancelled == self._frames else f" in {seconds:.1f} of {whole:.1f} s"
        used = " or ".join(str(index + 1) for index in sorted(self._used_channels))
        yield (
            f"{self._path}: its channels are in opposite phase and cancel each other out{where}; channel {used} was used "
            "instead of their mean."
        )


def _index(path: Path, channels: int, channel: str) -> int | None:
    """The index of the chosen channel, from 0; None for the mean. In a mono sound, `left` and `right` are its only channel."""
    if channel == "mean":
        return None
    if channel in ("left", "right"):
        return min(("left", "right").index(channel), channels - 1)
    if not channel.isdecimal() or int(channel) < 1:
        raise ConfigError(f"The channel {channel!r} was asked for; mean, left, right or a number from 1 is allowed.")
    if int(channel) > channels:
        raise AudioError(f"{path} has {channels} channels; number {channel} is not one of them.")
    return int(channel) - 1
