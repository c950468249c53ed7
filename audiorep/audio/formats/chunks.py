"""Where the samples lie in files made of chunks (WAV, RF64, W64, AIFF, CAF) and in AU: what is declared, and what is there.

Decoders believe the declaration. It is too small where a 32-bit number was wrapped or never brought up to date, too large
where the file was cut, and 0 or the largest number where the recorder could not seek back to write it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from audiorep.audio.formats.splice import Piece, Region

MOST = 10_000  # chunks before the samples, and after them: more are no chunks
SLACK = 64  # bytes; some recorders count the header among the samples

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of every other name
_NO_SOUND = (b"TAG", b"ID3", b"APETAGEX")  # tags of other formats, which some programs append
_KNOWN = frozenset(
    b"LIST list fact PEAK bext iXML _PMX id3  ID3  JUNK junk PAD  FLLR cue  plst smpl inst acid axml chna umid afsp DISP levl "
    b"guan wamd MARK COMT INST MIDI AESD APPL NAME AUTH (c)  ANNO ID3  CHAN FVER SAUR basc trns cart link".split(b" ")
) | {b"id3 ", b"ID3 ", b"PAD ", b"cue ", b"(c) "}


@dataclass(frozen=True)
class Samples:
    """The chunk of samples."""

    start: int
    """Its first byte."""
    declared: int | None
    """Bytes; None where the recorder did not know."""
    patches: tuple[tuple[int, bytes], ...]
    """(position, bytes) in the header that make a decoder read on to the end of the file."""
    chunks: Chunks | None
    """How chunks after it are read; None where none can follow."""


@dataclass(frozen=True)
class Chunks:
    """How a container writes the name and the size of a chunk."""

    header: int
    """Bytes of both."""
    padding: int
    """Chunks begin at multiples of it."""
    name_and_size: Callable[[bytes], tuple[bytes, int]]
    """The size is that of the body."""

    def at(self, file: Region, position: int) -> tuple[bytes, int] | None:
        """The chunk there, or None at the file's end."""
        head = file.at(position, self.header)
        return self.name_and_size(head) if len(head) == self.header else None

    def walk(self, file: Region, position: int) -> Iterator[tuple[int, bytes, int]]:
        """(position, name, size of the body) of every chunk from there on, as long as sizes can be."""
        for _ in range(MOST):
            if (found := self.at(file, position)) is None:
                return
            yield position, *found
            if found[1] < 0:
                return
            position = self.next(position, found[1])

    def next(self, position: int, size: int) -> int:
        """Where the chunk after it begins."""
        end = position + self.header + size
        return end + -end % self.padding


def find(file: Region) -> Samples | None:
    """The samples of a file whose header is of a known kind; None of all others, and where it names none."""
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
    """The file with a header that declares all of it to be samples."""
    header = bytearray(file.at(0, samples.start))
    for position, data in samples.patches:
        header[position : position + len(data)] = data
    return [bytes(header), file.piece(samples.start, file.size - samples.start)]


def behind(file: Region, samples: Samples) -> tuple[bool, int | None]:
    """Whether what follows the declared samples is sound too, and where another file joined to this one begins."""
    end = samples.start + (samples.declared or 0)
    if samples.chunks is None:
        rest = file.at(end, 4)
        return (False, end) if rest in (b".snd", b"dns.") else (file.size - end > SLACK, None)
    for first in sorted({end + -end % samples.chunks.padding, end}, reverse=True):
        is_chunks, joined = _follow(file, samples.chunks, first)
        if is_chunks or joined is not None:
            return False, joined
    return file.size - end > SLACK and not file.at(end, 8).startswith(_NO_SOUND), None


def _follow(file: Region, chunks: Chunks, position: int) -> tuple[bool, int | None]:
    """Whether chunks follow there, and where a joined file begins among them."""
    known = False
    for _ in range(MOST):
        if position >= file.size:
            return known or position <= file.size + chunks.padding, None
        if find(file.behind(position)) is not None:
            return known, position
        found = chunks.at(file, position)
        if found is None:
            return known or file.size - position < chunks.header, None
        name, size = found
        if size < 0 or not all(32 <= byte < 127 for byte in name):
            break
        known = known or name in _KNOWN
        position = chunks.next(position, size)
    return known, None


def _wav(file: Region, mark: bytes) -> Samples | None:
    order = ">" if mark == b"RIFX" else "<"
    chunks = Chunks(8, 2, lambda head: struct.unpack(f"{order}4sI", head))
    size_64, patches = 0, [(0, mark if mark == b"RIFX" else b"RIFF"), (4, struct.pack(f"{order}I", 8))]
    for position, name, size in chunks.walk(file, 12):
        if name == b"ds64":  # in RF64 (EBU 3306), where the chunk's own size is too small a number
            size_64 = int.from_bytes(file.at(position + 16, 8), "little")
            patches.append((position, b"JUNK"))
        elif name == b"data":
            declared = size_64 if size == 0xFFFFFFFF and size_64 else size
            # what a recorder writes that cannot seek back (ffmpeg, sox, arecord), or that was stopped
            open_ended = 0x7FFF_F000 <= declared <= 0x8000_0000 or 0xFFFF_F000 <= declared <= 0xFFFF_FFFF or declared >> 62
            known = declared <= file.size - position - 8 or not open_ended
            patches.append((position + 4, bytes(4)))  # no length at all: libsndfile reads to the end
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
            # offset and block size stand before the first sample
            return Samples(position + 16, max(0, size - 8) if known else None, tuple(patches), chunks)
    return None


def _w64(file: Region) -> Samples | None:
    def name_and_size(head: bytes) -> tuple[bytes, int]:
        named = head[4:16] == _W64_TAIL or head[:16] == _W64_RIFF
        return head[:4] if named else b"\0", struct.unpack_from("<q", head, 16)[0] - 24

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
            # the number of edits stands before the first sample
            declared = max(0, size - 4) if 0 <= size < 1 << 62 else None
            return Samples(position + 16, declared, ((position + 4, length),), chunks)
    return None


def _au(head: bytes) -> Samples:
    order = ">" if head[:1] == b"." else "<"
    start, declared = struct.unpack_from(f"{order}II", head, 4)
    return Samples(start, None if declared == 0xFFFFFFFF else declared, ((8, b"\xff" * 4),), None)
