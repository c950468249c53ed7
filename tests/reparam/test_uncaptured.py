"""A network that cannot be captured whole is merged by its parts, or left or refused with the reason."""

from __future__ import annotations

import pytest
import torch
from support import unusual_networks
from support.fusing import MAP, assert_equal, norms, parameters
from support.networks import randomize
from torch import nn

from audiorep.errors import FuseError
from audiorep.reparam import Fused, fuse


@pytest.mark.slow
def test_a_detector_is_fused_by_its_largest_parts():
    network = randomize(unusual_networks.Detector())
    x = torch.randn(2, 3, 33, 41)
    result = fuse(network, x)
    assert result.parts == ("backbone", "head")
    assert type(result.model) is unusual_networks.Detector
    assert isinstance(result.model.backbone, Fused)
    assert norms(result.model) == 0
    assert norms(network) == 3
    assert "merged by parts" in str(result)
    assert all(merge.into.startswith(("backbone.", "head.")) for merge in result.merges)
    for size in (33, 64):
        y = torch.randn(1, 3, size, size)
        assert torch.allclose(network(y), result.model(y), atol=1e-4)


@pytest.mark.slow
def test_a_region_of_its_own_leaves_the_rest_merged():
    network = randomize(unusual_networks.Conditional().double())
    x = torch.randn(MAP, dtype=torch.float64)
    result = fuse(network, x)
    assert result.parts == ("block",)
    assert norms(result.model) == 0
    assert_equal(network, result.model, x)


@pytest.mark.slow
def test_a_network_that_draws_at_random_is_left_with_the_reason():
    network = randomize(unusual_networks.Noisy())
    result = fuse(network, torch.randn(MAP))
    assert not result.merges
    assert norms(result.model) == 1
    assert any("it draws at random (aten.rand" in skip.reason for skip in result.skipped)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*is deprecated")
def test_a_scripted_network_is_refused_with_what_to_do():
    network = torch.nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)).eval()
    with pytest.raises(FuseError, match="scripted"):
        fuse(torch.jit.trace(network, torch.randn(MAP)), torch.randn(MAP))


@pytest.mark.slow
def test_a_part_that_is_reached_into_is_left():
    class Reaching(unusual_networks.Detector):
        def forward(self, x):
            bias = self.head[0][1].running_mean.sum()
            return super().forward(x) + bias

    result = fuse(randomize(Reaching()), torch.randn(2, 3, 33, 41))
    assert result.parts == ("backbone",)
    assert any(skip.path == "head" and "around it" in skip.reason for skip in result.skipped)


class Decided(nn.Module):
    """Two blocks under control flow on data, the second shared with or tied to the first."""

    def __init__(self, tie) -> None:
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)) for _ in range(2))
        tie(self)

    def forward(self, x):
        y = self.b(self.a(x).relu())
        return y if y.sum().item() > -1e9 else -y


@pytest.mark.slow
def test_parts_that_share_a_module_or_a_tensor_never_grow():
    def share(network):
        network.b = network.a

    def tie(network):
        network.b[0].weight = network.a[0].weight

    x = torch.randn(4, 8, dtype=torch.float64)
    for make, parts in ((share, ("a",)), (tie, ())):
        network = randomize(Decided(make).double())
        result = fuse(network, x)
        assert result.parts == parts
        assert parameters(result.model) <= parameters(network)
        assert_equal(network, result.model, x)


def test_what_does_not_run_is_refused_with_the_networks_own_words():
    with pytest.raises(FuseError, match="RuntimeError"):
        fuse(nn.Conv2d(3, 3, 3), torch.randn(2, 5, 8, 8))
    with pytest.raises(FuseError, match="example"):
        fuse(nn.Conv2d(3, 3, 3))
    with pytest.raises(FuseError, match=r"torch\.nn\.Module .* builtin"):
        fuse(torch.relu, torch.randn(2))
