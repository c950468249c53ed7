"""The Fourier matrices of a bundle's front end written as one period of a cosine: kilobytes in place of megabytes.

A matrix holds w[n]·cos(2πkn/N), so a table of N values, the products k·n mod N and the window give it back. A runtime works
that out once, when it loads the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from audiorep.errors import require
from audiorep.export.graph import Graph, copied
from audiorep.models.front_end import FrontEndConfig, half_window, whole_window

SPECTRA = "spectra."
"""What comes before the name of a matrix of `models.front_end.MatrixLogMel`: `cosines` or `sines`, and perhaps a phase."""


def tabulate(model: Any, config: FrontEndConfig) -> Any:
    """An ONNX model like `model` whose front end, of settings `config`, works its Fourier matrices out when it is loaded.

    They are the same but for one rounding of float32.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = require("onnx", extra="train")
    made = copied(model)
    found = [tensor for tensor in made.graph.initializer if SPECTRA in tensor.name and tensor.dims]
    graph = Graph(onnx, made.graph)
    tables = _Tables(graph, config)
    for tensor in found:
        kind, _, phase = tensor.name.rpartition(SPECTRA)[2].partition(".")
        made.graph.initializer.remove(tensor)
        tables.matrix(tensor.name, kind, int(phase) if phase else None)
    graph.finish()
    return made


class _Tables:
    """What the matrices of one front end are made of; each table is written once."""

    def __init__(self, graph: Graph, config: FrontEndConfig) -> None:
        self._graph, self._config = graph, config
        self._written: dict[str, str] = {}

    def matrix(self, name: str, kind: str, phase: int | None) -> None:
        """Nodes that give the matrix `name`: windowed cosines or sines of half a frame, or of its samples of one phase."""
        part = "half" if phase is None else f"phase{phase}"
        places = self._once(f"{part}.places", lambda label: self._places(label, phase))
        period = self._once(f"{kind}.period", lambda label: self._graph.constant(label, self._period(kind)))
        window = self._once(f"{part}.window", lambda label: self._graph.constant(label, self._window(phase)))
        self._graph.node("Mul", [self._graph.node("Gather", [period, places], f"{name}.waves"), window], name)

    def _once(self, label: str, write: Callable[[str], str]) -> str:
        if label not in self._written:
            self._written[label] = write(f"{SPECTRA}{label}")
        return self._written[label]

    def _places(self, label: str, phase: int | None) -> str:
        """Where in a period each sample of each bin is: (samples, bins)."""
        size, window = self._config.n_fft, self._config.window
        offsets = np.arange(window // 2) if phase is None else np.arange(phase, window, 4)
        bins = np.arange(1, size // 2) if phase is None else np.arange(size // 8 + 1)
        factors = {"offsets": offsets[:, None], "bins": bins[None]}
        given = [self._graph.constant(f"{label}.{name}", values.astype(np.int32)) for name, values in factors.items()]
        products = self._graph.node("Mul", given, f"{label}.products")
        return self._graph.node("Mod", [products, self._graph.constant(f"{label}.size", np.array(size, np.int32))], label)

    def _period(self, kind: str) -> np.ndarray:
        turns = np.arange(self._config.n_fft) / self._config.n_fft - (0.25 if kind == "sines" else 0)
        return np.cos(2 * np.pi * turns).astype(np.float32)

    def _window(self, phase: int | None) -> np.ndarray:
        window = half_window(self._config) if phase is None else whole_window(self._config)[phase::4]
        return window[:, None].astype(np.float32)
