"""The network is the paper's, to the parameter."""

from __future__ import annotations

import pytest
import torch

from audiorep import models, reparam
from audiorep.errors import ConfigError
from audiorep.models.arin import Block, SqueezeExcitation, StochasticDepth

PAPER = (1, 1, 512, 128)


@pytest.fixture(scope="module")
def base():
    return models.build("arin_base", {"label": 309}).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "parameters", "gmacs"),
    [(lambda n: n, 11_834_869, 2.62), (models.merge_branches, 11_691_381, 2.55)],
    ids=["training", "authors-merged"],
)
def test_base_has_the_papers_parameters_and_macs(base, form, parameters, gmacs):
    cost = models.cost(form(base), PAPER)
    assert cost.parameters == parameters
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.01)


@pytest.mark.slow
def test_merged_base_is_to_have_the_papers_parameters_and_macs():
    with torch.device("meta"):
        plan = reparam.plan(models.build("arin_base", {"label": 309}).eval(), torch.zeros(PAPER))
    assert (plan.after.operations["conv"], plan.after.operations["add"]) == (1 + 16 * 5 + 3, 16)
    assert plan.after.parameters == 11_667_765
    assert plan.after.macs / 1e9 == pytest.approx(2.53, rel=0.01)


@pytest.mark.full
def test_base_is_merged_as_planned(base):
    result = reparam.fuse(base, torch.randn(1, 1, 64, 32))
    assert result.verification.passed
    cost = models.cost(result.model, PAPER)
    assert cost.parameters == 11_667_765
    assert cost.macs / 1e9 == pytest.approx(2.53, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in models.ARCHITECTURES if name.startswith("arin")])
def test_every_size_takes_any_length_and_gives_logits(name):
    network = models.build(name, {"verb": 97, "noun": 300}).eval()
    for frames, bands in [(1, 64), (33, 40), (416, 128)]:
        found = {name: values.shape for name, values in network(torch.randn(2, 1, frames, bands)).items()}
        assert found == {"verb": (2, 97), "noun": (2, 300), "embedding": (2, network.config.width * 8)}
    assert network.forward_features(torch.randn(1, 1, 64, 64)).shape == (1, network.config.width * 8, 2, 2)


@pytest.mark.slow
def test_logits_are_the_same_function_in_both_modes():
    network = models.build("arin_pico", {"label": 5}, {"dropout": 0.0})
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # one batch's statistics become the running ones
    x = torch.randn(8, 1, 64, 64)
    trained = network.train()(x)["label"]
    assert not torch.allclose(trained.sum(1), torch.ones(8))  # no softmax
    assert torch.allclose(network.eval()(x)["label"].argmax(1), trained.argmax(1))


def test_batch_norm_of_every_blocks_last_convolution_starts_at_zero(base):
    blocks = [module for module in base.modules() if isinstance(module, Block)]
    assert len(blocks) == 16
    assert all(block.project.bn.weight.abs().max() == 0 for block in blocks)


def test_every_field_is_configurable():
    settings = {
        "width": 8,
        "depths": [1, 2],
        "time_kernels": [5],
        "frequency_kernels": [3, 7],
        "stem_kernel": [3, 3],
        "expansion": 2,
        "standard_stages": [2],
        "dropout": 0.0,
        "stochastic_depth": 0.3,
    }
    network = models.build("arin_pico", {"label": 4}, settings).eval()
    assert network(torch.randn(1, 1, 50, 40))["label"].shape == (1, 4)
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    assert [block.time.k5.conv.groups for block in blocks] == [8, 1, 1]
    assert blocks[-1].skip.rate == pytest.approx(0.3)


def test_unknown_names_fields_and_values_are_refused_together():
    with pytest.raises(ConfigError, match="arin_base, arin_small"):
        models.build("arin_huge", {"label": 2})
    with pytest.raises(ConfigError, match="widht is not a setting"):
        models.build("arin_pico", {"label": 2}, {"widht": 3})
    with pytest.raises(ConfigError, match=r"odd.*expansion is 0"):
        models.build("arin_pico", {"label": 2}, {"time_kernels": [4], "expansion": 0})


