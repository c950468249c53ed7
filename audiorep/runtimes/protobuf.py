"""Protocol buffers, as ONNX files are: read and written field by field, without the package of that name."""

from __future__ import annotations

from collections.abc import Iterator

LENGTH_DELIMITED = 2  # wire type of texts, bytes and messages
FIXED = {1: 8, 5: 4}  # bytes of the other wire types that a field's tag can announce


def fields(message: bytes | memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """(number, the field as it is, what it holds) of each field of a protocol buffer.

    Raises:
        ValueError: it is none, or cut short.
    """
    message, place = memoryview(message), 0
    while place < len(message):
        start = place
        tag, place = _number(message, place)
        kind = tag & 7
        if kind == 0:
            _, place = _number(message, place)
            size = 0
        elif kind == LENGTH_DELIMITED:
            size, place = _number(message, place)
        else:
            size = FIXED.get(kind, len(message))
        if size > len(message) - place:
            raise ValueError("cut short, or no such field")
        yield tag >> 3, message[start : place + size], message[place : place + size]
        place += size


def _number(message: memoryview, place: int) -> tuple[int, int]:
    """A whole number in groups of seven bits, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        value, place = value | (byte & 127) << shift, place + 1
        if byte < 128:
            return value, place
    raise ValueError("no number")


def field(number: int, body: bytes) -> bytes:
    """A field that holds a text, bytes or a message."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(body)) + body


def varint(value: int) -> bytes:
    """A whole number in groups of seven bits, the lowest first."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def number(place: int, value: int) -> bytes:
    """A field that holds a whole number that is not negative."""
    return varint(place << 3) + varint(value)


def varint_of(part: memoryview) -> int:
    """The whole number that a field of `fields` holds, given as it is."""
    _, place = _number(part, 0)
    return _number(part, place)[0]
