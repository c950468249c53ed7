"""Batches of windows from files, decoded by threads while the model runs, in constant memory."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from audiorep import audio
from audiorep.audio import pipes
from audiorep.audio.decoders import rate_problem
from audiorep.errors import AudioError, AudiorepError

BATCH_WINDOWS = 16  # larger batches are no faster on a CPU
QUEUED_CHUNKS = 4  # of each file, decoded before the model needs them
DECODER_THREADS = 2  # each decodes one file at a time

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Stretch:
    """Part of a sound file.

    >>> classifier = audiorep.load("esc50")
    >>> classifier(audiorep.Stretch(Path("samples/recording.flac"), 46.2, 51.2)).seconds
    5.0
    """

    path: Path
    start: float = 0.0
    """Seconds."""
    end: float | None = None
    """Seconds; None is the end of the file."""
    channel: str = "mean"
    """`mean`, `left`, `right` or a channel's number from 1 (see `audio.blocks`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def number(self) -> int | None:
        """The channel's number from 1; None if `channel` is a word."""
        return int(self.channel) if self.channel.isdecimal() else None

    def blocks(self, sample_rate: int, notes: list[str]) -> Iterator[np.ndarray]:
        """Consecutive (n,) float32 blocks at `sample_rate` Hz (see `audio.blocks`)."""
        return audio.blocks(self.path, sample_rate, self.start, self.end, self.channel, notes)

    def seconds(self) -> float:
        """Length in seconds, by the file's headers."""
        length = audio.probe(self.path).seconds
        return (length if self.end is None else min(self.end, length)) - self.start


@dataclass(frozen=True, eq=False)
class Waveform:
    """Samples in memory, of any rate.

    >>> silence = audiorep.Waveform(np.zeros(44100), 44100)
    >>> audiorep.load("esc50")([silence, "samples/crow.flac"])[0].seconds
    1.0

    Raises:
        AudioError: the samples are not floats, their shape is another one, or the rate is not a whole number of Hz.
    """

    samples: np.ndarray
    """(N,) or (N, C) floats in -1..1; channels are averaged."""
    sample_rate: float
    """Hz, a whole number."""
    path: Path = Path("waveform")
    """The name of the waveform in results and errors."""
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
        if problem := rate_problem(rate):
            raise AudioError(problem)

    def blocks(self, sample_rate: int, notes: list[str]) -> Iterator[np.ndarray]:
        """Consecutive (n,) float32 blocks at `sample_rate` Hz (see `audio.blocks_of`)."""
        samples = self.samples if self.samples.ndim == 2 else self.samples[:, None]
        return audio.blocks_of(samples, int(self.sample_rate), sample_rate, self.path, notes)

    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


Source = str | os.PathLike[str] | Stretch | Waveform


class Sound(Protocol):
    """What `chunks_of` needs of a sound; `Stretch` and `Waveform` have it."""

    @property
    def path(self) -> Path:
        """Its name in results and errors."""
        ...

    @property
    def number(self) -> int | None:
        """The channel's number from 1, if each channel is a sound of its own."""
        ...

    def blocks(self, sample_rate: int, notes: list[str]) -> Iterator[np.ndarray]:
        """Consecutive (n,) float32 blocks at `sample_rate` Hz (see `audio.blocks`)."""
        ...

    def seconds(self) -> float:
        """Length in seconds."""
        ...


@dataclass(frozen=True)
class Windowing:
    """How sounds are cut into windows."""

    sample_rate: int
    """Hz of the windows; sounds of other rates are resampled."""
    length: int
    """Samples in a window."""
    hop: int
    """Samples from the start of one window to the start of the next."""
    padding: str = "zeros"
    """How a sound that is shorter than a window is padded (see `audio.pad`)."""
    views: int = 0
    """Number of windows, spread evenly over each sound; 0: all windows, one hop apart."""


@dataclass(frozen=True)
class Chunk:
    """Some consecutive windows of one file."""

    path: Path
    starts: np.ndarray
    """(n,) first sample of each window."""
    windows: np.ndarray
    """(n, N)."""
    seconds: float
    """Length of the sound that these windows hold and earlier windows do not."""
    length: float | None = None
    """In the last chunk of a file that was read to its end: its length in seconds."""
    error: AudiorepError | None = None
    """In the last chunk of a file that cannot be used: why."""
    channel: int | None = None
    """The channel's number from 1, if each channel is a sound of its own."""
    notes: tuple[str, ...] = ()
    """In the last chunk of a file: sentences on how it was read (see `audio.blocks`)."""

    @property
    def is_last(self) -> bool:
        """Whether it is the last chunk of its file."""
        return self.length is not None or self.error is not None


