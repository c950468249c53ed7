"""The Fourier matrices of a bundle's front end written as one period of a cosine: kilobytes in place of megabytes.

A matrix holds w[n]·cos(2πkn/N), so a table of N values, the products k·n mod N and the window give it back. A runtime works
that out once, when it loads the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from audiorep.errors import require
from audiorep.export.graph import Graph, copied
from audiorep.models.front_end import FrontEndConfig, half_window

NAMES = ("cosines", "cosines_even", "cosines_odd", "sines", "sines_even", "sines_odd")
"""Names of the matrices in `models.front_end.MatrixLogMel`."""


def tabulate(model: Any, config: FrontEndConfig) -> Any:
    """An ONNX model like `model` whose front end, of settings `config`, works its Fourier matrices out when it is loaded.

    They are the same but for one rounding of float32.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = require("onnx", extra="train")
    made = copied(model)
    found = [tensor for tensor in made.graph.initializer if tensor.name.rpartition("spectra.")[2] in NAMES and tensor.dims]
    graph = Graph(onnx, made.graph)
    for tensor in found:
        kind, _, half = tensor.name.rpartition("spectra.")[2].partition("_")
        made.graph.initializer.remove(tensor)
        _matrix(graph, tensor.name, kind, {"": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}[half], config)
    graph.finish()
    return made


def _matrix(graph: Graph, name: str, kind: str, rows: slice, config: FrontEndConfig) -> None:
    """Nodes that give the rows of windowed cosines or sines of half a frame: (W/2, bins), or every second row of them."""
    size = config.n_fft
    bins = np.arange(1, size // 4 + 1) if rows.step else np.arange(1, size // 2)
    offsets = np.arange(config.window // 2)[rows]
    period = np.cos(2 * np.pi * np.arange(size) / size - (np.pi / 2 if kind == "sines" else 0))
    products = graph.node(
        "Mul",
        [
            graph.constant(f"{name}.offsets", offsets[:, None].astype(np.int32)),
            graph.constant(f"{name}.bins", bins[None].astype(np.int32)),
        ],
        f"{name}.products",
    )
    places = graph.node("Mod", [products, graph.constant(f"{name}.size", np.array(size, np.int32))], f"{name}.places")
    waves = graph.node("Gather", [graph.constant(f"{name}.period", period.astype(np.float32)), places], f"{name}.waves")
    graph.node("Mul", [waves, graph.constant(f"{name}.window", half_window(config)[rows].astype(np.float32))], name)
