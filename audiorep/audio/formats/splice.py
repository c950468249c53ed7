"""A readable file made of stretches of another file and of bytes that replace its headers."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import IO

Piece = bytes | tuple[int, int]
"""Bytes, or a stretch of the file: (first byte, number of bytes)."""

_BUFFER_BYTES = 1 << 16  # decoders read a few bytes at a time


def splice(file: IO[bytes], pieces: Sequence[Piece]) -> io.BufferedReader:
    """A file with the content of all pieces in order. It closes `file` when it is closed, and keeps no stretch in memory."""
    return io.BufferedReader(_Spliced(file, pieces), _BUFFER_BYTES)


@dataclass(frozen=True)
class Region:
    """The part of a file from byte `start` on, `size` bytes long; positions in it count from `start`."""

    file: IO[bytes]
    start: int
    size: int

    @classmethod
    def whole(cls, file: IO[bytes]) -> Region:
        """The whole file."""
        return cls(file, 0, file.seek(0, os.SEEK_END))

    def at(self, position: int, size: int) -> bytes:
        """The `size` bytes from `position` on; fewer at the end."""
        self.file.seek(self.start + position)
        return self.file.read(max(0, min(size, self.size - position)))

    def starting_at(self, position: int) -> Region:
        """The region from `position` on."""
        return Region(self.file, self.start + position, self.size - position)

    def piece(self, position: int, size: int) -> tuple[int, int]:
        """The stretch of `size` bytes from `position` on, as a piece for `splice`."""
        return self.start + position, size


class _Spliced(io.RawIOBase):
    """The raw file behind `splice`; one read never crosses the end of a piece."""

    def __init__(self, file: IO[bytes], pieces: Sequence[Piece]) -> None:
        self._file, self._pieces = file, pieces
        sizes = [len(piece) if isinstance(piece, bytes) else piece[1] for piece in pieces]
        self._starts = [0, *accumulate(sizes)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        number = bisect_right(self._starts, self._position) - 1
        if number >= len(self._pieces):
            return 0
        inside, wanted = self._position - self._starts[number], min(len(buffer), self._starts[number + 1] - self._position)
        piece = self._pieces[number]
        if isinstance(piece, bytes):
            data = piece[inside : inside + wanted]
        else:
            self._file.seek(piece[0] + inside)
            data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