def channel_stretches(paths: Iterable[Path], channel: str) -> Iterator[Stretch]:
    """The stretches to read from each file for `channel`, one of `channels.CHOICES`; `each` gives one stretch for each channel.

    A file that cannot be read gives one stretch; the code that reads it reports the error.
    """
    for path in paths:
        if channel != "each":
            yield Stretch(path, channel=channel)
            continue
        pipes.copy_now(path)
        try:
            count = audio.probe(path).channels
        except AudioError:
            count = 1
        yield from (Stretch(path, channel=str(number)) for number in range(1, count + 1))


def chunks_of(sound: Sound, how: Windowing) -> Generator[Chunk, None, None]:
    """The windows of one sound, some at a time; the last chunk comes when the sound has been read to its end.

    Raises:
        AudioError: the sound cannot be used; the text says why.
    """
    samples, counted_seconds = 0, 0.0
    notes: list[str] = []

    def counted_blocks() -> Iterator[np.ndarray]:
        nonlocal samples
        for block in sound.blocks(how.sample_rate, notes):
            samples += len(block)
            yield block

    last: Chunk | None = None
    for group in _groups(_windows(counted_blocks(), sound, how), BATCH_WINDOWS):
        if last is not None:
            yield last
        starts = np.array([start for start, _ in group])
        seconds = samples / how.sample_rate - counted_seconds
        counted_seconds += seconds
        last = Chunk(sound.path, starts, np.stack([window for _, window in group]), seconds, channel=sound.number)
    if last is None:
        raise AudioError(f"{sound.path} is too short: it has no samples at {how.sample_rate} Hz.")
    seconds = samples / how.sample_rate
    yield replace(last, seconds=last.seconds + seconds - counted_seconds, length=seconds, notes=tuple(notes))


def _windows(stream: Iterator[np.ndarray], sound: Sound, how: Windowing) -> Iterator[tuple[int, np.ndarray]]:
    if not how.views:
        return audio.windows(stream, how.length, how.hop, how.padding)
    return audio.views(stream, how.length, int(sound.seconds() * how.sample_rate), how.views, how.padding)


def batches(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Lists of consecutive chunks with at least `BATCH_WINDOWS` windows together; all windows of a list have the same length.

    A list is shorter at the end, and before a chunk whose windows have another length.
    """
    gathered: list[Chunk] = []
    count = 0
    for chunk in chunks:
        if gathered and len(chunk.windows) and gathered[0].windows.shape[1] != chunk.windows.shape[1]:
            yield gathered
            gathered, count = [], 0
        gathered.append(chunk)
        count += len(chunk.windows)
        if count >= BATCH_WINDOWS:
            yield gathered
            gathered, count = [], 0
    if gathered:
        yield gathered


class Decoder:
    """Iterates over the chunks of each file in order, which threads decode in advance."""

    def __init__(self, sources: Iterable[Source], windowing: Windowing) -> None:
        self._sources = iter(sources)
        self._windowing = windowing
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(DECODER_THREADS, "decode")
        self._copies = ExitStack()
        self._copies.enter_context(pipes.keep_copies())

    def __iter__(self) -> Iterator[Chunk]:
        waiting: deque[queue.Queue[Chunk]] = deque()
        while True:
            while len(waiting) < 4 * DECODER_THREADS and (source := next(self._sources, None)) is not None:
                sound = source if isinstance(source, Stretch | Waveform) else Stretch(Path(source))
                if isinstance(sound, Stretch):
                    pipes.copy_now(sound.path)  # in the main thread, where Ctrl-C can end the wait for the pipe
                chunks: queue.Queue[Chunk] = queue.Queue(QUEUED_CHUNKS)
                self._pool.submit(self._decode, sound, chunks)
                waiting.append(chunks)
            if not waiting:
                return
            chunks = waiting.popleft()
            while not (chunk := chunks.get()).is_last:
                yield chunk
            yield chunk

    def close(self) -> None:
        """Stops the threads and drops the chunks that nobody has read."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._copies.close()

    def _decode(self, sound: Stretch | Waveform, out: queue.Queue[Chunk]) -> None:
        path = sound.path
        no_windows = np.zeros((0, self._windowing.length), np.float32)
        empty = Chunk(path, np.zeros(0, np.int64), no_windows, 0.0, channel=sound.number)
        try:
            for chunk in chunks_of(sound, self._windowing):
                self._put(chunk, out)
        except AudiorepError as error:
            self._put(replace(empty, error=error), out)
        except _StoppedError:
            pass
        except Exception as error:  # an error in one file must not end the others
            reason = AudioError(f"{path} could not be decoded ({type(error).__name__}: {error}).")
            self._put(replace(empty, error=reason), out)

    def _put(self, chunk: Chunk, out: queue.Queue[Chunk]) -> None:
        while not self._stop.is_set():
            try:
                return out.put(chunk, timeout=0.1)
            except queue.Full:
                continue
        raise _StoppedError


class _StoppedError(Exception):
    """The decoder was closed."""


def _groups(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
