"""Networks in which merging is easy to get wrong are merged exactly or left alone with a reason."""

from __future__ import annotations

import copy

import pytest
import torch
from support import networks as zoo
from support import unusual_networks
from support.fusing import MAP, assert_equal, kinds, norms, parameters
from support.networks import randomize
from torch import nn

from audiorep import models
from audiorep.models.arin import merge_branches
from audiorep.reparam import fuse, plan

CASES = {
    "residual": (zoo.Residual, MAP, 1, 0),
    "conv-of-two-norms": (zoo.ConvOfTwoNorms, MAP, 1, 2),
    "conv-called-twice": (unusual_networks.ConvCalledTwice, MAP, 1, 2),
    "block-called-twice": (unusual_networks.BlockCalledTwice, MAP, 1, 0),
    "norm-of-two-convs": (zoo.NormOfTwoConvs, MAP, 2, 0),
    "in-place-through-alias": (zoo.InPlaceThroughAlias, MAP, 1, 0),
    "used-twice": (zoo.UsedTwice, MAP, 1, 1),
    "shape-read": (unusual_networks.ShapeReadTwice, MAP, 1, 0),
    "norm-through-reshape": (zoo.NormThroughReshape, (2, 5, 8), 1, 0),
    "pool-branches": (zoo.PoolBranches, MAP, 1, 0),
    "asymmetric": (zoo.Asymmetric, MAP, 1, 0),
    "concatenated": (zoo.Concatenated, MAP, 3, 0),
    "transposed": (zoo.Transposed, MAP, 1, 0),
    "constants": (zoo.Constants, MAP, 2, 0),
    "norm-before-padded-conv": (zoo.NormBeforePaddedConv, MAP, 1, 1),
    "norm-before-unpadded-conv": (zoo.NormBeforeUnpaddedConv, MAP, 1, 0),
    "reflected": (zoo.Reflected, MAP, 1, 0),
    "mixed-padding": (zoo.MixedPadding, MAP, 2, 0),
    "chain": (zoo.Chain, MAP, 2, 0),
    "point-with-padding": (zoo.PointWithPadding, MAP, 1, 0),
    "pooled-heads": (zoo.PooledHeads, MAP, 1, 0),
    "hooked_modules": (unusual_networks.Hooked, MAP, 1, 0),
    "affine-free": (zoo.AffineFree, MAP, 1, 0),
    "even-kernels": (zoo.EvenKernels, MAP, 1, 0),
    "padded-by-hand": (zoo.PaddedByHand, MAP, 2, 0),
    "convnext": (zoo.ConvNextBlock, MAP, 3, 0),
    "group-norms": (zoo.GroupNorms, MAP, 3, 0),
    "frozen-norm": (zoo.FrozenNorm, MAP, 1, 0),
    "adapter": (zoo.Adapter, (2, 5, 8), 1, 0),
    "without-gradients": (unusual_networks.WithoutGradients, MAP, 1, 0),
    "loop": (unusual_networks.Loop, MAP, 1, 0),
    "decoder": (unusual_networks.Decoder, MAP, 3, 1),
    "narrow-linears": (zoo.NarrowLinears, MAP, 4, 0),
}

LARGE = ("in-place-through-alias", "without-gradients", "decoder", "group-norms", "loop", "concatenated")


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in CASES])
def test_merged_exactly_or_left_alone(name):
    make, shape, maps, left = CASES[name]
    torch.manual_seed(0)
    network = randomize(make().double())
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    result = fuse(network, x)
    assert kinds(result.model, nn.Linear, nn.modules.conv._ConvNd) == maps
    assert norms(result.model) == left
    assert parameters(result.model) <= parameters(network)
    assert result.after.macs <= result.before.macs
    assert result.after.parameters == parameters(result.model)
    assert {skip.what for skip in result.skipped} >= ({"batch norm"} if left else set())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert_equal(network, result.model, x)
    assert_equal(network, result.model, torch.randn(1, *shape[1:], dtype=torch.float64))
    dry = plan(network, x)
    assert (dry.after, len(dry.merges)) == (result.after, len(result.merges))


REASONS = {
    "conv-of-two-norms": "before it is used elsewhere too",
    "conv-called-twice": "merging would grow parameters from 616 to 1,168",
    "norm-before-padded-conv": "a bias or shift before a zero-padded convolution is wrong at the border",
    "pool-branches": "a pool that does not count its padding divides by less at the border",
    "group-norms": "wrong at the border",
    "hooked_modules": "what it does to values is captured",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REASONS)
def test_what_is_left_is_told_with_its_reason(name):
    make, shape, *_ = CASES[name]
    skipped = fuse(randomize(make()), torch.randn(shape)).skipped
    assert any(REASONS[name] in str(skip) for skip in skipped), list(map(str, skipped))


def test_tied_weights_stay_tied_and_the_norm_before_them_stays():
    network = randomize(unusual_networks.TiedHead().double())
    result = fuse(network, torch.randint(0, 30, (2, 5)))
    assert parameters(result.model) == parameters(network)
    assert any("also used by" in skip.reason for skip in result.skipped)


@pytest.mark.slow
def test_a_pool_in_ceil_mode_stays():
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.AvgPool2d(2, ceil_mode=True), nn.BatchNorm2d(4)).double()
    result = fuse(randomize(network), torch.randn(2, 4, 9, 9, dtype=torch.float64))
    assert norms(result.model) == 0  # it passes a pool that averages what there is
    assert_equal(network, result.model, torch.randn(2, 4, 9, 9, dtype=torch.float64))
    assert any("ceil mode" in skip.reason for skip in result.skipped)


@pytest.mark.slow
def test_authors_merged_form_keeps_other_norms_and_inner_identities():
    network = randomize(models.build("arin_pico", {"label": 5})).double()
    merged = merge_branches(network)
    x = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    expected = network(x)["label"]
    assert (expected - merged(x)["label"]).abs().max() < 1e-10 * expected.abs().max()
    block = merged.stages[0][0]
    assert set(block.time) == {"merged", "identity"}
    assert isinstance(block.expand.bn, nn.BatchNorm2d)
    assert isinstance(network.stages[0][0].time["k3"], nn.Sequential)