def test_stochastic_depth_keeps_the_mean_and_is_off_in_evaluation():
    torch.manual_seed(0)
    skip = StochasticDepth(0.25)
    x = torch.ones(4000, 1, 1, 1)
    kept = skip.train()(x)
    assert sorted(set(kept.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert kept.mean() == pytest.approx(1, abs=0.03)
    assert skip.eval()(x) is x


OPTIONS = {
    "grouped": {"grouped_stages": [1, 2], "group_channels": 4},
    "grouped-beside-standard": {"grouped_stages": [2], "standard_stages": [1]},
    "squeeze-excitation": {"squeeze_excitation": 2},
    "strides": {"strides": [2, 1]},
    "stem": {"stem_stride": 1, "stem_pool": False},
    "all": {
        "grouped_stages": [2],
        "group_channels": 2,
        "squeeze_excitation": 4,
        "strides": [2, 2],
        "stem_stride": 3,
        "stem_pool": False,
    },
}
BY_DEFAULT = ("all", "grouped-beside-standard")  # the others are in these, one at a time


def small(**settings):
    """A network of two stages whose norms scale and shift, as a training leaves them."""
    torch.manual_seed(0)
    network = models.build("arin_pico", {"label": 5}, {"depths": [1, 2], **settings})
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, 0.0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", [n if n in BY_DEFAULT else pytest.param(n, marks=pytest.mark.full) for n in OPTIONS])
def test_every_option_fuses_exactly_and_costs_less_afterwards(name):
    settings = OPTIONS[name]
    network, x = small(**settings), torch.randn(3, 1, 40, 32)
    result = reparam.fuse(network, x[:1])
    assert result.verification.passed
    with torch.no_grad():
        expected = network(x)["label"]
        assert torch.allclose(result.model(x)["label"], expected, rtol=1e-4, atol=1e-4)
        assert torch.allclose(models.merge_branches(network)(x)["label"], expected, rtol=1e-4, atol=1e-4)
    counts = [models.cost(form, (1, 1, 40, 32)) for form in (network, models.merge_branches(network), result.model)]
    assert counts[0].parameters > counts[1].parameters > counts[2].parameters
    assert counts[0].macs > counts[1].macs > counts[2].macs
    excitations = 6 if "squeeze_excitation" in settings else 0  # two 1×1 convolutions in each of three blocks
    shortcuts = 1 + ("strides" in settings)  # where the first stage's block keeps its input's size it has none
    assert result.after.operations["conv"] == 1 + 3 * 5 + shortcuts + excitations
    assert not result.after.operations.get("batch norm")


@pytest.mark.slow
def test_options_left_alone_add_nothing_to_a_network():
    torch.manual_seed(0)
    plain = models.build("arin_pico", {"label": 5})
    torch.manual_seed(0)
    spelled = models.build(
        "arin_pico",
        {"label": 5},
        {"grouped_stages": [], "squeeze_excitation": 0, "strides": [1, 2, 2, 2], "stem_stride": 2, "stem_pool": True},
    )
    ours, theirs = plain.state_dict(), spelled.state_dict()
    assert list(ours) == list(theirs)
    assert not [name for name in ours if "excite" in name]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_grouped_stages_mix_channels_in_groups_and_others_do_not():
    network = small(grouped_stages=[2], group_channels=4)
    convolutions = [block.time.k11.conv for block in network.modules() if isinstance(block, Block)]
    assert [(conv.in_channels, conv.groups, conv.weight.shape[1]) for conv in convolutions] == [
        (8, 8, 1),
        (16, 4, 4),
        (16, 4, 4),
    ]


def test_squeeze_excitation_weighs_the_expanded_channels_by_their_means():
    network = small(squeeze_excitation=2)
    excitations = [module for module in network.modules() if isinstance(module, SqueezeExcitation)]
    assert [tuple(e.squeeze.weight.shape[:2]) for e in excitations] == [(16, 32), (32, 64), (32, 64)]
    x = torch.randn(2, 32, 5, 4)
    gates = excitations[0](x) / x
    assert torch.allclose(gates, gates[:, :, :1, :1].expand_as(gates), atol=1e-5)
    assert 0 < gates.min() < gates.max() < 1


@pytest.mark.parametrize(
    ("settings", "size"),
    [({}, (4, 4)), ({"stem_pool": False}, (8, 8)), ({"stem_stride": 1, "stem_pool": False, "strides": [1, 1]}, (32, 32))],
)
def test_strides_and_stem_decide_how_much_resolution_is_left(settings, size):
    assert small(**settings).forward_features(torch.randn(1, 1, 32, 32)).shape == (1, 16, *size)


def test_options_that_cannot_be_are_refused_together():
    with pytest.raises(ConfigError, match=r"grouped_stages .*1\.\.4.*squeeze_excitation is -1"):
        models.build("arin_pico", {"label": 2}, {"grouped_stages": [5], "squeeze_excitation": -1})
    wrong = {"standard_stages": [2], "grouped_stages": [1, 2], "group_channels": 16, "strides": [1, 2]}
    with pytest.raises(ConfigError, match=r"\[2\] .*grouped_stages.*16 .*\[8\].*strides \(1, 2\)"):
        models.build("arin_pico", {"label": 2}, wrong)
    with pytest.raises(ConfigError, match=r"group_channels is 0.*stem_stride 0.*strides .* at least 1"):
        models.build("arin_pico", {"label": 2}, {"group_channels": 0, "stem_stride": 0})
