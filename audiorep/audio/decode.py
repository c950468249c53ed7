"""Files to batches of windows, decoded by a few threads ahead of their use, in constant memory."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from audiorep import audio
from audiorep.audio import pipes
from audiorep.audio.decoders import RATES
from audiorep.errors import AudioError, AudiorepError

BATCH = 16  # windows run at once; larger batches are no faster on a CPU
AHEAD = 4  # chunks decoded ahead of inference for each file
DECODERS = 2  # files decoded at once

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Stretch:
    """Part of a sound file.

    >>> classifier = audiorep.load()
    >>> classifier(audiorep.Stretch(Path("samples/recording.flac"), 46.2, 51.2)).seconds
    5.0
    """

    path: Path
    start: float = 0.0
    """Seconds."""
    end: float | None = None
    """Seconds; None is the file's end."""
    channel: str = "mean"
    """As `audio.blocks` takes it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def number(self) -> int | None:
        """The channel's number from 1, where it is named by that."""
        return int(self.channel) if self.channel.isdecimal() else None

    def blocks(self, sample_rate: int, notes: list[str]) -> Iterator[np.ndarray]:
        """Consecutive (n,) float32 blocks at `sample_rate` Hz (see `audio.blocks`)."""
        return audio.blocks(self.path, sample_rate, self.start, self.end, self.channel, notes)

    def seconds(self) -> float:
        """Its length by the file's headers."""
        length = audio.probe(self.path).seconds
        return (length if self.end is None else min(self.end, length)) - self.start


@dataclass(frozen=True, eq=False)
class Waveform:
    """Samples in memory, of any rate.

    >>> silence = audiorep.Waveform(np.zeros(44100), 44100)
    >>> audiorep.load()([silence, "samples/crow.flac"])[0].seconds
    1.0

    Raises:
        AudioError: they are no floats, or of another shape, or the rate is no number of Hz.
    """

    samples: np.ndarray
    """(N,) or (N, C) floats in -1..1; channels are averaged."""
    sample_rate: float
    """Hz, a whole number."""
    path: Path = Path("waveform")
    """What results and errors call it."""
    number = None

    def __post_init__(self) -> None:
        samples, rate = self.samples, self.sample_rate
        if samples.dtype.kind != "f":
            raise AudioError(
                f"A waveform of {samples.dtype} was given; floats in -1..1 are needed. Divide integers by their range."
            )
        if samples.ndim not in (1, 2) or 0 in samples.shape:
            raise AudioError(f"A waveform of shape {samples.shape} was given; (N,) or (N, C) with samples is needed.")
        if samples.ndim == 2 and samples.shape[1] > samples.shape[0]:
            raise AudioError(
                f"A waveform of shape {samples.shape} was given, more channels than samples; (N, C) is needed. Transpose it."
            )
        if isinstance(rate, bool) or not RATES[0] <= rate <= RATES[1] or rate != int(rate):
            raise AudioError(f"A sample rate of {rate} Hz was given; whole numbers from {RATES[0]} to {RATES[1]} are allowed.")

    def blocks(self, sample_rate: int, notes: list[str]) -> Iterator[np.ndarray]:
        """Consecutive (n,) float32 blocks at `sample_rate` Hz (see `audio.blocks_of`)."""
        samples = self.samples if self.samples.ndim == 2 else self.samples[:, None]
        return audio.blocks_of(samples, int(self.sample_rate), sample_rate, self.path, notes)

    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.sample_rate


Source = str | os.PathLike[str] | Stretch | Waveform


@dataclass(frozen=True)
class Windowing:
    """How sounds are cut into windows."""

    sample_rate: int
    """Hz of the windows; sounds of other rates are resampled."""
    length: int
    """Samples in a window."""
    hop: int
    """Samples from the start of one to that of the next."""
    padding: str = "zeros"
    """What follows a sound that is shorter than a window (see `audio.pad`)."""
    views: int = 0
    """Windows spread evenly over each sound; 0: all windows, one hop apart."""


@dataclass(frozen=True)
class Chunk:
    """Some consecutive windows of one file."""

    path: Path
    starts: np.ndarray
    """(n,) first samples."""
    windows: np.ndarray
    """(n, N)."""
    seconds: float
    """Of sound that these windows are the first to hold."""
    end: float | AudiorepError | None = None
    """The file's length in seconds if it ends here, its error if it fails here, None if more follows."""
    channel: int | None = None
    """Its number from 1, where each channel is heard by itself."""
    notes: tuple[str, ...] = ()
    """Sentences on how the file was heard, where it ends here."""


