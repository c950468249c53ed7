"""Any network is merged exactly or left alone with a reason, and the result is an ordinary module."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import networks as zoo
from support.networks import randomize
from torch import nn

from audiorep import models, reparam
from audiorep.errors import FuseError
from audiorep.models.arin import Block, merge_branches
from audiorep.reparam import Fused, Parallel, fuse, plan

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAP = (2, 8, 16, 16)


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


# --- random structures


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


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_branch_structures_merge_exactly_and_never_grow(data):
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


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_random_branches_of_one_size_merge_into_one_convolution(data):
    dimensions = data.draw(st.sampled_from([1, 2, 3]))
    kernels = [CONVS[dimensions](4, 4, k, 1, k // 2, bias=data.draw(st.booleans())) for k in (5, 3, 1)]
    branches = [nn.Sequential(kernel, NORMS[dimensions](4)) for kernel in kernels]
    network = randomize(Parallel({str(i): b for i, b in enumerate([*branches, nn.Identity(), NORMS[dimensions](4)])}).double())
    example = torch.randn(2, 4, *[9] * dimensions, dtype=torch.float64)
    result = fuse(network, example)
    assert kinds(result.model, *CONVS.values()) == 1
    assert norms(result.model) == 0
    assert_equal(network, result.model, example)


# --- classic mistakes: (network, input, convolutions and linear layers, batch norms, of the result)

CASES = {
    "residual": (zoo.Residual, MAP, 1, 0),
    "conv-of-two-norms": (zoo.ConvOfTwoNorms, MAP, 1, 2),
    "conv-called-twice": (zoo.ConvCalledTwice, MAP, 1, 2),
    "block-called-twice": (zoo.BlockCalledTwice, MAP, 1, 0),
    "norm-of-two-convs": (zoo.NormOfTwoConvs, MAP, 2, 0),
    "in-place-through-alias": (zoo.InPlaceThroughAlias, MAP, 1, 0),
    "used-twice": (zoo.UsedTwice, MAP, 1, 1),
    "shape-read": (zoo.ShapeReadTwice, MAP, 1, 0),
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
    "hooked_modules": (zoo.Hooked, MAP, 1, 0),
    "affine-free": (zoo.AffineFree, MAP, 1, 0),
    "even-kernels": (zoo.EvenKernels, MAP, 1, 0),
    "padded-by-hand": (zoo.PaddedByHand, MAP, 2, 0),
    "convnext": (zoo.ConvNextBlock, MAP, 3, 0),
    "group-norms": (zoo.GroupNorms, MAP, 3, 0),
    "frozen-norm": (zoo.FrozenNorm, MAP, 1, 0),
    "adapter": (zoo.Adapter, (2, 5, 8), 1, 0),
    "without-gradients": (zoo.WithoutGradients, MAP, 1, 0),
    "loop": (zoo.Loop, MAP, 1, 0),
    "decoder": (zoo.Decoder, MAP, 3, 1),
    "narrow-linears": (zoo.NarrowLinears, MAP, 4, 0),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CASES)
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


@pytest.mark.parametrize("name", REASONS)
def test_what_is_left_is_told_with_its_reason(name):
    make, shape, *_ = CASES[name]
    skipped = fuse(randomize(make()), torch.randn(shape)).skipped
    assert any(REASONS[name] in str(skip) for skip in skipped), list(map(str, skipped))


def test_tied_weights_stay_tied_and_the_norm_before_them_stays():
    network = randomize(zoo.TiedHead().double())
    result = fuse(network, torch.randint(0, 30, (2, 5)))
    assert parameters(result.model) == parameters(network)
    assert any("also used by" in skip.reason for skip in result.skipped)


def test_a_pool_in_ceil_mode_stays():
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.AvgPool2d(2, ceil_mode=True), nn.BatchNorm2d(4)).double()
    result = fuse(randomize(network), torch.randn(2, 4, 9, 9, dtype=torch.float64))
    assert norms(result.model) == 0  # it passes a pool that averages what there is
    assert_equal(network, result.model, torch.randn(2, 4, 9, 9, dtype=torch.float64))
    assert any("ceil mode" in skip.reason for skip in result.skipped)


# --- modes


def test_a_network_in_training_mode_is_refused_by_the_path_of_what_trains():
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    with pytest.raises(FuseError, match=r"`1` \(BatchNorm2d\) is in training mode: call model\.eval\(\) first"):
        fuse(network, torch.randn(MAP))
    with pytest.raises(FuseError, match=r"`1` \(Dropout\) is in training mode"):
        fuse(nn.Sequential(nn.Linear(8, 8), nn.Dropout()), torch.randn(2, 8))


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


def test_frozen_norms_of_a_training_network_are_merged():
    network = randomize(nn.Sequential(zoo.conv_bn(8, 8, 3), nn.ReLU()).double())
    network.train()
    network[0][1].eval()
    assert norms(fuse(network, torch.randn(MAP, dtype=torch.float64)).model) == 0


def test_a_norm_without_statistics_is_left_with_its_reason():
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, track_running_stats=False)).eval()
    result = fuse(network, torch.randn(MAP))
    assert "no running statistics and depends on its batch" in result.skipped[0].reason


def test_instance_norm_and_max_pool_are_never_merged():
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.MaxPool2d(2), nn.BatchNorm2d(8)).double()
    result = fuse(randomize(network), torch.randn(MAP, dtype=torch.float64))
    assert not result.merges
    assert_equal(network, result.model, torch.randn(MAP, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks_are_merged_in_float64_and_cast_once(dtype):
    network = randomize(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))).to(dtype)
    x = torch.randn(2, 4, 8, 8).to(dtype)
    exact = fuse(copy.deepcopy(network).double(), x.double()).model
    halved = fuse(network, x).model
    assert halved(x).dtype == dtype
    for a, b in zip(exact.parameters(), halved.parameters(), strict=True):
        assert torch.equal(a.to(dtype), b)


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


# --- what comes out


@pytest.fixture(scope="module")
def pair():
    network = randomize(nn.Sequential(zoo.Asymmetric(), nn.ReLU(), zoo.BlockCalledTwice(), zoo.PoolBranches()))
    return network, fuse(network, torch.randn(1, 8, 16, 16)).model


def test_the_result_is_an_ordinary_module_with_the_originals_names(pair, tmp_path):
    network, fused = pair
    x = torch.randn(3, 8, 12, 20)
    assert isinstance(fused, Fused)
    assert not fused.training
    assert set(fused.state_dict()) == {f"{path}.{key}" for path in ("0", "2.block.0", "3") for key in ("weight", "bias")}
    assert isinstance(fused.get_submodule("2.block.0"), nn.Conv2d)
    expected = network(x)
    for copied in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert torch.equal(copied(x), fused(x))
        assert not copied.training
    assert torch.allclose(copy.deepcopy(fused).double()(x.double()).float(), expected, atol=1e-5)
    torch.save(fused.state_dict(), tmp_path / "weights.pt")
    copied = copy.deepcopy(fused)
    for parameter in copied.parameters():
        parameter.data.zero_()
    copied.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(copied(x), fused(x))
    assert fused.to(memory_format=torch.channels_last)(x).shape == expected.shape
    assert "def forward(self, input):" in fused.code


def test_norms_and_embeddings_that_stay_keep_their_names():
    network = randomize(zoo.GroupNorms())
    assert "second.weight" in fuse(network, torch.randn(MAP)).model.state_dict()
    embedded = fuse(randomize(zoo.Classifier()), torch.randint(0, 50, (2, 7))).model
    assert "embed.weight" in embedded.state_dict()


def test_the_result_exports_with_free_sizes(pair, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, fused = pair
    sizes = {"input": {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}}
    program = torch.export.export(fused, (torch.randn(2, 8, 16, 16),), dynamic_shapes=sizes)
    x = torch.randn(5, 8, 9, 11)
    assert torch.allclose(program.module()(x), network(x), atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx = torch.onnx.export(fused, (torch.randn(2, 8, 16, 16),), dynamo=True, dynamic_shapes=sizes, verbose=False)
    session = onnxruntime.InferenceSession(onnx.model_proto.SerializeToString())
    assert torch.allclose(torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), network(x), atol=1e-4)


def test_structured_inputs_outputs_and_keywords_keep_their_form():
    class Structured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

        def forward(self, batch, *, weights=None, flag=False):
            y = self.bn(self.conv(batch["image"][0]))
            return {"map": y if weights is None else y * weights, "rest": [y.mean(), (batch["image"][1], 3)]}

    network = randomize(Structured().double())
    x, more = torch.randn(MAP, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    weights = torch.rand(14, 14, dtype=torch.float64)
    fused = fuse(network, {"image": [x, more]}, weights=weights).model
    y = torch.randn(3, 8, 16, 16, dtype=torch.float64)
    expected, found = (m({"image": [y, more]}, weights=weights) for m in (network, fused))
    assert torch.allclose(expected["map"], found["map"], rtol=1e-10)
    assert found["rest"][1][1] == 3
    assert torch.equal(found["rest"][1][0], more)


def test_training_a_merged_network_needs_an_explicit_choice(pair):
    fused = copy.deepcopy(pair[1])
    assert not any(p.requires_grad for p in fused.parameters())
    with pytest.raises(FuseError, match=r"merged for inference.*reparam\.trainable"):
        fused.train()
    assert reparam.trainable(fused).train().training
    fused(torch.randn(2, 8, 8, 8)).mean().backward()
    assert all(p.grad is not None for p in fused.parameters())
    with pytest.raises(FuseError, match="only a fused network"):
        reparam.trainable(nn.ReLU())


def test_a_size_for_which_the_network_computes_something_else_is_refused():
    network = randomize(zoo.SizeBranch().double())
    fused = fuse(network, torch.randn(MAP, dtype=torch.float64)).model
    for size in (1, 5, 19):
        assert_equal(network, fused, torch.randn(1, 8, size, 7, dtype=torch.float64))
    with pytest.raises(FuseError, match="outside what the network was fused for"):
        fused(torch.randn(1, 8, 24, 16, dtype=torch.float64))


def test_a_branch_on_a_batch_of_one_is_found():
    class Single(zoo.SizeBranch):
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
    with pytest.raises(FuseError, match="outside what the network was fused for"):
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


def test_names_that_collide_with_arguments_or_the_class_do_no_harm():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.code, self.trains, self.forward_ = nn.Conv1d(8, 8, 3), nn.BatchNorm1d(8), nn.Linear(7, 7)

        def forward(self, batch, batch_x, conv1d):
            return self.forward_(self.trains(self.code(batch["x"]))) + batch_x * conv1d

    network = randomize(Named().double())
    inputs = ({"x": torch.randn(2, 8, 9).double()}, torch.randn(2, 8, 7).double(), torch.randn(2, 8, 7).double())
    result = fuse(network, *inputs)
    assert norms(result.model) == 0
    assert torch.allclose(network(*inputs), result.model(*inputs), rtol=1e-10)
    assert torch.allclose(network(*inputs), pickle.loads(pickle.dumps(result.model))(*inputs), rtol=1e-10)


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


def test_a_clone_that_is_returned_stays_a_clone():
    class Cloning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.bn = nn.Linear(8, 8), nn.BatchNorm1d(8)

        def forward(self, x):
            return x.clone(), self.bn(self.linear(x))

    x = torch.randn(4, 8, dtype=torch.float64)
    first, _ = fuse(randomize(Cloning().double()), x).model(x)
    assert first.data_ptr() != x.data_ptr()


def test_a_stream_that_keeps_its_past_in_a_buffer_goes_on():
    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv1d(8, 8, 3), nn.BatchNorm1d(8)
            self.register_buffer("past", torch.zeros(2, 8, 2))

        def forward(self, x):
            joined = torch.cat([self.past, x], 2)
            self.past.copy_(joined[..., -2:])
            return self.bn(self.conv(joined))

    network = randomize(Stream().double())
    fused = fuse(network, torch.randn(2, 8, 9, dtype=torch.float64)).model
    assert (norms(fused), float(network.past.abs().max())) == (0, 0.0)
    for _ in range(3):
        assert_equal(network, fused, torch.randn(2, 8, 9, dtype=torch.float64))


def test_a_network_that_writes_into_its_input_still_does():
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

        def forward(self, x):
            x.mul_(2)
            return self.bn(self.conv(x))

    network = randomize(Writes().double())
    x = torch.randn(MAP, dtype=torch.float64)
    given = x.clone()
    fused = fuse(network, x).model
    assert torch.equal(x, given)
    fused(x)
    assert torch.equal(x, 2 * given)


# --- recurrent layers


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("more", [{}, {"bidirectional": True}, {"bias": False}], ids=["plain", "both-ways", "no-bias"])
def test_recurrent_layers_take_in_what_feeds_them(kind, more):
    network = randomize(zoo.Classifier(kind, **more).double())
    if more.get("bias") is False:
        network.norm.bias = None
    index = torch.randint(0, 50, (2, 7))
    result = fuse(network, index)
    assert not any("norm" in name for name in result.model.state_dict())
    assert parameters(result.model) <= parameters(network)
    if kind is nn.LSTM and "bias" not in more:
        assert not any("bias_hh" in name for name, _ in result.model.named_parameters())
    for length, batch in ((7, 2), (3, 1), (12, 4)):
        assert_equal(network, result.model, torch.randint(0, 50, (batch, length)))
    assert_equal(network, copy.deepcopy(result.model), index)
    assert_equal(network, pickle.loads(pickle.dumps(result.model)), index)


def test_a_linear_layer_before_an_lstm_folds_where_it_saves():
    class Projected(nn.Module):
        def __init__(self, width) -> None:
            super().__init__()
            self.linear, self.rnn = nn.Linear(6, width), nn.LSTM(width, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(self.linear(x))

    x = torch.randn(2, 5, 6, dtype=torch.float64)
    for width, folds in ((12, True), (2, False)):
        network = Projected(width).double().eval()
        result = fuse(network, x)
        assert ("linear.weight" not in result.model.state_dict()) == folds
        assert_equal(network, result.model, x)


# --- networks that cannot be captured whole


def test_a_detector_is_fused_by_its_largest_parts():
    network = randomize(zoo.Detector())
    x = torch.randn(2, 3, 33, 41)
    result = fuse(network, x)
    assert result.parts == ("backbone", "head")
    assert type(result.model) is zoo.Detector
    assert isinstance(result.model.backbone, Fused)
    assert norms(result.model) == 0
    assert norms(network) == 3
    assert "merged by parts" in str(result)
    assert all(merge.into.startswith(("backbone.", "head.")) for merge in result.merges)
    for size in (33, 64):
        y = torch.randn(1, 3, size, size)
        assert torch.allclose(network(y), result.model(y), atol=1e-4)


def test_a_region_of_its_own_leaves_the_rest_merged():
    network = randomize(zoo.Conditional().double())
    x = torch.randn(MAP, dtype=torch.float64)
    result = fuse(network, x)
    assert result.parts == ("block",)
    assert norms(result.model) == 0
    assert_equal(network, result.model, x)


def test_a_buffer_that_counts_calls_goes_on_counting():
    network = randomize(zoo.Counting().double())
    fused = fuse(network, torch.randn(MAP, dtype=torch.float64)).model
    assert (int(network.calls), norms(fused)) == (0, 0)
    for _ in range(2):
        fused(torch.randn(MAP, dtype=torch.float64))
    assert int(fused.calls) == 2


def test_a_network_that_draws_at_random_is_left_with_the_reason():
    network = randomize(zoo.Noisy())
    result = fuse(network, torch.randn(MAP))
    assert not result.merges
    assert norms(result.model) == 1
    assert any("it draws at random (aten.rand" in skip.reason for skip in result.skipped)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*is deprecated")
def test_a_scripted_network_is_refused_with_what_to_do():
    network = torch.nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)).eval()
    with pytest.raises(FuseError, match="fuse the original and script the result"):
        fuse(torch.jit.trace(network, torch.randn(MAP)), torch.randn(MAP))


def test_large_maps_are_overwritten_where_nothing_else_reads_them():
    network = randomize(zoo.Residual().double())
    result = fuse(network, torch.randn(MAP, dtype=torch.float64))
    assert "conv2d.add_(x)" in result.model.code
    assert "aten.relu_.default(add_)" in result.model.code
    x = torch.randn(MAP, dtype=torch.float64)
    given = x.clone()
    result.model(x)
    assert torch.equal(x, given)


def test_a_part_that_is_reached_into_is_left():
    class Reaching(zoo.Detector):
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
    with pytest.raises(FuseError, match="does not run on this example: RuntimeError"):
        fuse(nn.Conv2d(3, 3, 3), torch.randn(2, 5, 8, 8))
    with pytest.raises(FuseError, match="an example of the network's inputs is needed"):
        fuse(nn.Conv2d(3, 3, 3))
    with pytest.raises(FuseError, match=r"a torch\.nn\.Module is needed, not builtin"):
        fuse(torch.relu, torch.randn(2))


# --- gates and reports


def test_a_merge_that_is_not_equal_is_rolled_back_and_reported(monkeypatch):
    from audiorep.reparam import algebra

    scale = algebra.scale
    monkeypatch.setattr(algebra, "scale", lambda taps, gain, *rest: scale(taps, gain * (1 + 1e-8), *rest))
    network = randomize(nn.Sequential(zoo.conv_bn(8, 8, 3), nn.ReLU()).double())
    result = fuse(network, torch.randn(MAP, dtype=torch.float64))
    assert not result.merges
    assert any("rolled back: its float64 error is" in skip.reason for skip in result.skipped)
    assert_equal(network, result.model, torch.randn(MAP, dtype=torch.float64))


def test_a_merge_that_loses_float32_precision_is_rolled_back():
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)).eval()
    with torch.no_grad():
        network[0].weight.normal_()
        network[0].bias.fill_(1e6)
        network[1].running_mean.fill_(1e6)  # the difference of two large numbers, now in one weight's rounding
    result = fuse(network, torch.randn(MAP))
    assert result.verification.passed


def test_the_report_reads_as_a_table_and_as_json():
    result = fuse(randomize(zoo.Asymmetric()), torch.randn(MAP))
    text = str(result)
    assert "parameters  1,008    584" in text
    assert "conv 3×3 + 3 batch norm + conv 3×1 + conv 1×3" in text
    assert "float64 difference" in text
    values = json.loads(json.dumps(result.to_dict()))
    assert values["verification"]["passed"] is True
    assert values["after"]["operations"] == {"conv": 1}
    branches = [merge for merge in values["merges"] if merge["kind"] == "parallel branches"]
    assert len(branches) == 1
    assert branches[0]["weight_range"] > 0
    assert branches[0]["error"] <= 1e-10
    assert all(merge["into"] == "square.0" or merge["members"] for merge in values["merges"])


def test_a_plan_computes_no_weights():
    class Untouchable(nn.Conv2d):
        pass

    network = randomize(nn.Sequential(Untouchable(8, 8, 3), nn.BatchNorm2d(8)))
    before = copy.deepcopy(network.state_dict())
    dry = plan(network, torch.randn(MAP))
    assert (dry.before.operations, dry.after.operations) == ({"conv": 1, "batch norm": 1}, {"conv": 1})
    assert dry.merges[0].error is None
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


# --- our own networks


@pytest.mark.parametrize("name", ["arin_pico"])
def test_networks_fuse_completely_within_both_gates(name):
    network = randomize(models.build(name, {"verb": 7, "noun": 5}))
    result = fuse(network, torch.randn(1, 1, 65, 64))
    assert result.verification.passed
    assert result.verification.float64 <= 1e-10
    assert result.after.operations["conv"] == 1 + 16 * 5 + 3
    assert result.after.operations["add"] == 16
    assert norms(result.model) == 0
    assert kinds(result.model, Block, Parallel) == 0
    assert isinstance(result.model.get_submodule("stages.0.0.time"), nn.Conv2d)
    x = torch.randn(3, 1, 40, 48)
    expected, found = network(x), result.model(x)
    assert all((expected[h] - found[h]).abs().max() < 1e-5 * expected[h].abs().max() for h in ("verb", "noun"))


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


def test_a_network_that_treats_a_batch_of_one_apart_is_captured_as_the_example_is():
    class Single(zoo.SizeBranch):
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


def test_weights_that_were_merged_on_are_freed():
    from audiorep.reparam.affine import Affine
    from audiorep.reparam.capture import capture
    from audiorep.reparam.engine import Engine

    network = randomize(nn.Sequential(zoo.Asymmetric(), nn.ReLU(), zoo.PoolBranches()))
    engine = Engine(capture(network, (torch.randn(MAP),), {}), dry=False)
    engine.run()
    gc.collect()
    alive = {id(node.target) for node in engine.captured.graph.nodes}
    held = [o for o in gc.get_objects() if type(o) is Affine and not o.taps.weight.is_meta and len(o.members) > 1]
    assert not [o for o in held if id(o) not in alive]
