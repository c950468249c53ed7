"""The streams that follow one another in an Ogg file (RFC 3533, section 4: chaining), found by its pages."""

from __future__ import annotations

from dataclasses import dataclass

from audiorep.audio.formats.splice import Region

_MARK = b"OggS"
_HEADER = 27  # bytes before the table of segments
_LONGEST_HEADER = _HEADER + 255
_BEGINS = 2  # flag of a stream's first page
_SEARCHED = 1 << 20  # bytes at a time, between damaged pages


@dataclass(frozen=True)
class Links:
    """Where the streams lie."""

    starts: tuple[int, ...]
    """First byte of each; its end is the next one's start, or the file's end."""
    cut: bool
    """The last page ends after the file does."""


def links(file: Region) -> Links:
    """The streams of an Ogg file, from the header of every page (some thousand an hour)."""
    size, position = file.size, 0
    starts: list[int] = []
    opening = False  # pages that begin streams stand together: these streams play at once
    while position < size:
        header = file.at(position, _LONGEST_HEADER)
        if header[:4] != _MARK[: len(header)]:
            position = _next_page(file, position + 1, size)
            continue
        end = position + _HEADER + header[26] + sum(header[27 : 27 + header[26]]) if len(header) > _HEADER - 1 else size + 1
        begins = len(header) > 5 and bool(header[5] & _BEGINS)
        if begins and not opening:
            starts.append(position)
        opening = begins
        position = end
    return Links(tuple(starts), position > size)


def _next_page(file: Region, position: int, size: int) -> int:
    """Where the next page begins, or `size`."""
    while position < size:
        block = file.at(position, _SEARCHED + len(_MARK) - 1)
        if (place := block.find(_MARK)) >= 0:
            return position + place
        position += _SEARCHED
    return size
