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
from audiorep.errors import AudioError, AudiorepError
from audiorep.info.model_info import ModelInfo

BATCH = 16  # windows run at once; larger batches are no faster on a CPU
AHEAD = 4  # chunks decoded ahead of inference for each file
DECODERS = 2  # files decoded at once

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Stretch:
    """Part of a sound file."""

    path: Path
    start: float = 0.0
    """Seconds."""
    end: float | None = None
    """Seconds; None is the file's end."""
    channel: str = "mean"
    """As `audio.blocks` takes it."""

    @property
    def number(self) -> int | None:
        """The channel's number from 1, where it is named by that."""
        return int(self.channel) if self.channel.isdecimal() else None


Source = str | os.PathLike[str] | Stretch


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

    def __init__(self, sources: Iterable[Source], info: ModelInfo, views: int = 0) -> None:
        self._sources = iter(sources)
        self._info, self._views = info, views
        self._rate, self._length = info.sample_rate, info.window_samples
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(DECODERS, "decode")
        self._kept = ExitStack()
        self._kept.enter_context(pipes.kept())

    def __iter__(self) -> Iterator[Chunk]:
        waiting: deque[queue.Queue[Chunk]] = deque()
        while True:
            while len(waiting) < 4 * DECODERS and (source := next(self._sources, None)) is not None:
                stretch = source if isinstance(source, Stretch) else Stretch(Path(source))
                pipes.keep(stretch.path)  # here, where Ctrl-C ends the wait for it
                chunks: queue.Queue[Chunk] = queue.Queue(AHEAD)
                self._pool.submit(self._decode, stretch, chunks)
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

    def _decode(self, stretch: Stretch, out: queue.Queue[Chunk]) -> None:
        path = stretch.path
        no_windows = np.zeros((0, self._length), np.float32)
        nothing = Chunk(path, np.zeros(0, np.int64), no_windows, 0.0, channel=stretch.number)
        try:
            for chunk in self._chunks(stretch):
                self._put(chunk, out)
        except AudiorepError as error:
            self._put(replace(nothing, end=error), out)
        except _StoppedError:
            pass
        except Exception as error:  # a fault of one file must not end the others
            self._put(replace(nothing, end=AudioError(f"{path} could not be decoded ({type(error).__name__}: {error}).")), out)

    def _chunks(self, stretch: Stretch) -> Iterator[Chunk]:
        heard, told = 0, 0.0
        notes: list[str] = []

        def counted() -> Iterator[np.ndarray]:
            nonlocal heard
            for block in audio.blocks(stretch.path, self._rate, stretch.start, stretch.end, stretch.channel, notes):
                heard += len(block)
                yield block

        held: Chunk | None = None
        for group in _groups(self._windows(counted(), stretch), BATCH):
            if held is not None:
                yield held
            starts = np.array([start for start, _ in group])
            seconds = heard / self._rate - told
            told += seconds
            held = Chunk(stretch.path, starts, np.stack([window for _, window in group]), seconds, channel=stretch.number)
        if held is None:
            raise AudioError(f"{stretch.path} is too short: it has no samples at {self._rate} Hz.")
        seconds = heard / self._rate
        yield replace(held, seconds=held.seconds + seconds - told, end=seconds, notes=tuple(notes))

    def _windows(self, stream: Iterator[np.ndarray], stretch: Stretch) -> Iterator[tuple[int, np.ndarray]]:
        if not self._views:
            return audio.windows(stream, self._length, self._info.hop_samples, self._info.padding)
        about = audio.probe(stretch.path)
        end = about.seconds if stretch.end is None else min(stretch.end, about.seconds)
        return audio.views(stream, self._length, int((end - stretch.start) * self._rate), self._views, self._info.padding)

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
