"""Read sound files of any rate and channel count as mono float32 at one rate, block by block in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from audiorep.audio.channels import Mixer
from audiorep.audio.decoders import Limits, Sound
from audiorep.audio.sources import SUFFIXES, find
from audiorep.audio.windows import MIN_TAIL_SHARE, Cutter, pad, views, windows
from audiorep.errors import AudioError

__all__ = [
    "MIN_TAIL_SHARE",
    "SUFFIXES",
    "AudioFile",
    "Cutter",
    "Limits",
    "Resampler",
    "blocks",
    "blocks_of",
    "checked",
    "find",
    "pad",
    "probe",
    "read",
    "views",
    "windows",
]

BLOCK_SECONDS = 10.0
MAX_AMPLITUDE = 64.0  # larger floats are integers that were not scaled; real overshoot of -1..1 stays far below

_MAX_BLOCK_VALUES = 1 << 22  # of all channels together, whatever rate the header gives


@dataclass(frozen=True)
class AudioFile:
    """Rate, channels, length and encoding of a sound file, from its headers."""

    path: Path
    sample_rate: int
    """Hz of the samples in the file."""
    channels: int
    frames: int
    """Samples in each channel, as the header declares; a damaged file holds fewer."""
    encoding: str
    """Container and sample type, for example `WAV PCM_16`."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def probe(path: str | os.PathLike[str]) -> AudioFile:
    """Rate, channels, length and encoding of the file at `path`, from its headers.

    The length is that of all streams in the file. Headers whose length is known to be wrong are corrected.

    Raises:
        AudioError: the file is missing, a folder, empty, or in a format that libsndfile does not read.
    """
    with Sound(Path(path)) as sound:
        return _describe(sound)


def read(
    path: str | os.PathLike[str], sample_rate: int, start: float = 0.0, end: float | None = None, channel: str = "mean"
) -> np.ndarray:
    """The file, or its stretch from `start` to `end` seconds, as (N,) float32 mono in -1..1 at `sample_rate` Hz.

    `channel` is as in `blocks`.

    Raises:
        AudioError: for the same reasons as in `blocks`.
    """
    return np.concatenate(list(blocks(path, sample_rate, start, end, channel)))


def blocks(
    path: str | os.PathLike[str],
    sample_rate: int,
    start: float = 0.0,
    end: float | None = None,
    channel: str = "mean",
    notes: list[str] | None = None,
    limits: Limits | None = None,
) -> Iterator[np.ndarray]:
    """Consecutive (n,) float32 mono blocks at `sample_rate` Hz, each of about ten seconds.

    `channel` is `mean`, `left`, `right` or the number of a channel, from 1. If the channels of a block cancel each other
    out, one loud channel is used instead of their mean, and at the end a sentence about it is added to `notes`. Resampling
    is streamed at soxr's high quality, so that the borders of blocks leave no trace.

    Raises:
        AudioError: the file is missing, a folder, empty, truncated, not audio, holds NaN or infinite samples, or the
            stretch or the channel lies outside it, or it has more than `limits`. The error is raised at the fault; all
            blocks before it are correct.
    """
    with Sound(Path(path), limits) as sound:
        about = _describe(sound)
        first, last = _stretch(sound, about, start, end)
        mixer = Mixer(about.path, about.channels, channel)
        size = _block_frames(about.sample_rate, about.channels)

        def mono() -> Iterator[np.ndarray]:
            for block in sound.blocks(first, about.frames if last is None else last, size):
                yield checked(mixer.mix(block), about.path)
            if last is None and sound.is_cut_off:
                raise sound.truncated(about.frames, "its last page is cut off")

        yield from _resampled(mono(), about.sample_rate, sample_rate)
        if notes is not None:
            notes.extend(mixer.notes(about.sample_rate))


def blocks_of(
    samples: np.ndarray, rate: int, sample_rate: int, name: Path, notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """Consecutive (n,) float32 mono blocks at `sample_rate` Hz of (N, C) float `samples` in memory, of `rate` Hz.

    The channels are averaged as in `blocks`. Errors and notes call the samples `name`.

    Raises:
        AudioError: the samples hold NaN or infinite values, or integers that were not scaled to -1..1.
    """
    mixer, size = Mixer(name, samples.shape[1], "mean"), _block_frames(rate, samples.shape[1])
    parts = (samples[first : first + size].astype(np.float32) for first in range(0, len(samples), size))
    yield from _resampled((checked(mixer.mix(part), name) for part in parts), rate, sample_rate)
    if notes is not None:
        notes.extend(mixer.notes(rate))


def _block_frames(sample_rate: int, channels: int) -> int:
    return max(1, min(int(BLOCK_SECONDS * sample_rate), _MAX_BLOCK_VALUES // channels))


def _resampled(mono: Iterable[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """(n,) blocks at `sample_rate` Hz from blocks at `rate` Hz."""
    resampler = Resampler(rate, sample_rate)
    for block in mono:
        yield resampler.push(block)
    if rate != sample_rate:
        yield resampler.flush()


class Resampler:
    """Blocks of one rate to blocks of another, by soxr at high quality; the borders of blocks leave no trace."""

    def __init__(self, rate: int, sample_rate: int) -> None:
        self._stream = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, "float32")

    def push(self, block: np.ndarray) -> np.ndarray:
        """(n,) what the block (m,) float32 adds; of the first blocks often nothing yet."""
        return block if self._stream is None else self._stream.resample_chunk(block)

    def flush(self) -> np.ndarray:
        """(n,) the rest, after the last block."""
        empty = np.zeros(0, np.float32)
        return empty if self._stream is None else self._stream.resample_chunk(empty, last=True)


def _describe(sound: Sound) -> AudioFile:
    return AudioFile(sound.path, sound.sample_rate, sound.channels, sound.frames, sound.encoding)


def _stretch(sound: Sound, about: AudioFile, start: float, end: float | None) -> tuple[int, int | None]:
    """The first frame, and the frame after the last one (None: read to the end of the file)."""
    if about.frames == 0 and sound.is_cut_off:
        raise sound.truncated(0, "the data ends early")
    if about.frames == 0:
        raise AudioError(f"{about.path} has no samples. Re-export the file.", "empty")
    first = round(start * about.sample_rate)
    last = None if end is None else round(end * about.sample_rate)
    latest = about.frames + about.sample_rate // 20  # annotations round up, so a stretch may end 0.05 s after the file
    if first < 0 or first >= about.frames or (last is not None and not first < last <= latest):
        stop = "its end" if end is None else f"{end:g} s"
        raise AudioError(f"{about.path} lasts {about.seconds:.2f} s; the stretch from {start:g} s to {stop} is not inside it.")
    return first, None if last is None or last >= about.frames else last


def checked(mono: np.ndarray, name: object, advice: str = " Re-export the file.") -> np.ndarray:
    """`mono` unchanged, (n,); an error calls it `name`, and gives `advice` against samples that are no numbers.

    Raises:
        AudioError: a sample is NaN, infinite or above `MAX_AMPLITUDE`.
    """
    peak = float(np.abs(mono).max(initial=0.0))
    if not np.isfinite(peak):
        raise AudioError(f"{name} holds NaN or infinite samples.{advice}", "non-finite")
    if peak > MAX_AMPLITUDE:
        raise AudioError(
            f"{name} holds samples up to {peak:.0f}; floats must lie in -1..1. Divide integer samples by their range."
        )
    return mono
