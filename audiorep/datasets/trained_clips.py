"""Remembers the training clips of a model in a Bloom filter, so that no evaluation uses them."""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from audiorep.datasets.example import Example

BITS_PER_CLIP, HASHES = 20, 14  # one of 15,000 other clips is taken for a training clip (Bloom 1970)
HASH_BYTES = 8


def filter_of(examples: Sequence[Example]) -> dict[str, Any]:
    """A Bloom filter of the clips' identities as plain values, for a model's provenance."""
    size = max(64, BITS_PER_CLIP * len(examples))
    bits = np.zeros(-(-size // 8) * 8, bool)
    for example in examples:
        bits[_places(example, len(bits))] = True
    packed = zlib.compress(np.packbits(bits).tobytes())
    return {"clips": len(examples), "bits": len(bits), "filter": base64.b85encode(packed).decode()}


def filters_of(provenance: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The filters of the clips that a model and its teachers were trained on, or taught with later."""
    yield provenance.get("seen", {})
    yield provenance.get("taught", {})
    for teacher in provenance.get("teachers", []):
        yield from filters_of(teacher)


def count_trained(bloom_filter: dict[str, Any], examples: Iterable[Example]) -> int:
    """The number of clips that the filter holds; 0 for an empty filter."""
    if not bloom_filter.get("clips"):
        return 0
    try:
        packed = zlib.decompressobj().decompress(base64.b85decode(bloom_filter["filter"]), int(bloom_filter["bits"]) // 8)
        bits = np.unpackbits(np.frombuffer(packed, np.uint8))
        return sum(bool(bits[_places(example, int(bloom_filter["bits"]))].all()) for example in examples)
    except (KeyError, TypeError, ValueError, IndexError, zlib.error):
        return 0  # a damaged filter forbids nothing


def most_false_matches(count: int) -> int:
    """The number of wrong matches among `count` clips that one in a thousand evaluations exceeds."""
    expected = count * 2.0**-HASHES
    return math.ceil(expected + 4 * math.sqrt(expected))


def _places(example: Example, bits: int) -> np.ndarray:
    digest = hashlib.shake_128(example.identity.encode(errors="surrogateescape")).digest(HASH_BYTES * HASHES)
    return np.frombuffer(digest, "<u8") % np.uint64(bits)
