"""What a network costs before it is trained: multiply-accumulates, parameters or measured latency of its fused form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from audiorep import reparam
from audiorep.datasets import Labels
from audiorep.export.onnx import bundle
from audiorep.files import replacing, write_json
from audiorep.info.model_info import ModelInfo
from audiorep.models.checkpoint import Checkpoint, read_json
from audiorep.models.untrained import untrained
from audiorep.runtimes import timing
from audiorep.runtimes.onnx import session
from audiorep.training.recipe import TrainConfig

Objective = Literal["macs", "latency", "parameters"]
REFERENCE, REFERENCE_TIME = "reference.onnx", "reference.json"
ROUNDS, TURN_SECONDS = 31, 0.02


@dataclass(frozen=True)
class Unit:
    """How a cost is told to people."""

    symbol: str
    scale: float
    """Times the cost."""
    words: str
    """For an axis."""


UNITS: dict[str, Unit] = {
    "macs": Unit("M MACs", 1e-6, "million multiply-accumulates per window (fused network)"),
    "latency": Unit("ms", 1.0, "milliseconds per window, sound to scores (ONNX Runtime, one thread)"),
    "parameters": Unit("k parameters", 1e-3, "thousand parameters (fused network)"),
}


def in_words(cost: float, objective: str) -> str:
    """A cost with its unit."""
    unit = UNITS[objective]
    return f"{cost * unit.scale:.4g} {unit.symbol}"


def cost(config: TrainConfig, classes: Labels, objective: str, folder: Path) -> float:
    """The cost of the fused network that `config` makes for `classes`: MACs, parameters, or milliseconds.

    Milliseconds are those of the bundle, waveform to scores of one window, relative to a reference network in `folder` that
    takes turns with it (`make_reference`): a machine that slows down meanwhile slows both.

    Raises:
        ConfigError, FuseError: the network cannot be made, or its input is too small for it.
    """
    model = _untrained(config, classes)
    if objective == "latency":
        return _milliseconds(_bundle(model), model.info.window_samples, folder)
    counted = reparam.plan(model.network, model.example()).after
    return float(counted.macs if objective == "macs" else counted.parameters)


def make_reference(config: TrainConfig, classes: Labels, folder: Path) -> None:
    """Exports the network of `config` to `folder`, with its latency alone; once."""
    if (folder / REFERENCE_TIME).exists():
        return
    content = _bundle(_untrained(config, classes))
    samples = config.front_end_config.samples(config.window_seconds)
    call = _call(content, samples)
    [taken] = timing.in_turns([timing.turn(call, TURN_SECONDS)], ROUNDS)
    with replacing(folder / REFERENCE) as partial:
        partial.write_bytes(content)
    about = {"network": config.architecture, "samples": samples, "milliseconds": 1e3 * timing.median(taken), "threads": 1}
    write_json(folder / REFERENCE_TIME, about)


def _milliseconds(content: bytes, samples: int, folder: Path) -> float:
    """The reference's own time by the median ratio to it over rounds in which both take turns."""
    about = read_json(folder / REFERENCE_TIME)
    calls = [_call(content, samples), _call((folder / REFERENCE).read_bytes(), int(about["samples"]))]
    ours, its = timing.in_turns([timing.turn(call, TURN_SECONDS) for call in calls], ROUNDS)
    return float(about["milliseconds"]) * timing.speed(ours, its).median


def _call(content: bytes, samples: int) -> Callable[[], object]:
    """One window of noise through a bundle, on one thread: others' would wait by spinning and slow it."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, samples)).astype(np.float32)
    ready = session(content, threads=1)
    return lambda: ready.run(None, {"waveform": noise})


def _bundle(model: Checkpoint) -> bytes:
    return bundle(model, model.fuse().model)


def _untrained(config: TrainConfig, classes: Labels) -> Checkpoint:
    """The network of `config` for `classes` with random weights, since training changes no cost."""
    front_end = config.front_end_config
    info = ModelInfo(
        name=config.architecture,
        labels=classes,
        sample_rate=front_end.sample_rate,
        window_seconds=config.window_seconds,
        hop_seconds=config.hop_seconds or config.window_seconds,
        front_end=front_end.as_dict(),
        padding=config.padding,
    )
    return untrained(config.architecture, info, config.network_settings)
