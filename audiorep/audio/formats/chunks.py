"""Finds the samples in files made of chunks (WAV, RF64, W64, AIFF, CAF) and in AU files, and their true length.

Decoders trust the declared length. It is too small if a 32-bit number overflowed or was not updated, too large if the file
was cut off, and 0 or the largest number if the recorder could not seek back to write it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from audiorep.audio.formats.splice import Piece, Region

MAX_CHUNKS = 10_000  # before the samples, and after them; what looks like more is not chunks
SLACK_BYTES = 64  # by which a declared length may be wrong; some recorders count the header as samples

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_NAME_END = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of every other chunk name
_TAG_MARKS = (b"TAG", b"ID3", b"APETAGEX")  # tags of other formats, which some programs append
_KNOWN_NAMES = frozenset(
    b"LIST list fact PEAK bext iXML _PMX id3  ID3  JUNK junk PAD  FLLR cue  plst smpl inst acid axml chna umid afsp DISP levl "
    b"guan wamd MARK COMT INST MIDI AESD APPL NAME AUTH (c)  ANNO ID3  CHAN FVER SAUR basc trns cart link".split(b" ")
) | {b"id3 ", b"ID3 ", b"PAD ", b"cue ", b"(c) "}


@dataclass(frozen=True)
class Samples:
    """The chunk that holds the samples."""

    start: int
    """First byte of the samples."""
    declared: int | None
    """Bytes of samples by the header; None if the recorder did not know the length."""
    patches: tuple[tuple[int, bytes], ...]
    """(position, bytes) to write into the header, so that a decoder reads to the end of the file."""
    chunks: Chunks | None
    """How to read the chunks that follow; None if none can follow."""


@dataclass(frozen=True)
class Chunks:
    """How a container stores the name and the size of a chunk."""

    header: int
    """Bytes of name and size together."""
    padding: int
    """Every chunk begins at a multiple of this number of bytes."""
    name_and_size: Callable[[bytes], tuple[bytes, int]]
    """Reads a header; the size is that of the chunk's body."""

    def read(self, file: Region, position: int) -> tuple[bytes, int] | None:
        """(name, size of the body) of the chunk at `position`, or None at the end of the file."""
        head = file.at(position, self.header)
        return self.name_and_size(head) if len(head) == self.header else None

    def walk(self, file: Region, position: int) -> Iterator[tuple[int, bytes, int]]:
        """(position, name, size of the body) of every chunk from `position` on, up to one with a negative size."""
        for _ in range(MAX_CHUNKS):
            if (chunk := self.read(file, position)) is None:
                return
            yield position, *chunk
            if chunk[1] < 0:
                return
            position = self.next(position, chunk[1])

    def next(self, position: int, size: int) -> int:
        """Where the next chunk begins, after one at `position` with a body of `size` bytes."""
        end = position + self.header + size
        return end + -end % self.padding


def find_samples(file: Region) -> Samples | None:
    """The samples of a file in one of these formats; None for other files, and if the file has no chunk of samples."""
    head = file.at(0, 40)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wav(file, head[:4])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(file)
    if head[:16] == _W64_RIFF:
        return _w64(file)
    if head[:4] == b"caff":
        return _caf(file)
    if head[:4] in (b".snd", b"dns.") and len(head) >= 12:
        return _au(head)
    return None


def pieces_to_end(file: Region, samples: Samples) -> list[Piece]:
    """Pieces of a file whose header says that the samples go on to the end of `file`."""
    header = bytearray(file.at(0, samples.start))
    for position, data in samples.patches:
        header[position : position + len(data)] = data
    return [bytes(header), file.piece(samples.start, file.size - samples.start)]


def after_samples(file: Region, samples: Samples) -> tuple[bool, int | None]:
    """Whether more samples follow the declared ones, and where another file begins that is joined to this one (or None)."""
    end = samples.start + (samples.declared or 0)
    if samples.chunks is None:
        mark = file.at(end, 4)
        return (False, end) if mark in (b".snd", b"dns.") else (file.size - end > SLACK_BYTES, None)
    for first in sorted({end + -end % samples.chunks.padding, end}, reverse=True):
        is_chunks, joined = _chunks_follow(file, samples.chunks, first)
        if is_chunks or joined is not None:
            return False, joined
    return file.size - end > SLACK_BYTES and not file.at(end, 8).startswith(_TAG_MARKS), None


