"""Finds the streams that follow one another in an Ogg file (RFC 3533, section 4: chaining) by its pages."""

from __future__ import annotations

from dataclasses import dataclass

from audiorep.audio.formats.splice import Region

_MARK = b"OggS"
_HEADER = 27  # bytes before the table of segments
_LONGEST_HEADER = _HEADER + 255
_FIRST_PAGE = 2  # flag of the first page of a stream
_SEARCH_BYTES = 1 << 20  # searched at a time for the next page, after damage


@dataclass(frozen=True)
class Links:
    """The streams (links of the chain) of an Ogg file."""

    starts: tuple[int, ...]
    """First byte of each stream, which ends where the next one starts, or where the file ends."""
    is_cut_off: bool
    """Whether the file ends within its last page."""


def links(file: Region) -> Links:
    """The streams of an Ogg file, found by the headers of all pages (a few thousand for an hour of sound)."""
    size, position = file.size, 0
    starts: list[int] = []
    opening = False  # whether the last page was a first page: first pages in a row are of streams that play at once
    while position < size:
        header = file.at(position, _LONGEST_HEADER)
        if header[:4] != _MARK[: len(header)]:
            position = _next_page(file, position + 1, size)
            continue
        end = position + _HEADER + header[26] + sum(header[27 : 27 + header[26]]) if len(header) > _HEADER - 1 else size + 1
        begins = len(header) > 5 and bool(header[5] & _FIRST_PAGE)
        if begins and not opening:
            starts.append(position)
        opening = begins
        position = end
    return Links(tuple(starts), position > size)


def _next_page(file: Region, position: int, size: int) -> int:
    """The first byte of the next page, or `size` if there is none."""
    while position < size:
        block = file.at(position, _SEARCH_BYTES + len(_MARK) - 1)
        if (place := block.find(_MARK)) >= 0:
            return position + place
        position += _SEARCH_BYTES
    return size
