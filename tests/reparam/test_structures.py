"""Random structures of branches merge exactly and never grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fusing import assert_equal, kinds, norms, parameters
from support.networks import randomize
from torch import nn

from audiorep.reparam import Parallel, fuse

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@st.composite
def branch(draw, dimensions: int, channels: int, stride: int, law: int):
    """A convolution or pool whose output size is n + law for stride 1: random kernel, dilation, groups, bias, norm."""
    kernel, dilation, padding = [], [], []
    for _ in range(dimensions):
        k, d = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        reach = d * (k - 1) + law
        if reach % 2 or reach < 0:
            k, d = max(1, 1 - law), 1
            reach = k - 1 + law
        kernel.append(k)
        dilation.append(d)
        padding.append(reach // 2)
    groups = draw(st.sampled_from([g for g in (1, 2, 4) if channels % g == 0]))
    layers: list[nn.Module] = [
        CONVS[dimensions](channels, channels, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()))
    ]
    if dimensions == 2 and law == 0 and draw(st.integers(0, 5)) == 0:
        layers = [nn.AvgPool2d(3, stride, 1, count_include_pad=draw(st.booleans()))]
    if draw(st.booleans()):
        layers.append(NORMS[dimensions](channels, affine=draw(st.booleans())))
    if draw(st.integers(0, 4)) == 0:
        layers.append(CONVS[dimensions](channels, channels, 1, bias=draw(st.booleans())))
    return nn.Sequential(*layers)


class Stacked(nn.ModuleList):
    """Branches of one input, concatenated, before a batch norm."""

    def forward(self, x):
        return self[-1](torch.cat([child(x) for child in self[:-1]], 1))


@st.composite
def parallel(draw, dimensions: int, channels: int, stride: int, law: int, depth: int = 1):
    """A sum of branches and identities, some of them sums or concatenations themselves."""
    branches = [draw(branch(dimensions, channels, stride, law)) for _ in range(draw(st.integers(1, 3)))]
    if stride == 1 and law == 0 and draw(st.booleans()):
        branches.append(draw(st.sampled_from([nn.Identity(), NORMS[dimensions](channels)])))
    if depth and draw(st.booleans()):
        branches.append(draw(parallel(dimensions, channels, stride, law, depth - 1)))
    if depth and draw(st.integers(0, 3)) == 0:
        pieces = [draw(branch(dimensions, channels, stride, law)) for _ in range(2)]
        narrow = CONVS[dimensions](2 * channels, channels, 1)
        branches.append(Stacked([*pieces, nn.Sequential(NORMS[dimensions](2 * channels), narrow)]))
    return Parallel({f"b{i}": b for i, b in enumerate(branches)})


def merges_exactly_and_never_grows(data) -> None:
    dimensions = data.draw(st.sampled_from([1, 2, 2, 3]))
    channels = data.draw(st.sampled_from([2, 4]))
    stride, law = data.draw(st.integers(1, 2)), data.draw(st.sampled_from([0, 0, -2]))
    tree = data.draw(parallel(dimensions, channels, stride, law))
    network = randomize(nn.Sequential(tree, nn.ReLU()).double(), seed=data.draw(st.integers(0, 99)))
    example = torch.randn(2, channels, *[13] * dimensions, dtype=torch.float64)
    result = fuse(network, example)
    assert parameters(result.model) <= parameters(network)
    assert result.after.macs <= result.before.macs
    assert result.verification.passed
    assert norms(result.model) == sum("batch norm" in skip.what for skip in result.skipped)
    for batch, size in ((1, 13), (3, 16)):
        assert_equal(network, result.model, torch.randn(batch, channels, *[size] * dimensions, dtype=torch.float64))


def becomes_one_convolution(data) -> None:
    dimensions = data.draw(st.sampled_from([1, 2, 3]))
    kernels = [CONVS[dimensions](4, 4, k, 1, k // 2, bias=data.draw(st.booleans())) for k in (5, 3, 1)]
    branches = [nn.Sequential(kernel, NORMS[dimensions](4)) for kernel in kernels]
    network = randomize(Parallel({str(i): b for i, b in enumerate([*branches, nn.Identity(), NORMS[dimensions](4)])}).double())
    example = torch.randn(2, 4, *[9] * dimensions, dtype=torch.float64)
    result = fuse(network, example)
    assert kinds(result.model, *CONVS.values()) == 1
    assert norms(result.model) == 0
    assert_equal(network, result.model, example)


def check(holds: Callable[[Any], None], draws: int) -> None:
    """Holds for this many structures that hypothesis draws."""
    settings(max_examples=draws, deadline=None)(given(st.data())(holds))()


@pytest.mark.slow
@pytest.mark.parametrize("draws", [8, pytest.param(60, marks=pytest.mark.full)])
def test_random_branch_structures_merge_exactly_and_never_grow(draws):
    check(merges_exactly_and_never_grows, draws)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [4, pytest.param(15, marks=pytest.mark.full)])
def test_random_branches_of_one_size_merge_into_one_convolution(draws):
    check(becomes_one_convolution, draws)
