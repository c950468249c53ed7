"""A bundle in fewer bits: static int8, or weights stored in fewer bytes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.errors import require
from audiorep.export import qdq, ranges, weights
from audiorep.export.fourier import tabulate
from audiorep.export.names import shorten
from audiorep.info import EMBEDDING
from audiorep.info.model_info import PREFIX, ModelInfo
from audiorep.models.front_end import FrontEndConfig
from audiorep.predict.agreement import Scores, agreement, scores_of
from audiorep.runtimes.onnx import LOG_MEL, session


@dataclass(frozen=True)
class Setting:
    """How a bundle is made int8."""

    method: str
    """One of `ranges.METHODS`: how the ranges of activations follow from the values seen."""
    reduced: bool
    """Weights have 7 bits, for processors that add pairs of products in 16."""
    left: tuple[str, ...] = ()
    """Layers that stay in float32."""


SETTINGS = tuple(itertools.starmap(Setting, itertools.product(ranges.METHODS, (False, True))))
"""What is compared."""


class Quantizer:
    """A float32 model whose activations were measured on `calibration`, ready to become int8.

    Args:
        content: a bundle, or a network alone.
        calibration: what it is given, without the axis of the batch: (N,) waveforms for a bundle.
        start: the value at which the network begins; what computes it stays in float32. None: all is the network.

    Raises:
        DataError: there is nothing to calibrate on, or a value is out of range.
    """

    def __init__(self, content: bytes, calibration: Sequence[np.ndarray], start: str | None = LOG_MEL) -> None:
        self._model, self._start = qdq.prepared(_read(content)), start
        self._clips = len(calibration)
        self._ranges = qdq.measure(self._model, [clip[None] for clip in calibration], start)

    @property
    def layers(self) -> list[str]:
        """Those with weights, which may be left in float32."""
        return qdq.layers(self._model, self._start)

    def channel_spreads(self) -> dict[str, float]:
        """The largest weight of each layer over the median of its channels' largest."""
        return qdq.channel_spreads(self._model, self.layers)

    def make(self, setting: Setting) -> bytes:
        """The model in int8.

        Raises:
            ConfigError: `setting` leaves a layer that there is not.
        """
        made = qdq.static(self._model, self._ranges[setting.method], self._start, setting.left, setting.reduced)
        return _finished(made, precision="int8", quantization={**asdict(setting), "clips": self._clips})

    def make_one(self, layer: str, setting: Setting) -> bytes:
        """The model with nothing but one layer in int8: what that layer costs."""
        others = tuple(name for name in qdq.quantizable(self._model, self._start) if name != layer)
        return qdq.static(self._model, self._ranges[setting.method], self._start, others, setting.reduced).SerializeToString()


Rating = tuple[float, ...]
"""How good a quantized model is; the largest is the best."""


def best(quantizer: Quantizer, rate: Callable[[Setting, bytes], Rating], left: Sequence[str] = ()) -> Setting:
    """The setting, of all with the layers `left` in float32, whose model `rate` gives the best rating.

    Labelled clips give a rating by accuracy (see `compress.int8`), clips without labels one by `nearness`.
    """
    settings = [replace(setting, left=tuple(left)) for setting in SETTINGS]
    return max(settings, key=lambda setting: rate(setting, quantizer.make(setting)))


def nearness(content: bytes, clips: Sequence[np.ndarray]) -> Callable[[Setting, bytes], Rating]:
    """Rates a model by how near its scores on `clips` are, on average, to those of the float32 model `content`."""
    expected = scores(content, clips)
    return lambda setting, made: (-agreement(expected, scores(made, clips)).mean,)


def scores(content: bytes, clips: Sequence[np.ndarray]) -> Scores:
    """The scores of a model on `clips`, each without the axis of the batch, such as (N,) waveforms for a bundle."""
    ready = session(content)
    given = ready.get_inputs()[0].name
    heads = [output.name for output in ready.get_outputs() if output.name != EMBEDDING]
    return scores_of(lambda values: dict(zip(heads, ready.run(heads, {given: values}), strict=True)), clips)


def stored(content: bytes, kind: str) -> bytes:
    """A bundle with the weights of its network stored as `weights.KINDS[kind]`, which computes in float32.

    Raises:
        ConfigError: no such kind.
    """
    model = _read(content)
    before = qdq.above(model, LOG_MEL)
    front_end = [name for node in model.graph.node if node.name in before for name in node.input]
    return _finished(weights.encode(model, kind, front_end), precision=kind)


def named(content: bytes) -> bytes:
    """A bundle whose layers bear the names of their weights."""
    return qdq.prepared(_read(content)).SerializeToString()


def _finished(model: Any, precision: str, **about: Any) -> bytes:
    """The model without what it can do without, and a bundle with what was done to it in its provenance."""
    metadata = {entry.key: entry for entry in model.metadata_props}
    if any(key.startswith(PREFIX) for key in metadata):  # others are the quantizer's own
        info = ModelInfo.from_metadata({key: entry.value for key, entry in metadata.items()}, Path("bundle"))
        metadata[f"{PREFIX}provenance"].value = json.dumps(info.with_precision(precision, **about).provenance)
        model = tabulate(model, FrontEndConfig(**info.front_end))
    return shorten(model, [LOG_MEL]).SerializeToString()


def _read(content: bytes) -> Any:
    return require("onnx", extra="train").load_from_string(content)
