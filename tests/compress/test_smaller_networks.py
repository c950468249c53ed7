"""Pruned and low-rank networks compute nearly the same with less, reload as they are, and refuse what cannot be."""

from __future__ import annotations

import copy

import pytest
import torch
from support.compressed import sweeps
from torch import nn

from audiorep import models
from audiorep.compress import low_rank
from audiorep.compress.prune import prune
from audiorep.errors import CheckpointError, ConfigError
from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.layers import SubsampledConv2d
from audiorep.models.resized import Factored, change_layers, changed_layers


def macs(network: nn.Module) -> float:
    return float(models.cost(network, (1, 1, 32, 16)).macs)


def logits(network: nn.Module, spectrogram: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(spectrogram)["label"]


def save_and_load(model: Checkpoint, network: nn.Module, folder) -> Checkpoint:
    checkpoint.save(folder, network, model.info, model.architecture)
    return checkpoint.load(folder)


def test_a_network_as_configured_has_no_changed_layers(model, tmp_path):
    loaded = save_and_load(model, model.network, tmp_path)
    assert loaded.layers == {}
    assert "layers" not in checkpoint.read_json(tmp_path / checkpoint.CONFIG)


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ({"nowhere": {"num_features": 4}}, "no layer 'nowhere'"),
        ({"stem.bn": {"num_features": 4000}}, "num_features 4000; 1 to 16"),
        ({"stem.bn": {"num_features": True}}, "num_features True"),
        ({"stem.bn": {"channels": 4}}, "BatchNorm2d"),
        ({"stem.conv": {"in_channels": 1, "out_channels": 8, "groups": 1, "rank": 1}}, "no plain pointwise"),
        ({"heads.label": {"in_features": 32, "out_features": 5, "rank": 6}}, "rank 6; 1 to 5"),
        ({"stages.0.0.time.k3.conv": {"in_channels": 16, "out_channels": 16, "groups": 3}}, "cannot be made"),
        ({"stages": {"num_features": 4}}, "is a Sequential"),
    ],
)
def test_sizes_that_a_layer_cannot_have_are_refused(model, layers, text):
    with pytest.raises(ConfigError, match=text):
        change_layers(copy.deepcopy(model.network), layers)


def test_a_checkpoint_with_impossible_layers_is_refused_with_its_path(model, tmp_path):
    save_and_load(model, model.network, tmp_path)
    values = checkpoint.read_json(tmp_path / checkpoint.CONFIG)
    for layers in ({"stem.bn": {"num_features": 1 << 40}}, ["stem.bn"], {"stem.bn": 3}):
        checkpoint.write_json(tmp_path / checkpoint.CONFIG, {**values, "layers": layers})
        with pytest.raises(CheckpointError, match=checkpoint.CONFIG):
            checkpoint.load(tmp_path)


PAIRS = [("taylor", "global"), ("norm", "stage")]
OTHERS = [("magnitude", "global"), ("magnitude", "stage"), ("norm", "global"), ("taylor", "stage")]


@pytest.mark.slow
@pytest.mark.parametrize(("importance", "scope"), [*PAIRS, *(pytest.param(*pair, marks=pytest.mark.full) for pair in OTHERS)])
def test_a_pruned_network_fits_its_share_and_reloads_from_its_folder(model, tmp_path, importance, scope):
    def gradients(network):
        network(model.example())["label"].square().sum().backward()

    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    made = prune(model.network, model.example(), macs, 0.5, importance, scope, gradients=gradients)
    assert 0.35 * macs(model.network) < macs(made) <= 0.5 * macs(model.network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())
    widths = {m.out_channels for m in made.modules() if isinstance(m, nn.Conv2d)}
    assert all(width % 4 == 0 for width in widths)
    loaded = save_and_load(model, made, tmp_path)
    assert loaded.layers == changed_layers(made, model.network)
    assert torch.equal(logits(loaded.network, model.example()), logits(made, model.example()))
    fused = loaded.fuse().model
    assert torch.allclose(logits(fused, model.example()), logits(made, model.example()), atol=1e-4)


@pytest.mark.slow
def test_importances_choose_different_channels(model):
    def gradients(network):
        network(model.example())["label"].square().sum().backward()

    kinds = ("magnitude", "norm", "taylor")
    made = [prune(model.network, model.example(), macs, 0.5, kind, gradients=gradients) for kind in kinds]
    found = [logits(network, model.example()) for network in made]
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


@pytest.mark.slow
def test_channels_of_no_use_are_the_first_to_go(model):
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        for block in network.stages.modules():
            if hasattr(block, "expand"):
                block.expand.bn.weight[::2], block.expand.bn.bias[::2] = 0, 0
                block.project.conv.weight[:, ::2] = 0
                block.expand.conv.weight[::2] = 0
    made = prune(network, model.example(), macs, 0.85, "magnitude")
    assert torch.allclose(logits(made, model.example()), logits(network, model.example()), atol=1e-4)


