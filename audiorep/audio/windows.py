"""Streams of blocks as equally long windows, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

TAIL = 0.1  # of a window: less new sound than this at the end does not get a window of its own


def windows(stream: Iterable[np.ndarray], length: int, hop: int, padding: str = "zeros") -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, (length,) window) for every `hop` samples of a stream of blocks, in constant memory.

    A stream shorter than a window is padded to one (see `pad`). What is left at the end gets a window of its own, moved back so
    that it holds only sound, if it brings at least a tenth of a window that no other window has.
    """
    buffer, buffer_start, position, total = np.zeros(0, np.float32), 0, 0, 0
    for block in stream:
        total += len(block)
        buffer = np.concatenate([buffer, block])
        while position + length <= total:
            yield position, buffer[position - buffer_start : position - buffer_start + length]
            position += hop
        keep_from = max(min(position, total - length), buffer_start)
        buffer, buffer_start = buffer[keep_from - buffer_start :], keep_from
    if position == 0 and total:
        yield 0, pad(buffer, length, padding)
    elif total - (position - hop + length) >= max(1, TAIL * length):
        start = total - length
        yield start, buffer[start - buffer_start :]


def views(
    stream: Iterable[np.ndarray], length: int, total: int, count: int, padding: str = "zeros"
) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, (length,) window) of `count` windows spread evenly over a stream of `total` samples, in constant memory.

    A stream shorter than a window gives one, padded.
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
    for start in starts:  # a short stream, or one that resampling left a sample short
        yield start, pad(buffer[start - buffer_start :], length, "zeros" if start else padding)


def pad(waveform: np.ndarray, samples: int, padding: str = "zeros") -> np.ndarray:
    """`waveform` cut at its end, or padded there with `zeros` or with its last sample (`edge`), to (samples,).

    `edge_frames` leaves a short one as it is: its spectrogram is padded (see `models.front_end.EdgeFrames`).
    """
    missing = max(0, samples - len(waveform))
    if missing and padding == "edge_frames":
        return waveform
    return np.pad(waveform[:samples], (0, missing), mode="edge" if padding == "edge" else "constant")
