"""The seal of an ONNX bundle: length and CRC-32 of its graph, CRC-32 of its metadata, as one more entry of that.

A processor's and a runtime's code trusts the graph it is given: a flipped byte may crash the process or change the scores.
The seal is the file's first field, so that a file cut anywhere has lost more than its seal. It tells damage, not intent:
whoever changes a file on purpose can seal it again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiorep.errors import BundleError
from audiorep.info.model_info import PREFIX, ModelInfo
from audiorep.untrusted import from_json

KEY = f"{PREFIX}seal"
METADATA = 14  # field of a ModelProto (onnx.proto): entries of `key` (field 1) and `value` (field 2)
LENGTH_DELIMITED = 2  # wire type of texts, bytes and messages
FIXED = {1: 8, 5: 4}  # bytes of the other wire types that a field's tag can announce


def seal(content: bytes) -> bytes:
    """An ONNX model with a seal of its graph and metadata in place of any that it had.

    Raises:
        ValueError: it is no protocol buffer.
    """
    whole = b"".join(field for number, field, body in _fields(content) if not _is_seal(number, body))
    entry = _field(1, KEY.encode()) + _field(2, json.dumps(_sums(whole)).encode())
    return _field(METADATA, entry) + whole


def described(content: bytes, metadata: dict[str, str]) -> bytes:
    """A sealed ONNX model with `metadata` in place of what it said of itself; that of other programs is kept.

    Raises:
        ValueError: it is no protocol buffer.
    """
    kept = b"".join(
        field for number, field, body in _fields(content) if number != METADATA or not _entry(body)[0].startswith(PREFIX)
    )
    entries = [_field(1, key.encode()) + _field(2, value.encode()) for key, value in metadata.items()]
    return seal(kept + b"".join(_field(METADATA, entry) for entry in entries))


def information(content: bytes, path: Path) -> ModelInfo:
    """What the model in an ONNX file says of itself, once the file is known to be as it was sealed.

    A file without a seal, as earlier versions wrote them, is taken as it is.

    Raises:
        BundleError: it is damaged, no ONNX file, or not an audiorep model.
    """
    try:
        metadata = dict(_entry(body) for number, _, body in _fields(content) if number == METADATA)
    except ValueError:
        raise BundleError(
            f"{path} is not a model that ONNX Runtime reads: it is cut short, damaged or no ONNX file. Copy or export it again."
        ) from None
    seal_text = metadata.pop(KEY, None)
    info = ModelInfo.from_metadata(metadata, path)  # first, since it says what is wrong
    if seal_text is not None:
        _check(seal_text, _sums(content), path)
    return info


def _check(text: str, sums: dict[str, Any], path: Path) -> None:
    try:
        sealed = from_json(text)
    except ValueError:
        sealed = None
    if not isinstance(sealed, dict) or sealed.get("graph") != sums["graph"]:
        raise BundleError(f"{path} is damaged: its graph is not what was exported. Copy or export it again.")
    if sealed.get("metadata") != sums["metadata"]:
        raise BundleError(
            f"{path} is damaged: its metadata is not what was exported. Copy or export it again; if it was changed on "
            f"purpose, remove its entry {KEY}."
        )


def _sums(content: bytes) -> dict[str, Any]:
    """[length, CRC-32] of all but the metadata, and the CRC-32 of what audiorep says in that, in any order."""
    length = checksum = 0
    told = []
    for number, field, body in _fields(content):
        if number != METADATA:
            length, checksum = length + len(field), zlib.crc32(field, checksum)
        elif not _is_seal(number, body) and (entry := _entry(body))[0].startswith(PREFIX):
            told.append("\0".join(entry))
    return {"graph": [length, checksum], "metadata": zlib.crc32("\0".join(sorted(told)).encode())}


def _is_seal(number: int, body: memoryview) -> bool:
    return number == METADATA and _entry(body)[0] == KEY


def _entry(body: memoryview) -> tuple[str, str]:
    """Key and value of an entry of the metadata."""
    texts = {number: bytes(text).decode() for number, _, text in _fields(body)}
    return texts.get(1, ""), texts.get(2, "")


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
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


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
