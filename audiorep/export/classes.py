"""More classes for a deployed ONNX model: a linear layer on its embedding, appended to the file. No torch, no onnx.

Field numbers are those of onnx.proto: ModelProto.graph 7; GraphProto.node 1, .initializer 5, .output 12; NodeProto.input 1,
.output 2, .op_type 4, .attribute 5; TensorProto.dims 1, .data_type 2, .name 8, .raw_data 9; ValueInfoProto.name 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from audiorep.errors import BundleError
from audiorep.info import EMBEDDING
from audiorep.runtimes.protobuf import field, fields, number, varint_of

GRAPH, NODE, INITIALIZER, OUTPUT = 7, 1, 5, 12
INT, FLOATS = 2, 1  # AttributeProto.type of a whole number; TensorProto.data_type of floats
TAUGHT = re.compile(r"taught(\d+)/(.*)/weight")
"""Names of the layers' weights, numbered from 1."""


def with_classes(
    content: bytes, head: str, activation: str, classes: int, weight: np.ndarray, bias: np.ndarray, instead: bool = False
) -> bytes:
    """The same ONNX model with K more classes behind those of a head, or instead of them.

    With `sigmoid` each has the score sigmoid(W e + b) of the embedding e. With `softmax` W e + b is its logit beside the
    logarithms of the old classes' scores, so that the old ones share what the new ones leave; or beside one more class of
    logit 0, where there are no old ones.

    Args:
        content: the file, with an output for the embedding.
        head: the output.
        activation: of the model.
        classes: how many the head has.
        weight: (K, C).
        bias: (K,).
        instead: whether the old ones are left out.

    Raises:
        BundleError: the file has no such output.
    """
    graphs = [body for place, _, body in fields(content) if place == GRAPH]
    if len(graphs) != 1:
        raise BundleError("The file holds no ONNX graph.")
    place_of = f"taught{len(_taught(graphs[0])) + 1}/{head}"
    old = f"{place_of}/before"
    parts, found = [], 0
    for place, part, body in fields(graphs[0]):
        if place == NODE and (renamed := _renamed(body, head, old)) is not None:
            parts.append(field(NODE, renamed))
            found += 1
        elif place == OUTPUT and name_of(body) == head:
            total = len(weight) + (classes if not instead else activation == "softmax")
            parts.append(field(OUTPUT, value_of(head, total)))
            found += 1
        else:
            parts.append(bytes(part))
    if found != 2:
        raise BundleError(f"The file has no output {head} that classes could be added to.")
    if instead and activation == "softmax":  # a row of zeros: the logit of what is none of them
        weight, bias = np.pad(weight, ((0, 1), (0, 0))), np.pad(bias, (0, 1))
    parts += [field(INITIALIZER, _tensor(f"{place_of}/{name}", a)) for name, a in (("weight", weight), ("bias", bias))]
    parts += [field(NODE, node) for node in _nodes(head, place_of, activation, instead)]
    graph = field(GRAPH, b"".join(parts))
    return b"".join(graph if place == GRAPH else bytes(part) for place, part, _ in fields(content))


def layers(content: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """The layers (K, C) and (K,) that were appended, in their order."""
    [graph] = [body for place, _, body in fields(content) if place == GRAPH]
    known = {name_of(body, 8): body for place, _, body in fields(graph) if place == INITIALIZER}
    names = [name.removesuffix("/weight") for name in _taught(graph)]
    return [(_values(known[f"{name}/weight"]), _values(known[f"{name}/bias"])) for name in names]


def _taught(graph: memoryview) -> list[str]:
    """Names of the weights of layers that were appended, in their order."""
    names = [name_of(body, 8) for place, _, body in fields(graph) if place == INITIALIZER]
    return sorted(filter(TAUGHT.fullmatch, names), key=lambda name: int(TAUGHT.fullmatch(name)[1]))  # type: ignore[index]


def _values(tensor: memoryview) -> np.ndarray:
    """What a tensor of `_tensor` holds."""
    sizes = [varint_of(part) for place, part, _ in fields(tensor) if place == 1]
    [content] = [body for place, _, body in fields(tensor) if place == 9]
    return np.frombuffer(content, "<f4").reshape(sizes)


def _nodes(head: str, place: str, activation: str, instead: bool) -> list[bytes]:
    logits, scores, known, both, old = (f"{place}/{name}" for name in ("logits", "scores", "known", "both", "before"))
    linear = _node(place, "Gemm", [EMBEDDING, f"{place}/weight", f"{place}/bias"], logits, transB=1)
    if activation == "softmax":
        if instead:
            return [linear, _node(place, "Softmax", [logits], head, axis=1)]
        joined = [_node(place, "Log", [old], known), _node(place, "Concat", [known, logits], both, axis=1)]
        return [linear, *joined, _node(place, "Softmax", [both], head, axis=1)]
    if instead:
        return [linear, _node(place, "Sigmoid", [logits], head)]
    return [linear, _node(place, "Sigmoid", [logits], scores), _node(place, "Concat", [old, scores], head, axis=1)]


def _renamed(node: memoryview, output: str, name: str) -> bytes | None:
    """A node with another name for one of its outputs; None if it has no such output."""
    outputs = [bytes(body).decode() for place, _, body in fields(node) if place == 2]
    if output not in outputs:
        return None
    return b"".join(
        field(2, name.encode()) if place == 2 and bytes(body).decode() == output else bytes(part)
        for place, part, body in fields(node)
    )


def name_of(message: memoryview, place: int = 1) -> str:
    """The name of a message, which is its field `place`; none where it has no such field."""
    return next((bytes(body).decode() for number, _, body in fields(message) if number == place), "")


def _node(place: str, kind: str, inputs: Sequence[str], output: str, **attributes: int) -> bytes:
    names = [field(1, name.encode()) for name in inputs]
    told = [field(5, field(1, key.encode()) + number(3, value) + number(20, INT)) for key, value in attributes.items()]
    return b"".join([*names, field(2, output.encode()), field(3, f"{place}/{kind}".encode()), field(4, kind.encode()), *told])


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(number(1, size) for size in values.shape)
    return dims + number(2, FLOATS) + field(8, name.encode()) + field(9, values.astype("<f4").tobytes())


def value_of(name: str, size: int) -> bytes:
    """A value of shape (batch, size)."""
    shape = field(1, field(2, b"batch")) + field(1, number(1, size))
    return field(1, name.encode()) + field(2, field(1, number(1, FLOATS) + field(2, shape)))
