"""How tests look at merged networks."""

from __future__ import annotations

import torch
from torch import nn

MAP = (2, 8, 16, 16)
"""The shape of a map that the small networks of `networks` take."""


def leaves(output) -> list[torch.Tensor]:
    return torch.utils._pytree.tree_leaves(output)


def assert_equal(network: nn.Module, fused: nn.Module, *inputs: torch.Tensor) -> None:
    with torch.no_grad():
        expected, found = (leaves(module(*(x.clone() for x in inputs))) for module in (network, fused))
    for a, b in zip(expected, found, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-10 * a.abs().max().clamp_min(1)


def kinds(module: nn.Module, *classes: type) -> int:
    return sum(isinstance(m, classes) for m in module.modules())


def norms(module: nn.Module) -> int:
    return kinds(module, nn.modules.batchnorm._BatchNorm)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
