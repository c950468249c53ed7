"""Copies of ONNX models, and nodes put into their graphs."""

from __future__ import annotations

from typing import Any

import numpy as np


def copied(model: Any) -> Any:
    """A copy of an ONNX model."""
    made = type(model)()
    made.CopyFrom(model)
    return made


class Graph:
    """An ONNX graph that is given constants, and nodes that decode them, which come before its own."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self._onnx, self._graph = onnx, graph
        self._nodes: list[Any] = []

    def constant(self, name: str, values: np.ndarray) -> str:
        """Adds an initializer, and gives its name."""
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def packed(self, name: str, values: np.ndarray, signed: bool) -> str:
        """Four-bit integers, two a byte."""
        kind = self._onnx.TensorProto.INT4 if signed else self._onnx.TensorProto.UINT4
        self._graph.initializer.append(self._onnx.helper.make_tensor(name, kind, values.shape, values.ravel()))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds an operator, and gives the name of its output."""
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def cast(self, name: str, output: str, to: str = "FLOAT") -> str:
        """Adds a cast, and gives the name of its output."""
        return self.node("Cast", [name], output, to=getattr(self._onnx.TensorProto, to))

    def finish(self) -> None:
        """Puts the nodes into the graph."""
        nodes = [*self._nodes, *self._graph.node]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
