"""Windows of equal length from a stream of blocks, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

MIN_TAIL_SHARE = 0.1  # of a window; a shorter rest at the end of a sound gets no window of its own


def windows(stream: Iterable[np.ndarray], length: int, hop: int, padding: str = "zeros") -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, (length,) window) for every `hop` samples of a stream of blocks.

    A stream that is shorter than a window is padded to one window (see `pad`). A rest at the end that no window holds gets a
    window of its own if it is at least a tenth of a window long; that window ends where the stream ends.
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
    elif total - (position - hop + length) >= max(1, MIN_TAIL_SHARE * length):
        start = total - length
        yield start, buffer[start - buffer_start :]


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
