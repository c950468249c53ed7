"""Raw samples, and WAV streams, from standard input."""

from __future__ import annotations

import os
import select
import struct
import sys

import numpy as np

from audiorep.audio.decoders import RATES
from audiorep.errors import AudioError
from audiorep.listen.sources import Opened, StalledError

FORMATS = {"s16le": ("<i2", 32768.0), "s32le": ("<i4", 2147483648.0), "u8": ("u1", 128.0), "f32le": ("<f4", 1.0)}
"""Raw samples by ffmpeg's names: numpy's name, and what full scale is."""
BLOCK_BYTES = 1 << 16
LONGEST_HEADER = 1 << 20  # bytes before the samples of a WAV stream


class StandardInput:
    """Raw samples, or a WAV stream, whose header tells rate, channels and form."""

    name, is_live, has_clock = "-", False, True

    def __init__(self, rate: int | None, channels: int = 1, form: str = "s16le") -> None:
        self._rate, self._channels, self._form = rate, channels, form

    def open(self) -> Opened:
        """What arrives from now on."""
        place = sys.stdin.fileno()
        begun = _read_exactly(place, 4)
        if begun in (b"RIFF", b"RF64"):
            rate, channels, form = _wav_header(place)
            return RawSamples(place, rate, channels, form)
        if self._rate is None:
            raise AudioError("Standard input is no WAV stream; give the rate of its raw samples, for example --rate 48000.")
        return RawSamples(place, self._rate, self._channels, self._form, begun)


class RawSamples:
    """Raw samples from a file descriptor."""

    def __init__(self, place: int, sample_rate: int, channels: int, form: str, begun: bytes = b"") -> None:
        self.sample_rate = sample_rate
        self._place, self._channels, self._left = place, channels, begun
        self._type, self._scale = FORMATS[form]
        self._middle = 128.0 if form == "u8" else 0.0

    def read(self, seconds: float) -> np.ndarray | None:
        """All whole samples that have arrived."""
        if os.name != "nt" and not select.select([self._place], [], [], seconds)[0]:  # Windows cannot wait for a pipe
            raise StalledError
        if not (content := os.read(self._place, BLOCK_BYTES)):
            return None
        content = self._left + content
        size = self._channels * np.dtype(self._type).itemsize
        whole = len(content) - len(content) % size
        self._left = content[whole:]
        values = np.frombuffer(content[:whole], self._type).astype(np.float32)
        return ((values - self._middle) / self._scale).reshape(-1, self._channels)

    def close(self) -> None:
        """Standard input stays open."""


def _read_exactly(place: int, size: int) -> bytes:
    content = b""
    while len(content) < size and (more := os.read(place, size - len(content))):
        content += more
    return content


def _wav_header(place: int) -> tuple[int, int, str]:
    """Rate, channels and form of a WAV stream of which `RIFF` was read, up to its first sample.

    Raises:
        AudioError: it is damaged, or holds samples of another kind.
    """
    _read_exactly(place, 8)  # a size, which a stream cannot know, and WAVE
    found: tuple[int, int, str] | None = None
    passed = 0
    while passed < LONGEST_HEADER:
        head = _read_exactly(place, 8)
        if len(head) < 8:
            break
        kind, size = struct.unpack("<4sI", head)
        if kind == b"data":
            if found is None:
                break
            return found
        content = _read_exactly(place, min(size + size % 2, LONGEST_HEADER))
        passed += len(content) + 8
        if kind == b"fmt " and len(content) >= 16:
            found = _wav_format(content)
    raise AudioError("Standard input begins like a WAV stream, but its header is damaged.")


def _wav_format(content: bytes) -> tuple[int, int, str]:
    code, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if code == 0xFFFE and len(content) >= 26:  # WAVE_FORMAT_EXTENSIBLE names the kind further on
        code = struct.unpack("<H", content[24:26])[0]
    form = {(1, 8): "u8", (1, 16): "s16le", (1, 32): "s32le", (3, 32): "f32le"}.get((code, bits))
    if form is None or not 1 <= channels <= 1024 or not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"Standard input is a WAV stream of {channels} channels of {bits} bits (kind {code}) at {rate} Hz, which is not "
            f"read; 8, 16 and 32 bits and floats of 32 are."
        )
    return rate, channels, form
