"""Modules in training mode, norms without statistics and networks of other precisions are merged as far as that is right."""

from __future__ import annotations

import copy

import pytest
import torch
from support import networks as zoo
from support.fusing import MAP, assert_equal, norms
from support.networks import randomize
from torch import nn

from audiorep.errors import FuseError
from audiorep.reparam import fuse


def test_a_network_in_training_mode_is_refused_by_the_path_of_what_trains():
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    with pytest.raises(FuseError, match=r"`1` \(BatchNorm2d\) .*model\.eval\(\)"):
        fuse(network, torch.randn(MAP))
    with pytest.raises(FuseError, match=r"`1` \(Dropout\)"):
        fuse(nn.Sequential(nn.Linear(8, 8), nn.Dropout()), torch.randn(2, 8))


@pytest.mark.slow
def test_one_norm_in_training_mode_is_left_with_what_to_do_and_the_rest_merged():
    network = randomize(nn.Sequential(zoo.conv_bn(8, 8, 3), nn.ReLU(), zoo.conv_bn(8, 8, 3)).double())
    network[2][1].train()
    statistics = network[2][1].running_mean.clone()
    x = torch.randn(MAP, dtype=torch.float64)
    result = fuse(network, x)
    assert torch.equal(network[2][1].running_mean, statistics)
    assert [str(s) for s in result.skipped] == ["2.1 (batch norm): it is in training mode: call model.eval() first"]
    assert result.after.operations["batch norm"] == 1
    assert_equal(network, result.model, x)


@pytest.mark.slow
def test_frozen_norms_of_a_training_network_are_merged():
    network = randomize(nn.Sequential(zoo.conv_bn(8, 8, 3), nn.ReLU()).double())
    network.train()
    network[0][1].eval()
    assert norms(fuse(network, torch.randn(MAP, dtype=torch.float64)).model) == 0


def test_a_norm_without_statistics_is_left_with_its_reason():
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, track_running_stats=False)).eval()
    result = fuse(network, torch.randn(MAP))
    assert "no running statistics and depends on its batch" in result.skipped[0].reason


@pytest.mark.slow
def test_instance_norm_and_max_pool_are_never_merged():
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.MaxPool2d(2), nn.BatchNorm2d(8)).double()
    result = fuse(randomize(network), torch.randn(MAP, dtype=torch.float64))
    assert not result.merges
    assert_equal(network, result.model, torch.randn(MAP, dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks_are_merged_in_float64_and_cast_once(dtype):
    network = randomize(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))).to(dtype)
    x = torch.randn(2, 4, 8, 8).to(dtype)
    exact = fuse(copy.deepcopy(network).double(), x.double()).model
    halved = fuse(network, x).model
    assert halved(x).dtype == dtype
    for a, b in zip(exact.parameters(), halved.parameters(), strict=True):
        assert torch.equal(a.to(dtype), b)


@pytest.mark.slow
def test_mixed_precision_is_kept_where_it_is():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 3).half(), nn.BatchNorm2d(4)
            self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.bn(self.conv(x.half()).float()).relu()
            return self.norm(self.linear(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    network = randomize(Mixed())
    x = torch.randn(2, 4, 8, 8)
    result = fuse(network, x)
    assert result.verification.passed
    assert {p.dtype for p in result.model.parameters()} == {torch.float16, torch.float32}
    assert norms(result.model) == 1  # the one behind a change of precision
    assert (network(x) - result.model(x)).abs().max() < 1e-5


@pytest.mark.slow
def test_a_weight_that_changes_precision_keeps_its_rounding():
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bn = nn.Parameter(torch.randn(8, 8, 3)), nn.BatchNorm1d(8)

        def forward(self, x):
            return self.bn(nn.functional.conv1d(x, self.weight.half().to(self.weight.dtype)))

    network, x = randomize(Rounded()), torch.randn(2, 8, 12)
    result = fuse(network, x)
    assert (network(x) - result.model(x)).abs().max() < 1e-5
    assert any("changes its precision" in skip.reason for skip in result.skipped)
