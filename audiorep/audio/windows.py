"""Windows of equal length from a stream of blocks, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

MIN_TAIL_SHARE = 0.1  # of a window; a shorter rest at the end of a sound gets no window of its own


class Cutter:
    """Cuts a window every `hop` samples from the blocks that it is given, whatever their lengths.

    A sound that is shorter than a window is padded to one window (see `pad`). A rest at the end that no window holds gets a
    window of its own if it is at least a tenth of a window long; that window ends where the sound ends.
    """

    def __init__(self, length: int, hop: int, padding: str = "zeros") -> None:
        self._length, self._hop, self._padding = length, hop, padding
        self._buffer = np.zeros(0, np.float32)
        self._buffer_start = self._position = 0
        self.heard = 0
        """Samples so far."""

    def push(self, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(first sample, (length,) window) of the windows that the block completes."""
        self.heard += len(block)
        self._buffer = np.concatenate([self._buffer, block])
        while self._position + self._length <= self.heard:
            yield self._position, self._from(self._position)[: self._length]
            self._position += self._hop
        keep_from = max(min(self._position, self.heard - self._length), self._buffer_start)
        self._buffer, self._buffer_start = self._from(keep_from), keep_from

    def flush(self) -> Iterator[tuple[int, np.ndarray]]:
        """The window of the rest at the end, or of a short sound, if there is one."""
        if self._position == 0 and self.heard:
            yield 0, pad(self._buffer, self._length, self._padding)
        elif self.heard - (self._position - self._hop + self._length) >= max(1, MIN_TAIL_SHARE * self._length):
            start = self.heard - self._length
            yield start, self._from(start)

    def _from(self, start: int) -> np.ndarray:
        return self._buffer[start - self._buffer_start :]


def windows(stream: Iterable[np.ndarray], length: int, hop: int, padding: str = "zeros") -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, (length,) window) for every `hop` samples of a stream of blocks, as `Cutter` cuts them."""
    cutter = Cutter(length, hop, padding)
    for block in stream:
        yield from cutter.push(block)
    yield from cutter.flush()


def views(
    stream: Iterable[np.ndarray], length: int, total: int, count: int, padding: str = "zeros"
) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, (length,) window) of `count` windows spread evenly over a stream of `total` samples.

    A stream that is shorter than a window gives one window, which is padded.
    """
    starts = np.linspace(0, total - length, count).round().astype(int).tolist() if total > length else [0]
    buffer, buffer_start = np.zeros(0, np.float32), 0
    for block in stream:
        buffer = np.concatenate([buffer, block])
        while starts and starts[0] + length <= buffer_start + len(buffer):
            start = starts.pop(0)
            yield start, buffer[start - buffer_start : start - buffer_start + length]
        keep_from = min(starts[0] - buffer_start, len(buffer)) if starts else len(buffer)
        buffer, buffer_start = buffer[keep_from:], buffer_start + keep_from
    for start in starts:  # the stream is short, or resampling made it one sample shorter
        yield start, pad(buffer[start - buffer_start :], length, "zeros" if start else padding)


def pad(waveform: np.ndarray, samples: int, padding: str = "zeros") -> np.ndarray:
    """`waveform` cut or padded at its end to (samples,); `padding` is `zeros`, `edge` (the last sample) or `edge_frames`.

    `edge_frames` returns a short waveform unchanged, because its spectrogram is padded (see `models.front_end.EdgeFrames`).
    """
    missing = max(0, samples - len(waveform))
    if missing and padding == "edge_frames":
        return waveform
    return np.pad(waveform[:samples], (0, missing), mode="edge" if padding == "edge" else "constant")
