"""A small network of random weights to compress, and sounds for it."""

from __future__ import annotations

import torch
from torch import nn

from audiorep import models
from audiorep.info.model_info import ModelInfo
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import FrontEndConfig, LogMel

FRONT_END = {"sample_rate": 4000, "window_ms": 32.0, "hop_ms": 16.0, "n_fft": 128, "mels": 16}
SIZES = {"width": 16, "depths": [1, 2], "time_kernels": [3, 5], "frequency_kernels": [3]}


def uneven() -> Checkpoint:
    """A network of random weights whose norms have seen something, so that channels differ."""
    torch.manual_seed(0)
    network = models.build("arin_nano", {"label": 5}, SIZES).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5)
    front_end = LogMel(FrontEndConfig(**FRONT_END))
    with torch.no_grad():
        for _ in range(20):
            network(front_end(sweeps(8)))
    info = ModelInfo("test", {"label": list("abcde")}, 4000, 0.5, 0.5, FRONT_END)
    return Checkpoint(network.eval(), front_end.eval(), info, "arin_nano")


def sweeps(count: int, seed: int | None = None) -> torch.Tensor:
    """(count, 1999) tones of any pitch in a little noise."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    times = torch.arange(1999) / 4000
    hertz = 100 + 1500 * torch.rand(count, 1, generator=generator)
    return 0.3 * torch.sin(2 * torch.pi * hertz * times) + 0.02 * torch.randn(count, 1999, generator=generator)
