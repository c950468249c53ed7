"""A checkpoint of random weights, to measure what training does not change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from audiorep import models
from audiorep.info.front_end import FrontEndConfig
from audiorep.info.model_info import ModelInfo
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import LogMel
from audiorep.models.layers import AnyModule


def untrained(architecture: str, info: ModelInfo, settings: Mapping[str, Any] | None = None) -> Checkpoint:
    """A checkpoint of `architecture` for the labels, window and front end of `info`, the same at every call.

    Args:
        architecture: a key of `models.ARCHITECTURES`.
        info: what the model is for.
        settings: the network's own, by default those that fit its input.

    Raises:
        ConfigError: no such architecture, or settings that it does not take.
    """
    front_end = FrontEndConfig(**info.front_end)
    if settings is None:
        settings = models.sized(architecture, front_end.frames(info.window_samples), front_end.mels)
    heads = {head: len(names) for head, names in info.labels.items()}
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.manual_seed(0)
        network = as_trained(models.build(architecture, heads, dict(settings)))
    return Checkpoint(network, LogMel(front_end).eval(), info, architecture)


def as_trained(network: AnyModule) -> AnyModule:
    """`network` in evaluation mode, its batch norms changed to scale and shift, as a training leaves them.

    Zeros and ones would let a runtime drop operations, or whole branches.
    """
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.0, generator=generator)
                nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
    return network.eval()
