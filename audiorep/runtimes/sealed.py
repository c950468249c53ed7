"""The seal of an ONNX bundle: length and CRC-32 of its graph, CRC-32 of its metadata, as one more entry of that.

A processor's and a runtime's code trusts the graph it is given: a flipped byte may crash the process or change the scores.
The seal is the file's first field, so that a file cut anywhere has lost more than its seal. It tells damage, not intent:
whoever changes a file on purpose can seal it again.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from audiorep.errors import BundleError
from audiorep.info.model_info import PREFIX, ModelInfo
from audiorep.runtimes.protobuf import field, fields
from audiorep.untrusted import from_json

KEY = f"{PREFIX}seal"
METADATA = 14  # field of a ModelProto (onnx.proto): entries of `key` (field 1) and `value` (field 2)


def seal(content: bytes) -> bytes:
    """An ONNX model with a seal of its graph and metadata in place of any that it had.

    Raises:
        ValueError: it is no protocol buffer.
    """
    whole = b"".join(part for number, part, body in fields(content) if not _is_seal(number, body))
    entry = field(1, KEY.encode()) + field(2, json.dumps(_sums(whole)).encode())
    return field(METADATA, entry) + whole


def described(content: bytes, metadata: dict[str, str]) -> bytes:
    """A sealed ONNX model with `metadata` in place of what it said of itself; that of other programs is kept.

    Raises:
        ValueError: it is no protocol buffer.
    """
    kept = b"".join(
        part for number, part, body in fields(content) if number != METADATA or not _entry(body)[0].startswith(PREFIX)
    )
    entries = [field(1, key.encode()) + field(2, value.encode()) for key, value in metadata.items()]
    return seal(kept + b"".join(field(METADATA, entry) for entry in entries))


def information(content: bytes, path: Path) -> ModelInfo:
    """What the model in an ONNX file says of itself, once the file is known to be as it was sealed.

    A file without a seal, as earlier versions wrote them, is taken as it is.

    Raises:
        BundleError: it is damaged, no ONNX file, or not an audiorep model.
    """
    try:
        metadata = dict(_entry(body) for number, _, body in fields(content) if number == METADATA)
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
    for number, part, body in fields(content):
        if number != METADATA:
            length, checksum = length + len(part), zlib.crc32(part, checksum)
        elif not _is_seal(number, body) and (entry := _entry(body))[0].startswith(PREFIX):
            told.append("\0".join(entry))
    return {"graph": [length, checksum], "metadata": zlib.crc32("\0".join(sorted(told)).encode())}


def _is_seal(number: int, body: memoryview) -> bool:
    return number == METADATA and _entry(body)[0] == KEY


def _entry(body: memoryview) -> tuple[str, str]:
    """Key and value of an entry of the metadata."""
    texts = {number: bytes(text).decode() for number, _, text in fields(body)}
    return texts.get(1, ""), texts.get(2, "")
