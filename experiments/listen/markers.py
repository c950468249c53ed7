"""Tones that tell which they are, and a model that knows them with certainty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from audiorep.info.model_info import ModelInfo
from audiorep.runtimes import sealed
from experiments.listen.sounds import FULL, Placed

RATE, WINDOW_SECONDS, HOP_SECONDS = 16_000, 1.0, 0.25
FRAME = 320  # samples; the tones are whole numbers of periods in it, so that each is heard by its own filter alone
NAMES = tuple(f"tone{number:02}" for number in range(20))
HZ = tuple(500 + 250 * number for number in range(len(NAMES)))
LEVEL, SECONDS = 0.3, 0.4


def write_model(path: Path) -> None:
    """A bundle whose score of a tone is how much of `LEVEL` the window's loudest frame has of it: 1 if a frame is within it."""
    info = ModelInfo("tones", {"label": list(NAMES)}, RATE, WINDOW_SECONDS, HOP_SECONDS, {}, "sigmoid", license="Apache-2.0")
    proto = helper.make_model(_graph(), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    for key, value in info.to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    path.write_bytes(sealed.seal(proto.SerializeToString()))


def _graph() -> onnx.GraphProto:
    """The power of each tone in each frame, and the most of it in the window."""
    angles = 2 * np.pi * np.outer(HZ, np.arange(FRAME)) / RATE
    scale = 2 / (FRAME * LEVEL)
    filters = (scale * np.concatenate([np.cos(angles), np.sin(angles)])[:, None]).astype(np.float32)  # (2K, 1, frame)
    constants = {"filters": filters, "channel": np.array([1]), "low": np.float32(0), "high": np.float32(1)}
    nodes = [
        helper.make_node("Unsqueeze", ["waveform", "channel"], ["sound"]),
        helper.make_node("Conv", ["sound", "filters"], ["parts"], strides=[FRAME]),  # (B, 2K, T)
        helper.make_node("Mul", ["parts", "parts"], ["squares"]),
        helper.make_node("Split", ["squares"], ["cosines", "sines"], axis=1),
        helper.make_node("Add", ["cosines", "sines"], ["power"]),
        helper.make_node("ReduceMax", ["power"], ["most"], axes=[2], keepdims=0),  # (B, K)
        helper.make_node("Clip", ["most", "low", "high"], ["label"]),
    ]
    return helper.make_graph(
        nodes,
        "tones",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("label", TensorProto.FLOAT, ["batch", len(NAMES)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )


def tone(name: str, rate: int) -> np.ndarray:
    """(n,) int16 of a tone, with soft ends."""
    seconds = np.arange(round(SECONDS * rate)) / rate
    soft = np.minimum(1, np.minimum(seconds, seconds[::-1]) / 0.01)
    return (FULL * LEVEL * soft * np.sin(2 * np.pi * HZ[NAMES.index(name)] * seconds)).astype(np.int16)


def in_turn(seconds: float, rate: int, seed: int) -> list[Placed]:
    """The tones one after the other, 1.5 to 2.5 s from one to the next, for so many seconds."""
    generator = np.random.default_rng(seed)
    tones = {name: tone(name, rate) for name in NAMES}
    placed: list[Placed] = []
    first = rate
    while first < (seconds - 1) * rate:
        name = NAMES[len(placed) % len(NAMES)]
        placed.append(Placed(name, first, tones[name]))
        first += round(rate * generator.uniform(1.5, 2.5))
    return placed