def _chunks_follow(file: Region, chunks: Chunks, position: int) -> tuple[bool, int | None]:
    """Whether chunks begin at `position`, and where a joined file begins among them (or None)."""
    known = False  # whether a chunk has a known name
    for _ in range(MAX_CHUNKS):
        if position >= file.size:
            return known or position <= file.size + chunks.padding, None
        if find_samples(file.starting_at(position)) is not None:
            return known, position
        chunk = chunks.read(file, position)
        if chunk is None:
            return known or file.size - position < chunks.header, None
        name, size = chunk
        if size < 0 or not all(32 <= byte < 127 for byte in name):
            break
        known = known or name in _KNOWN_NAMES
        position = chunks.next(position, size)
    return known, None


def _wav(file: Region, mark: bytes) -> Samples | None:
    order = ">" if mark == b"RIFX" else "<"
    chunks = Chunks(8, 2, lambda head: struct.unpack(f"{order}4sI", head))
    size_64, patches = 0, [(0, mark if mark == b"RIFX" else b"RIFF"), (4, struct.pack(f"{order}I", 8))]
    for position, name, size in chunks.walk(file, 12):
        if name == b"ds64":  # of RF64 (EBU 3306): 64-bit sizes, because the size field of a chunk has only 32 bits
            size_64 = int.from_bytes(file.at(position + 16, 8), "little")
            patches.append((position, b"JUNK"))
        elif name == b"data":
            declared = size_64 if size == 0xFFFFFFFF and size_64 else size
            # sizes that recorders write if they cannot seek back (ffmpeg, sox, arecord) or were stopped
            open_ended = 0x7FFF_F000 <= declared <= 0x8000_0000 or 0xFFFF_F000 <= declared <= 0xFFFF_FFFF or declared >> 62
            known = declared <= file.size - position - 8 or not open_ended
            patches.append((position + 4, bytes(4)))  # with size 0 libsndfile reads to the end
            return Samples(position + 8, declared if known else None, tuple(patches), chunks)
    return None


def _aiff(file: Region) -> Samples | None:
    chunks = Chunks(8, 2, lambda head: struct.unpack(">4sI", head))
    patches = [(4, bytes(4))]
    for position, name, size in chunks.walk(file, 12):
        if name == b"COMM":
            patches.append((position + 10, bytes(4)))
        elif name == b"SSND":
            patches.append((position + 4, bytes(4)))
            open_ended = 0x7F00_0000 <= size <= 0x8000_0000 or size >= 0xFFFF_0000
            known = size <= file.size - position - 8 or not open_ended
            # the fields offset and block size come before the first sample
            return Samples(position + 16, max(0, size - 8) if known else None, tuple(patches), chunks)
    return None


def _w64(file: Region) -> Samples | None:
    def name_and_size(head: bytes) -> tuple[bytes, int]:
        is_name = head[4:16] == _W64_NAME_END or head[:16] == _W64_RIFF
        return head[:4] if is_name else b"\0", struct.unpack_from("<q", head, 16)[0] - 24

    chunks = Chunks(24, 8, name_and_size)
    for position, name, size in chunks.walk(file, 40):
        if name == b"data":
            length = struct.pack("<q", file.size - position)
            patches = ((16, struct.pack("<q", file.size)), (position + 16, length))
            return Samples(position + 24, max(0, size) if size < 1 << 62 else None, patches, chunks)
    return None


def _caf(file: Region) -> Samples | None:
    chunks = Chunks(12, 1, lambda head: struct.unpack(">4sq", head))
    for position, name, size in chunks.walk(file, 8):
        if name == b"data":
            length = struct.pack(">q", file.size - position - 12)
            # the number of edits comes before the first sample
            declared = max(0, size - 4) if 0 <= size < 1 << 62 else None
            return Samples(position + 16, declared, ((position + 4, length),), chunks)
    return None


def _au(head: bytes) -> Samples:
    order = ">" if head[:1] == b"." else "<"
    start, declared = struct.unpack_from(f"{order}II", head, 4)
    return Samples(start, None if declared == 0xFFFFFFFF else declared, ((8, b"\xff" * 4),), None)
