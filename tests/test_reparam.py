"""Merging is exact: every rule against the unmerged modules, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audiorep import models, reparam
from audiorep.errors import FuseError
from audiorep.models.arin import Block
from audiorep.reparam import Parallel, algebra

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and affines far from their defaults, so that a wrong border or a forgotten shift shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.3, generator)
                nn.init.normal_(module.bias, 0, 0.5, generator)
    return network.eval()


def assert_equal(network: nn.Module, fused: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        expected, found = network(x), fused(x)
    assert expected.shape == found.shape
    assert (expected - found).abs().max() <= 1e-10 * expected.abs().max().clamp_min(1)


def convolutions(module: nn.Module) -> int:
    return sum(isinstance(m, tuple(CONVS.values())) for m in module.modules())


@st.composite
def branch(draw, dimensions: int, channels: int, stride: int, law: int):
    """A convolution whose output size is n + law for stride 1: random kernel, dilation, groups, bias, batch norm."""
    kernel, dilation, padding = [], [], []
    for _ in range(dimensions):
        k, d = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        reach = d * (k - 1) + law
        if reach % 2 or reach < 0:
            k, d = 1 - law if 1 - law > 0 else 1, 1
            reach = (k - 1) + law
        kernel.append(k)
        dilation.append(d)
        padding.append(reach // 2)
    groups = draw(st.sampled_from([g for g in (1, 2, 4) if channels % g == 0]))
    conv = CONVS[dimensions](
        channels, channels, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()), dtype=torch.float64
    )
    if draw(st.booleans()):
        return nn.Sequential(conv, NORMS[dimensions](channels, affine=draw(st.booleans()), dtype=torch.float64))
    return conv


@st.composite
def parallel(draw, dimensions: int, channels: int, stride: int, law: int, depth: int = 1):
    """A sum of branches and identities, some of them sums themselves."""
    count = draw(st.integers(1, 3))
    branches = [draw(branch(dimensions, channels, stride, law)) for _ in range(count)]
    if stride == 1 and law == 0 and draw(st.booleans()):
        branches.append(nn.Identity())
    if depth and draw(st.booleans()):
        branches.append(draw(parallel(dimensions, channels, stride, law, depth - 1)))
    return Parallel({f"b{i}": b for i, b in enumerate(branches)})


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_random_branches_merge_into_one_equal_convolution(data):
    dimensions = data.draw(st.sampled_from([1, 2, 2, 3]))
    channels = data.draw(st.sampled_from([2, 4]))
    stride = data.draw(st.integers(1, 2))
    law = data.draw(st.sampled_from([0, 0, -2]))
    network = randomise(data.draw(parallel(dimensions, channels, stride, law)), seed=data.draw(st.integers(0, 99)))
    fused = reparam.fuse(network)
    assert isinstance(fused, CONVS[dimensions])
    for size in (13, 16):
        assert_equal(network, fused, torch.randn(2, channels, *[size] * dimensions, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("kernel", "padding"), [(2, "same"), (4, "same"), (3, "valid"), ((1, 4), "same"), (5, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_even_and_off_centre_kernels_merge(kernel, padding, dilation):
    first = nn.Conv2d(3, 3, kernel, padding=padding, dilation=dilation, dtype=torch.float64)
    second = copy.deepcopy(first)
    nn.init.normal_(second.weight)
    branches = {"first": first, "second": second}
    if padding == "same":
        branches |= {"identity": nn.Identity(), "centred": nn.Conv2d(3, 3, 3, padding=1, dtype=torch.float64)}
    network = Parallel(branches)
    assert_equal(network, reparam.fuse(network.eval()), torch.randn(1, 3, 16, 16, dtype=torch.float64))


def test_taps_of_different_dilations_share_the_coarsest_grid_that_holds_them():
    wide = nn.Conv1d(2, 2, 3, padding=4, dilation=4, dtype=torch.float64)
    narrow = nn.Conv1d(2, 2, 3, padding=2, dilation=2, dtype=torch.float64)
    fused = reparam.fuse(Parallel({"wide": wide, "narrow": narrow}))
    assert (fused.kernel_size, fused.dilation, fused.padding) == ((5,), (2,), (4,))


@pytest.mark.parametrize("name", ["arin_pico", "arin_nano"])
def test_networks_fuse_completely_within_both_gates(name):
    network = randomise(models.build(name, {"label": 50}))
    fused = reparam.fuse(network)
    assert not [m for m in fused.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm | Parallel)]
    for block in (m for m in fused.modules() if isinstance(m, Block)):
        assert convolutions(block) == 5 + (not isinstance(block.shortcut, nn.Identity))
    verification = reparam.verify(network, torch.randn(2, 1, 65, 64))
    assert verification.float64 <= 1e-10
    assert verification.float32 <= 4 * max(verification.unfused_float32, torch.finfo(torch.float32).eps)
    assert verification.passed


def test_a_fused_block_adds_once():
    network = randomise(models.build("arin_pico", {"label": 5}))
    block = reparam.fuse(network).stages[0][0]
    graph = torch.export.export(block, (torch.randn(1, 8, 16, 16),)).graph
    operations = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert sum("aten.add" in name for name in operations) == 1
    assert sum("aten.conv" in name for name in operations) == 5


def test_fusing_leaves_the_network_as_it_was_and_trains_on_copies():
    network = randomise(models.build("arin_pico", {"label": 5}))
    before = copy.deepcopy(network.state_dict())
    fused = reparam.fuse(network)
    with torch.no_grad():
        for parameter in fused.parameters():
            parameter.add_(1)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert fused.stages[0][0] is not network.stages[0][0]


def test_authors_merged_form_keeps_other_norms_and_inner_identities():
    network = randomise(models.build("arin_pico", {"label": 5})).double()
    merged = reparam.merge_branches(network)
    x = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    expected = network(x)["label"]
    assert (expected - merged(x)["label"]).abs().max() < 1e-10 * expected.abs().max()
    block = merged.stages[0][0]
    assert set(block.time) == {"merged", "identity"}
    assert isinstance(block.expand.bn, nn.BatchNorm2d)


def test_half_precision_networks_are_merged_in_float64_and_cast_once():
    network = randomise(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)))
    exact = reparam.fuse(copy.deepcopy(network).half().double()).weight
    assert torch.equal(reparam.fuse(network.half()).weight, exact.half())


def test_a_batch_norm_in_training_mode_is_refused_by_its_path():
    network = models.build("arin_pico", {"label": 5}).eval()
    network.stages[1][0].time.k11.train()
    with pytest.raises(FuseError, match=r"stages\.1\.0\.time\.k11: .*call model\.eval\(\) first"):
        reparam.fuse(network)


def test_a_batch_norm_without_statistics_is_refused():
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    with pytest.raises(FuseError, match="without running statistics"):
        reparam.fuse(network)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1, stride=2), "strides"),
        (nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3), "differ in size"),
        (nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1), "channels"),
        (nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "padding_mode 'reflect'"),
        (nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), "not all convolutions"),
    ],
    ids=["stride", "size", "channels", "padding-mode", "non-linear"],
)
def test_branches_that_do_not_add_up_are_refused(first, second, reason):
    with pytest.raises(FuseError, match=reason):
        reparam.fuse(nn.Sequential(Parallel({"first": first, "second": second}).eval()))


def test_a_bias_before_a_padded_batch_norm_stays_where_it_is():
    network = randomise(nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, padding=1))).double()
    fused = reparam.fuse(network)
    assert isinstance(fused[0], nn.BatchNorm2d)
    assert_equal(network, fused, torch.randn(1, 2, 8, 8, dtype=torch.float64))


def test_unit_tap_is_the_identity():
    conv = algebra.to_module(algebra.unit(3, 2), torch.float64)
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    assert torch.equal(conv(x), x)
