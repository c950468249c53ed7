"""A file to be read that is made of stretches of another one, and of bytes that stand in for its headers."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import IO

Piece = bytes | tuple[int, int]
"""Bytes as they are, or (first byte, number of bytes) of the file."""

_BUFFER = 1 << 16  # bytes; decoders ask for a few at a time


def splice(file: IO[bytes], pieces: Sequence[Piece]) -> io.BufferedReader:
    """The pieces one after another, as a file; it owns `file`, and needs no memory for its stretches."""
    return io.BufferedReader(_Spliced(file, pieces), _BUFFER)


@dataclass(frozen=True)
class Region:
    """A file from one of its bytes on, in which positions count from there."""

    file: IO[bytes]
    start: int
    size: int

    @classmethod
    def whole(cls, file: IO[bytes]) -> Region:
        """All of a file."""
        return cls(file, 0, file.seek(0, os.SEEK_END))

    def at(self, position: int, size: int) -> bytes:
        """`size` bytes from `position` on, or as many as there are."""
        self.file.seek(self.start + position)
        return self.file.read(max(0, min(size, self.size - position)))

    def behind(self, position: int) -> Region:
        """The region from `position` on."""
        return Region(self.file, self.start + position, self.size - position)

    def piece(self, position: int, size: int) -> tuple[int, int]:
        """That stretch, for `splice`."""
        return self.start + position, size


class _Spliced(io.RawIOBase):
    """Reads from one piece at a time."""

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
            found = piece[inside : inside + wanted]
        else:
            self._file.seek(piece[0] + inside)
            found = self._file.read(wanted)
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()