def of_channels(paths: Iterable[Path], channel: str) -> Iterator[Stretch]:
    """What to hear of each file for a choice of `channels.CHOICES`: `each` is one stretch a channel.

    A file that cannot be read is one stretch: its reader says why.
    """
    for path in paths:
        if channel != "each":
            yield Stretch(path, channel=channel)
            continue
        pipes.keep(path)
        try:
            count = audio.probe(path).channels
        except AudioError:
            count = 1
        yield from (Stretch(path, channel=str(number)) for number in range(1, count + 1))


def batches(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks gathered until they hold a batch of windows."""
    gathered: list[Chunk] = []
    count = 0
    for chunk in chunks:
        if gathered and len(chunk.windows) and gathered[0].windows.shape[1] != chunk.windows.shape[1]:
            yield gathered
            gathered, count = [], 0
        gathered.append(chunk)
        count += len(chunk.windows)
        if count >= BATCH:
            yield gathered
            gathered, count = [], 0
    if gathered:
        yield gathered


class Decoder:
    """Chunks of windows of each file in order, decoded ahead of their use by a few threads."""

    def __init__(self, sources: Iterable[Source], windowing: Windowing) -> None:
        self._sources = iter(sources)
        self._windowing = windowing
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(DECODERS, "decode")
        self._kept = ExitStack()
        self._kept.enter_context(pipes.kept())

    def __iter__(self) -> Iterator[Chunk]:
        waiting: deque[queue.Queue[Chunk]] = deque()
        while True:
            while len(waiting) < 4 * DECODERS and (source := next(self._sources, None)) is not None:
                sound = source if isinstance(source, Stretch | Waveform) else Stretch(Path(source))
                if isinstance(sound, Stretch):
                    pipes.keep(sound.path)  # here, where Ctrl-C ends the wait for it
                chunks: queue.Queue[Chunk] = queue.Queue(AHEAD)
                self._pool.submit(self._decode, sound, chunks)
                waiting.append(chunks)
            if not waiting:
                return
            chunks = waiting.popleft()
            while (chunk := chunks.get()).end is None:
                yield chunk
            yield chunk

    def close(self) -> None:
        """Stops the threads; what they had decoded is dropped."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._kept.close()

    def _decode(self, sound: Stretch | Waveform, out: queue.Queue[Chunk]) -> None:
        path = sound.path
        no_windows = np.zeros((0, self._windowing.length), np.float32)
        nothing = Chunk(path, np.zeros(0, np.int64), no_windows, 0.0, channel=sound.number)
        try:
            for chunk in self._chunks(sound):
                self._put(chunk, out)
        except AudiorepError as error:
            self._put(replace(nothing, end=error), out)
        except _StoppedError:
            pass
        except Exception as error:  # a fault of one file must not end the others
            self._put(replace(nothing, end=AudioError(f"{path} could not be decoded ({type(error).__name__}: {error}).")), out)

    def _chunks(self, sound: Stretch | Waveform) -> Iterator[Chunk]:
        rate = self._windowing.sample_rate
        heard, told = 0, 0.0
        notes: list[str] = []

        def counted() -> Iterator[np.ndarray]:
            nonlocal heard
            for block in sound.blocks(rate, notes):
                heard += len(block)
                yield block

        held: Chunk | None = None
        for group in _groups(self._windows(counted(), sound), BATCH):
            if held is not None:
                yield held
            starts = np.array([start for start, _ in group])
            seconds = heard / rate - told
            told += seconds
            held = Chunk(sound.path, starts, np.stack([window for _, window in group]), seconds, channel=sound.number)
        if held is None:
            raise AudioError(f"{sound.path} is too short: it has no samples at {rate} Hz.")
        seconds = heard / rate
        yield replace(held, seconds=held.seconds + seconds - told, end=seconds, notes=tuple(notes))

    def _windows(self, stream: Iterator[np.ndarray], sound: Stretch | Waveform) -> Iterator[tuple[int, np.ndarray]]:
        cut = self._windowing
        if not cut.views:
            return audio.windows(stream, cut.length, cut.hop, cut.padding)
        return audio.views(stream, cut.length, int(sound.seconds() * cut.sample_rate), cut.views, cut.padding)

    def _put(self, chunk: Chunk, out: queue.Queue[Chunk]) -> None:
        while not self._stop.is_set():
            try:
                return out.put(chunk, timeout=0.1)
            except queue.Full:
                continue
        raise _StoppedError


class _StoppedError(Exception):
    """The user of the decoder has gone."""


def _groups(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
