"""The heads of a deployed ONNX model as a model of their own, from an embedding to scores. No torch, no onnx.

Field numbers are those of onnx.proto, as in `classes`; ModelProto.metadata_props 14, GraphProto.input 11.
"""

from __future__ import annotations

from collections.abc import Sequence

from audiorep.errors import BundleError
from audiorep.export.classes import GRAPH, INITIALIZER, NODE, OUTPUT, name_of, value_of
from audiorep.info import EMBEDDING
from audiorep.runtimes.protobuf import field, fields

INPUT, METADATA = 11, 14


def heads_of(content: bytes, size: int, heads: Sequence[str]) -> bytes:
    """An ONNX model with the embedding (B, C) as its input and the scores of `heads` as its outputs.

    Args:
        content: a model from waveforms to scores, with an output for the embedding.
        size: C.
        heads: outputs.

    Raises:
        BundleError: the scores do not follow from the embedding.
    """
    [graph] = [body for place, _, body in fields(content) if place == GRAPH]
    nodes, needed = _behind(graph, heads)
    if needed & {name_of(body) for place, _, body in fields(graph) if place == INPUT}:
        raise BundleError(f"Scores of {', '.join(heads)} do not follow from the file's embedding.")
    parts = [*nodes, field(INPUT, value_of(EMBEDDING, size))]
    for place, part, body in fields(graph):
        wanted = place == INITIALIZER and name_of(body, 8) in needed
        if wanted or (place == OUTPUT and name_of(body) in heads) or place == 2:
            parts.append(bytes(part))
    cut = field(GRAPH, b"".join(parts))
    return b"".join(cut if place == GRAPH else bytes(part) for place, part, _ in fields(content) if place != METADATA)


def _behind(graph: memoryview, heads: Sequence[str]) -> tuple[list[bytes], set[str]]:
    """The nodes between the embedding and the heads, and the names of all that they read."""
    nodes, needed = [], set(heads)
    for part, body in reversed([(part, body) for place, part, body in fields(graph) if place == NODE]):
        outputs = {bytes(name).decode() for place, _, name in fields(body) if place == 2}
        if outputs & (needed - {EMBEDDING}):
            needed |= {bytes(name).decode() for place, _, name in fields(body) if place == 1}
            nodes.append(bytes(part))
    return nodes[::-1], needed
