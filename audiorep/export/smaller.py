"""Smaller forms of a bundle: static int8, and weights stored in fewer bytes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.errors import require
from audiorep.export import qdq, ranges, weights
from audiorep.export.fourier import tabulate
from audiorep.export.names import shorten
from audiorep.info.model_info import PREFIX, ModelInfo
from audiorep.models.front_end import FrontEndConfig
from audiorep.predict.agreement import Scores, agreement, scores_of
from audiorep.runtimes.onnx import LOG_MEL, session


@dataclass(frozen=True)
class Setting:
    """How a bundle is made int8."""

    method: str
    """Of `ranges.METHODS`: how the ranges of activations follow from what was seen."""
    reduced: bool
    """Weights have 7 bits, for processors that add pairs of products in 16."""
    left: tuple[str, ...] = ()
    """Layers that stay in float32."""


SETTINGS = tuple(itertools.starmap(Setting, itertools.product(ranges.METHODS, (False, True))))
"""What is compared."""


class Quantizer:
    """A float32 bundle whose activations were measured on `calibration`, (N,) waveforms at its rate, ready to become int8.

    Raises:
        DataError: there are no waveforms.
    """

    def __init__(self, content: bytes, calibration: Sequence[np.ndarray]) -> None:
        self._model = qdq.prepared(_read(content))
        self._clips = len(calibration)
        self._ranges = qdq.measure(self._model, [clip[None] for clip in calibration], LOG_MEL)

    @property
    def layers(self) -> list[str]:
        """Those with weights, which may be left in float32."""
        return qdq.layers(self._model, LOG_MEL)

    def channel_spreads(self) -> dict[str, float]:
        """The largest weight of each layer over the median of its channels' largest."""
        return qdq.channel_spreads(self._model, self.layers)

    def make(self, setting: Setting) -> bytes:
        """The bundle in int8.

        Raises:
            ConfigError: `setting` leaves a layer that there is not.
        """
        made = qdq.static(self._model, self._ranges[setting.method], LOG_MEL, setting.left, setting.reduced)
        return _finished(made, precision="int8", quantization={**asdict(setting), "clips": self._clips})

    def make_one(self, layer: str, setting: Setting) -> bytes:
        """The bundle with nothing but one layer in int8: what that layer costs."""
        others = tuple(name for name in qdq.quantizable(self._model, LOG_MEL) if name != layer)
        return qdq.static(self._model, self._ranges[setting.method], LOG_MEL, others, setting.reduced).SerializeToString()


def nearest(quantizer: Quantizer, content: bytes, clips: Sequence[np.ndarray]) -> Setting:
    """The setting whose scores on `clips`, (N,) each, are on average nearest to those of the float32 bundle."""
    expected = scores(content, clips)
    distance = {setting: agreement(expected, scores(quantizer.make(setting), clips)).mean for setting in SETTINGS}
    return min(distance, key=distance.__getitem__)


def scores(content: bytes, clips: Sequence[np.ndarray]) -> Scores:
    """The scores of a bundle on `clips` (N,)."""
    ready = session(content)
    heads = [output.name for output in ready.get_outputs()]
    return scores_of(lambda waveform: dict(zip(heads, ready.run(heads, {"waveform": waveform}), strict=True)), clips)


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
    """The model without what it can do without, and with what was done to it in its provenance."""
    metadata = {entry.key: entry for entry in model.metadata_props}
    info = ModelInfo.from_metadata({key: entry.value for key, entry in metadata.items()}, Path("bundle"))
    metadata[f"{PREFIX}provenance"].value = json.dumps(info.in_precision(precision, **about).provenance)
    return shorten(tabulate(model, FrontEndConfig(**info.front_end)), [LOG_MEL]).SerializeToString()


def _read(content: bytes) -> Any:
    return require("onnx", extra="train").load_from_string(content)
