"""One odd operator costs that operator: the network around it is merged, and gives what the original gives."""

from __future__ import annotations

import threading

import pytest
import torch
from networks import randomise
from torch import nn

from audiorep.reparam import FuseResult, fuse

MAP = (2, 8, 12, 12)


def leaves(output) -> list[torch.Tensor]:
    return torch.utils._pytree.tree_leaves(output)


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


def fused(network: nn.Module, *inputs) -> FuseResult:
    """The fused network, checked against its original and in one piece."""
    result = fuse(network, *inputs)
    with torch.no_grad():
        expected, found = leaves(network(*inputs)), leaves(result.model(*inputs))
    for a, b in zip(expected, found, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert (a - b).abs().max() <= 2e-5 * a.abs().max().clamp_min(1)
    assert result.parts == ("",), result.skipped
    return result


# --- copies of networks that keep what cannot be copied


class Keeping(nn.Module):
    """Keeps an activation, as networks do whose attention is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.attention = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), None
        self.maps: list[torch.Tensor] = []

    def forward(self, x):
        y = self.norm(self.conv(x))
        self.attention = y.softmax(1)
        self.maps = [y, self.attention]
        return y * self.attention


def test_a_network_that_was_called_with_gradients_and_keeps_an_activation_is_merged():
    network, x = randomise(Keeping()), torch.randn(MAP)
    network(x)
    assert network.attention.grad_fn is not None
    assert norms(fused(network, x).model) == 0


def test_a_network_that_holds_what_cannot_be_copied_shares_it():
    network = randomise(nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)))
    network.lock, network.lines = threading.Lock(), (line for line in ())
    assert norms(fused(network, torch.randn(MAP)).model) == 0


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_old_weight_norm_is_computed_once():
    network = randomise(nn.Sequential(nn.utils.weight_norm(nn.Conv1d(8, 8, 3)), nn.BatchNorm1d(8), nn.ReLU()))
    network(torch.randn(2, 8, 9))
    result = fused(network, torch.randn(2, 8, 9))
    assert norms(result.model) == 0
    assert set(result.model.state_dict()) == {"0.weight", "0.bias"}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.randn(MAP))])
def test_scripted_and_traced_children_are_merged_with_the_rest(make):
    child = make(randomise(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Sigmoid())))
    network = randomise(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), child, nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)))
    result = fused(network, torch.randn(MAP))
    assert norms(result.model) == 0
    assert set(result.model.state_dict()) == {f"{path}.{name}" for path in ("0", "2", "3") for name in ("weight", "bias")}
    assert sum(p.numel() for p in result.model.parameters()) == 3 * (64 + 8)
