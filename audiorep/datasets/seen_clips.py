"""Which clips a model has seen, in a few bits a clip, so that no number is reported on what it was trained on."""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from audiorep.datasets.example import Example

BITS, HASHES = 20, 14  # a clip: one of 15,000 others is taken for seen (Bloom 1970)
PARTS = 8  # bytes of the digest a hash is made of


def remember(examples: Sequence[Example]) -> dict[str, Any]:
    """A Bloom filter of the clips' identities, as plain values for a model's provenance."""
    size = max(64, BITS * len(examples))
    bits = np.zeros(-(-size // 8) * 8, bool)
    for example in examples:
        bits[_places(example, len(bits))] = True
    packed = zlib.compress(np.packbits(bits).tobytes())
    return {"clips": len(examples), "bits": len(bits), "filter": base64.b85encode(packed).decode()}


def memories(provenance: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What a model remembers of the clips that it and its teachers were trained on."""
    yield provenance.get("seen", {})
    for teacher in provenance.get("teachers", []):
        yield from memories(teacher)


def count_seen(memory: dict[str, Any], examples: Iterable[Example]) -> int:
    """How many of the clips are among those remembered; 0 where a model remembers none."""
    if not memory.get("clips"):
        return 0
    try:
        packed = zlib.decompressobj().decompress(base64.b85decode(memory["filter"]), int(memory["bits"]) // 8)
        bits = np.unpackbits(np.frombuffer(packed, np.uint8))
        return sum(bool(bits[_places(example, int(memory["bits"]))].all()) for example in examples)
    except (KeyError, TypeError, ValueError, IndexError, zlib.error):
        return 0  # a damaged memory forbids nothing


def chance(count: int) -> int:
    """Clips of `count` that may be taken for seen though none is, at one in a thousand such evaluations."""
    expected = count * 2.0**-HASHES
    return math.ceil(expected + 4 * math.sqrt(expected))


def _places(example: Example, bits: int) -> np.ndarray:
    digest = hashlib.shake_128(example.identity.encode(errors="surrogateescape")).digest(PARTS * HASHES)
    return np.frombuffer(digest, "<u8") % np.uint64(bits)
