"""A merged network refuses calls for which the original computes something else."""

from __future__ import annotations

import pytest
import torch
from support import unusual_networks
from support.fusing import MAP, assert_equal, norms
from support.networks import randomize
from torch import nn

from audiorep.errors import FuseError
from audiorep.reparam import fuse


def test_a_size_for_which_the_network_computes_something_else_is_refused():
    network = randomize(unusual_networks.SizeBranch().double())
    fused = fuse(network, torch.randn(MAP, dtype=torch.float64)).model
    for size in (1, 5, 19):
        assert_equal(network, fused, torch.randn(1, 8, size, 7, dtype=torch.float64))
    with pytest.raises(FuseError, match="was fused for"):
        fused(torch.randn(1, 8, 24, 16, dtype=torch.float64))


@pytest.mark.slow
def test_a_branch_on_a_batch_of_one_is_found():
    class Single(unusual_networks.SizeBranch):
        def forward(self, x):
            y = self.bn(self.conv(x))
            return y * 3 if x.shape[0] == 1 else y

    network = randomize(Single().double())
    fused = fuse(network, torch.randn(MAP, dtype=torch.float64)).model
    assert_equal(network, fused, torch.randn(4, 8, 9, 9, dtype=torch.float64))
    with pytest.raises(FuseError, match=r"x\.size\(\)\[0\] != 1"):
        fused(torch.randn(1, 8, 16, 16, dtype=torch.float64))


class Branching(nn.Module):
    """conv → norm → whatever the test asks."""

    def __init__(self, last) -> None:
        super().__init__()
        self.conv, self.bn, self.last = nn.Conv1d(8, 8, 3, padding=1), nn.BatchNorm1d(8), last

    def forward(self, x, scale=1.0, mask=None):
        y = self.last(self.bn(self.conv(x)), x) * scale
        return y if mask is None else y * mask


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "length"),
    [
        (lambda y, x: y[..., :300] if x.shape[2] >= 10 else y, 400),
        (lambda y, x: y * (1 + 5e-5) if x.shape[2] > 50 else y, 100),
        (lambda y, x: y[..., :1000] if x.shape[2] > 50 and x.shape[2] > 1000 else y, 60),
    ],
    ids=["beyond-all-tries", "by-little", "nested"],
)
def test_what_the_network_itself_asks_of_its_sizes_stays_a_condition(last, length):
    network = randomize(Branching(last).double())
    fused = fuse(network, torch.randn(2, 8, 8, dtype=torch.float64)).model
    assert_equal(network, fused, torch.randn(1, 8, 5, dtype=torch.float64))
    with pytest.raises(FuseError, match="was fused for"):
        fused(torch.randn(2, 8, length, dtype=torch.float64))


def test_plain_values_ranks_and_kinds_that_were_captured_are_held_to():
    network = randomize(Branching(lambda y, x: y).double())
    x = torch.randn(2, 8, 12, dtype=torch.float64)
    fused = fuse(network, x, 2.0, None).model
    assert torch.allclose(fused(x, 2.0, None), network(x, 2.0, None), rtol=1e-10)
    for call, condition in (((x, 3.0, None), "scale == 2.0"), ((x, 2.0, x), "mask is None"), ((x[0], 2.0, None), "dim")):
        with pytest.raises(FuseError, match=condition):
            fused(*call)
    with pytest.raises(FuseError, match="is_floating_point"):
        fused(x.long(), 2.0, None)


@pytest.mark.slow
def test_a_network_that_treats_a_batch_of_one_apart_is_captured_as_the_example_is():
    class Single(unusual_networks.SizeBranch):
        def forward(self, x):
            y = self.bn(self.conv(x))
            return y * 3 if x.shape[0] == 1 else y

    network = randomize(Single().double())
    x = torch.randn(1, 8, 16, 16, dtype=torch.float64)
    result = fuse(network, x)
    assert norms(result.model) == 0
    assert_equal(network, result.model, x)
    with pytest.raises(FuseError, match=r"x\.size\(\)\[0\] == 1"):
        result.model(torch.randn(4, 8, 16, 16, dtype=torch.float64))
