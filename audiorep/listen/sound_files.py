"""Sound files as sources, as fast as they are heard or in real time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audiorep import audio
from audiorep.listen.sources import Opened

PACE_SECONDS = 0.1  # of a file that is heard in real time


class SoundFile:
    """A file, as fast as it is heard or in real time."""

    is_live = False

    def __init__(self, path: Path, sample_rate: int, realtime: bool = False) -> None:
        self.name, self.sample_rate, self.has_clock = str(path), sample_rate, realtime
        self._path, self._realtime = path, realtime

    def open(self) -> Opened:
        """The file from its beginning."""
        blocks = audio.blocks(self._path, self.sample_rate)
        first = next(blocks, np.zeros(0, np.float32))  # an unreadable file is refused here
        return _Blocks(self._all(first, blocks), self.sample_rate, self._realtime)

    def _all(self, first: np.ndarray, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        yield first
        yield from blocks


class _Blocks:
    """Blocks (n,) as a source, in real time if that is asked for."""

    def __init__(self, blocks: Iterator[np.ndarray], sample_rate: int, realtime: bool) -> None:
        self.sample_rate = sample_rate
        self._blocks = _pieces(blocks, round(PACE_SECONDS * sample_rate)) if realtime else blocks
        self._begun, self._given, self._realtime = time.monotonic(), 0, realtime

    def read(self, seconds: float) -> np.ndarray | None:
        """The next block, when its last sample would have been heard."""
        if (block := next(self._blocks, None)) is None:
            return None
        self._given += len(block)
        if self._realtime:
            time.sleep(max(0.0, self._begun + self._given / self.sample_rate - time.monotonic()))
        return block[:, None]

    def close(self) -> None:
        """Nothing is held but the file, which goes with its blocks."""


def _pieces(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    for block in blocks:
        yield from (block[first : first + size] for first in range(0, len(block), size))
