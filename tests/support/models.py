"""Small models with weights of their own, and waveforms for them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch

from audiorep import models
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import FRONT_ENDS, FrontEndConfig, LogMel

SHALLOW = (1,)
LABELS = {"verb": ["cut", "wash"], "noun": ["cup", "pan", "knife"]}


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """Every part matters to the output: random statistics, no zero gammas, large heads."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            torch.nn.init.normal_(module.weight, 0.5, 0.1, generator)
            torch.nn.init.normal_(module.bias, 0, 0.1, generator)
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0, 0.3, generator)
    return network.eval()


def made(activation: str = "softmax", depths: Sequence[int] = (1, 1, 1, 1)) -> checkpoint.Checkpoint:
    """A checkpoint of two heads. Where its depths do not matter, they are `SHALLOW`: it is exported sooner."""
    torch.manual_seed(0)
    network = lively(models.build("arin_pico", {"verb": 2, "noun": 3}, {"depths": list(depths)}))
    front_end = FRONT_ENDS["light"]
    info = ModelInfo(
        "tiny", LABELS, 16_000, 1.0, 0.5, asdict(front_end), activation, license="CC0", provenance={"clips": {"train": 3}}
    )
    return checkpoint.Checkpoint(network, LogMel(front_end), info, "arin_pico")


@functools.cache
def tiny() -> checkpoint.Checkpoint:
    """`made` of two blocks, the same one each time, so that it is merged and exported once: no test changes its weights."""
    return made(depths=(1, 1))


def clips(count: int = 4) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [(level * generator.standard_normal(15_999)).astype(np.float32) for level in np.geomspace(0.001, 0.3, count)]


PITCHES = ["a", "b", "c", "d", "e"]


def pitched(count: int, seed: int = 0, levels: tuple[float, float] = (0.001, 0.3)) -> list[np.ndarray]:
    """Clips of five pitches in turn, from soft to loud, in a little noise: (15999,) each."""
    generator, time = np.random.default_rng(seed), np.arange(15_999) / 16_000
    made_up = []
    for index, level in enumerate(np.geomspace(*levels, count)):
        tone = np.sin(2 * np.pi * 300 * 2 ** (index % 5) * generator.uniform(0.97, 1.03) * time)
        made_up.append((level * (tone + 0.05 * generator.standard_normal(15_999))).astype(np.float32))
    return made_up


@functools.cache
def telling() -> Checkpoint:
    """A model that tells the five pitches of `tones` apart, trained for a few seconds; the same one each time."""
    torch.manual_seed(0)
    front_end = FrontEndConfig(16_000, 20, 10, n_fft=320, mels=32)
    network = models.build("arin_nano", {"pitch": 5}, {"width": 160, "depths": [1], "strides": [2], "dropout": 0.0})
    info = ModelInfo("telling", {"pitch": PITCHES}, 16_000, 1.0, 0.5, asdict(front_end), license="CC0")
    model = Checkpoint(network, LogMel(front_end), info, "arin_nano")
    spectrograms, pitches = model.front_end(torch.from_numpy(np.stack(pitched(100)))), torch.arange(100) % 5
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(40):
        some = torch.randperm(100)[:10]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(spectrograms[some])["pitch"], pitches[some]).backward()
        optimizer.step()
    network.eval()
    return model
