"""Networks by name: (B, 1, T, F) to {head: logits (B, K)}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from audiorep.config import load
from audiorep.errors import ConfigError
from audiorep.models.arin import Arin, ArinConfig, merge_branches


@dataclass(frozen=True)
class Architecture:
    """A network class, its configuration class and what sets this size apart."""

    network: type[nn.Module]
    config: type[Any]
    settings: dict[str, Any] = field(default_factory=dict)
    about: str = ""


ARCHITECTURES: dict[str, Architecture] = {
    "arin_base": Architecture(Arin, ArinConfig, {}, "AudioRepInceptionNeXt as in the paper, width 64"),
    "arin_small": Architecture(Arin, ArinConfig, {"width": 32}, "width 32"),
    "arin_nano": Architecture(Arin, ArinConfig, {"width": 16}, "width 16"),
    "arin_pico": Architecture(Arin, ArinConfig, {"width": 8}, "width 8"),
}


@dataclass(frozen=True)
class Cost:
    """What a network costs, by count."""

    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and matrix products, and two for each value that a batch norm scales and
    shifts, for one input: the paper's way of counting."""


def build(name: str, heads: Mapping[str, int], settings: Mapping[str, Any] | None = None) -> nn.Module:
    """The network `name` with `heads` classes, any other field of its configuration set by `settings`.

    Raises:
        ConfigError: an unknown name or field, or a value that is refused.
    """
    config = configure(name, heads, settings)
    return ARCHITECTURES[name].network(config)


def configure(name: str, heads: Mapping[str, int], settings: Mapping[str, Any] | None = None) -> Any:
    """The configuration of the network that `build` makes of the same arguments.

    Raises:
        ConfigError: as `build`.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(f"{name!r} is not an architecture; there are {', '.join(ARCHITECTURES)}.")
    row = ARCHITECTURES[name]
    return load(row.config, {**row.settings, **(settings or {}), "heads": dict(heads)}, where=name)


def cost(network: nn.Module, shape: tuple[int, ...]) -> Cost:
    """Parameters, and multiply-accumulates for an input of `shape`, for example (1, 1, 512, 128)."""
    parameter = next(network.parameters())
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    normed: list[int] = []
    hooks = [norm.register_forward_hook(lambda module, given, result: normed.append(result.numel())) for norm in norms]
    was_training = network.training
    network.eval()
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return Cost(sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2 + 2 * sum(normed))


__all__ = ["ARCHITECTURES", "Architecture", "Arin", "ArinConfig", "Cost", "build", "configure", "cost", "merge_branches"]