@pytest.mark.slow
def test_a_network_whose_layers_would_lose_all_their_channels_together_is_pruned_less():
    network = models.build(
        "yamnet", {"label": 3}, {"widths": [16, 32, 32, 64], "strides": [1, 2, 1, 2], "stem_width": 16}
    ).eval()
    example = torch.randn(1, 1, 96, 64)
    made = prune(network, example, macs, 0.5)
    assert 0.3 < macs(made) / macs(network) <= 0.5
    assert logits(made, example).shape == (1, 3)


@pytest.mark.slow
def test_pruning_refuses_what_cannot_be(model):
    with pytest.raises(ConfigError, match=r"1% .*the least is \d+%"):
        prune(model.network, model.example(), macs, 0.01)
    with pytest.raises(ConfigError, match=r"0 and 1; 1\.5"):
        prune(model.network, model.example(), macs, 1.5)
    with pytest.raises(ConfigError, match="gradients"):
        prune(model.network, model.example(), macs, 0.5, "taylor")
    with pytest.raises(ConfigError, match="'random'; there are magnitude, norm, taylor"):
        prune(model.network, model.example(), macs, 0.5, "random")
    normed = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    with pytest.raises(ConfigError, match="LayerNorm"):
        prune(normed, torch.zeros(1, 4), macs, 0.5)


def test_a_layer_stays_safe_to_train_when_its_sizes_change(model):
    layers = {"stages.1.0.shortcut.conv": {"in_channels": 16, "out_channels": 6, "groups": 1}}
    network = change_layers(copy.deepcopy(model.network), layers)
    assert type(network.get_submodule("stages.1.0.shortcut.conv")) is SubsampledConv2d
    factored = change_layers(copy.deepcopy(model.network), {"stages.1.0.shortcut.conv": {**layers.popitem()[1], "rank": 3}})
    assert type(factored.get_submodule("stages.1.0.shortcut.conv.first")) is SubsampledConv2d
    assert changed_layers(factored, model.network)["stages.1.0.shortcut.conv"]["rank"] == 3


def test_low_rank_of_all_energy_computes_the_same(model):
    made = low_rank.low_rank(model.network, 1.0)
    assert torch.allclose(logits(made, model.example()), logits(model.network, model.example()), atol=1e-5)


@pytest.mark.slow
def test_low_rank_factors_only_where_it_pays_and_reloads(model, tmp_path):
    made = low_rank.low_rank(model.network, 0.6)
    factored = {name: module for name, module in made.named_modules() if isinstance(module, Factored)}
    assert factored
    for name, module in factored.items():
        layer = model.network.get_submodule(name)
        assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in layer.parameters())
    loaded = save_and_load(model, made, tmp_path)
    assert set(loaded.layers) == set(factored)
    assert torch.equal(logits(loaded.network, model.example()), logits(made, model.example()))
    assert torch.allclose(logits(loaded.fuse().model, model.example()), logits(made, model.example()), atol=1e-4)


def test_a_matrix_of_low_rank_is_found_exactly():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(32, 24))
    network[0].weight.data = torch.randn(24, 3) @ torch.randn(3, 32)
    made = low_rank.low_rank(network, 0.999999)
    assert made[0].first.out_features == 3
    x = torch.randn(5, 32)
    assert torch.allclose(made(x), network(x), atol=1e-4)


@pytest.mark.slow
def test_measured_inputs_make_low_rank_nearer_to_what_the_network_does(model):
    spectrograms = model.front_end(sweeps(64, seed=2))
    moments = low_rank.input_moments(model.network, spectrograms.split(16))
    cost = lambda network: float(sum(p.numel() for p in network.parameters()))  # noqa: E731
    blind, _ = low_rank.low_rank_to(model.network, cost, 0.6)
    seeing, energy = low_rank.low_rank_to(model.network, cost, 0.6, moments)
    assert cost(blind) <= 0.6 * cost(model.network)
    assert cost(seeing) <= 0.6 * cost(model.network)
    assert 0.5 < energy < 1
    test = model.front_end(sweeps(64, seed=3))
    expected = logits(model.network, test)
    assert (logits(seeing, test) - expected).norm() < 0.7 * (logits(blind, test) - expected).norm()


@pytest.mark.slow
def test_low_rank_refuses_what_cannot_be(model):
    with pytest.raises(ConfigError, match=r"energy.*1\.2"):
        low_rank.low_rank(model.network, 1.2)
    with pytest.raises(ConfigError, match=r"1%; the least is \d+%"):
        low_rank.low_rank_to(model.network, macs, 0.01)
    with pytest.raises(ConfigError, match="clips"):
        low_rank.input_moments(model.network, [])
