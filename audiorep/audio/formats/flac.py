"""Finds the streams of a FLAC file and their true lengths (RFC 9639) by the headers of their last frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

from audiorep.audio.formats.splice import Piece, Region

_MARK = b"fLaC"
_STREAM_INFO = (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22")  # header of the first metadata block: others follow, or none
_TAIL_BYTES = 1 << 17  # a few frames, or most of one of the largest frames
_PROBES = 8  # places in a file that are checked for a second stream
_SEARCH_BYTES = 1 << 20  # read at a time
_TOTAL_BYTE = 21  # of the stream: holds the four highest bits of the number of samples; the lower 32 follow


@dataclass(frozen=True)
class Stream:
    """One stream of a FLAC file."""

    region: Region
    """From its mark `fLaC` to its end."""
    declared_samples: int
    """Samples in each channel by the header; 0 means unknown."""
    found_samples: int | None
    """Samples in each channel by the header of the last frame; None if no last frame was found."""

    def pieces(self) -> list[Piece]:
        """Pieces of the stream with its true length in its header."""
        declared, found = self.declared_samples, self.found_samples
        length = found if declared == 0 or (found or 0) > declared else declared
        if not length:
            return [self.region.piece(0, self.region.size)]
        header = bytearray(self.region.at(0, _TOTAL_BYTE + 5))
        highest = header[_TOTAL_BYTE] & 0xF0 | length >> 32 & 0x0F
        header[_TOTAL_BYTE:] = bytes([highest]) + (length & 0xFFFFFFFF).to_bytes(4, "big")
        return [bytes(header), self.region.piece(len(header), self.region.size - len(header))]


def streams(file: Region) -> list[Stream]:
    """Every stream of a file that begins with the mark `fLaC`; in most files only a few parts are read."""
    first = _stream(file)
    if first.declared_samples and first.found_samples == first.declared_samples and not _numbers_decrease(file):
        return [first]
    starts = [0, *_marks(file)]
    ends = [*starts[1:], file.size]
    return [_stream(Region(file.file, file.start + start, end - start)) for start, end in zip(starts, ends, strict=True)]


def _stream(region: Region) -> Stream:
    header = region.at(0, 42)
    total = int.from_bytes(header[_TOTAL_BYTE : _TOTAL_BYTE + 5], "big") & 0xF_FFFF_FFFF
    tail = region.at(max(0, region.size - _TAIL_BYTES), _TAIL_BYTES)
    ends = {place: end for place in _syncs(tail) if (end := _end_of_frame(tail[place : place + 16], header)) is not None}
    if ends and ends[max(ends)] == total:
        return Stream(region, total, total)
    whole = [end for place, end in sorted(ends.items(), reverse=True)[:8] if _checksum_16(tail[place:]) == 0]
    if whole or not ends:
        return Stream(region, total, whole[0] if whole else None)
    return Stream(region, total, ends[max(ends)] if total == 0 else None)


def _numbers_decrease(file: Region) -> bool:
    """Whether a later frame of the file has a smaller number: then another stream of the same length follows.

    At both ends of the file all frames are checked, because a stream of silence takes few bytes.
    """
    header, numbers = file.at(0, 42), [0]
    size = max(1 << 12, min(1 << 17, 2 * int.from_bytes(header[15:18], "big")))  # twice the largest frame
    for probe in range(_PROBES + 1):
        at_end = probe in (0, _PROBES)
        block = file.at(max(0, file.size - _TAIL_BYTES) * probe // _PROBES, _TAIL_BYTES if at_end else size)
        ends = (_end_of_frame(block[sync : sync + 16], header) for sync in _syncs(block))
        numbers += islice((end for end in ends if end is not None), None if at_end else 1)
    return any(before > after for before, after in pairwise(numbers))


def _marks(file: Region) -> Iterator[int]:
    """The first byte of every stream after the first one."""
    position = 4
    while position < file.size:
        block = file.at(position, _SEARCH_BYTES + 7)
        place = block.find(_MARK)
        while 0 <= place < _SEARCH_BYTES:
            if block[place + 4 : place + 8] in _STREAM_INFO:
                yield position + place
            place = block.find(_MARK, place + 1)
        position += _SEARCH_BYTES


def _syncs(tail: bytes) -> Iterator[int]:
    """The places of all sync codes, with which frames begin."""
    place = tail.find(b"\xff")
    while place >= 0:
        if tail[place + 1 : place + 2] in (b"\xf8", b"\xf9"):
            yield place
        place = tail.find(b"\xff", place + 1)


def _end_of_frame(head: bytes, stream: bytes) -> int | None:
    """The number of the sample after a frame's last one, by its header; None if `head` is not of a frame of the stream."""
    if len(head) < 16 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] & 1 or head[3] >> 4 > 10:
        return None
    channels = (stream[20] >> 1 & 7) + 1
    if (2 if head[3] >> 4 > 7 else (head[3] >> 4) + 1) != channels:
        return None
    number, used = _coded_number(head[4:11])
    size, rate = head[2] >> 4, head[2] & 15
    extra = 4 + used
    at_end = {6: 1, 7: 2}.get(size, 0)
    length = int.from_bytes(head[extra : extra + at_end], "big") + 1 if at_end else _block_size(size)
    end = extra + at_end + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if used == 0 or end >= len(head) or _checksum_8(head[:end]) != head[end]:
        return None
    if head[1] & 1:  # frames vary in size, so the number is that of the first sample
        return number + length
    block_size = int.from_bytes(stream[10:12], "big")  # of every frame but the last, which may be shorter
    return number * block_size + length


def _block_size(code: int) -> int:
    if code == 1:
        return 192
    return 576 << code - 2 if code < 6 else 256 << code - 8


def _coded_number(coded: bytes) -> tuple[int, int]:
    """A number of up to 36 bits in the code of UTF-8, and how many bytes it takes; (0, 0) if the bytes are not such a code."""
    first = coded[0]
    if first < 0x80:
        return first, 1
    count = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= count <= 7 or any(byte >> 6 != 2 for byte in coded[1:count]):
        return 0, 0
    value = first & (0x7F >> count)
    for byte in coded[1:count]:
        value = value << 6 | byte & 0x3F
    return value, count


def _table(polynomial: int, bits: int) -> list[int]:
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
        table.append(value)
    return table


_TABLE_8, _TABLE_16 = _table(0x107, 8), _table(0x18005, 16)


def _checksum_8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _TABLE_8[value ^ byte]
    return value


def _checksum_16(data: bytes) -> int:
    """The checksum of a frame; 0 for a complete frame with its footer."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _TABLE_16[value >> 8 ^ byte]
    return value
