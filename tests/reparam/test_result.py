"""The result of a merge is an ordinary module with the original's names."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from support import networks as zoo
from support import unusual_networks
from support.fusing import MAP, assert_equal, norms
from support.networks import randomize
from torch import nn

from audiorep import reparam
from audiorep.errors import FuseError
from audiorep.reparam import Fused, fuse


@pytest.fixture(scope="module")
def pair():
    network = randomize(nn.Sequential(zoo.Asymmetric(), nn.ReLU(), unusual_networks.BlockCalledTwice(), zoo.PoolBranches()))
    return network, fuse(network, torch.randn(1, 8, 16, 16)).model


@pytest.mark.slow
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


@pytest.mark.slow
def test_norms_and_embeddings_that_stay_keep_their_names():
    network = randomize(zoo.GroupNorms())
    assert "second.weight" in fuse(network, torch.randn(MAP)).model.state_dict()
    embedded = fuse(randomize(unusual_networks.Classifier()), torch.randint(0, 50, (2, 7))).model
    assert "embed.weight" in embedded.state_dict()


@pytest.mark.slow
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


@pytest.mark.slow
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
    with pytest.raises(FuseError, match=r"reparam\.trainable"):
        fused.train()
    assert reparam.trainable(fused).train().training
    fused(torch.randn(2, 8, 8, 8)).mean().backward()
    assert all(p.grad is not None for p in fused.parameters())
    with pytest.raises(FuseError):
        reparam.trainable(nn.ReLU())


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_buffer_that_counts_calls_goes_on_counting():
    network = randomize(unusual_networks.Counting().double())
    fused = fuse(network, torch.randn(MAP, dtype=torch.float64)).model
    assert (int(network.calls), norms(fused)) == (0, 0)
    for _ in range(2):
        fused(torch.randn(MAP, dtype=torch.float64))
    assert int(fused.calls) == 2


def test_large_maps_are_overwritten_where_nothing_else_reads_them():
    network = randomize(zoo.Residual().double())
    result = fuse(network, torch.randn(MAP, dtype=torch.float64))
    assert "conv2d.add_(x)" in result.model.code
    assert "aten.relu_.default(add_)" in result.model.code
    x = torch.randn(MAP, dtype=torch.float64)
    given = x.clone()
    result.model(x)
    assert torch.equal(x, given)
