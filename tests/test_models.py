"""The network is the paper's, to the parameter."""

from __future__ import annotations

import pytest
import torch

from audiorep import models, reparam
from audiorep.errors import ConfigError
from audiorep.models.arin import Block, StochasticDepth

PAPER = (1, 1, 512, 128)


def fused(network):
    result = reparam.fuse(network, torch.randn(1, 1, 64, 32))
    assert result.verification.passed
    assert (result.after.operations["conv"], result.after.operations["add"]) == (1 + 16 * 5 + 3, 16)
    return result.model


@pytest.fixture(scope="module")
def base():
    return models.build("arin_base", {"label": 309}).eval()


@pytest.mark.parametrize(
    ("form", "parameters", "gmacs"),
    [(lambda n: n, 11_834_869, 2.62), (models.merge_branches, 11_691_381, 2.55), (fused, 11_667_765, 2.53)],
    ids=["training", "authors-merged", "fused"],
)
def test_base_has_the_papers_parameters_and_macs(base, form, parameters, gmacs):
    cost = models.cost(form(base), PAPER)
    assert cost.parameters == parameters
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.01)


@pytest.mark.parametrize("name", [name for name in models.ARCHITECTURES if name.startswith("arin")])
def test_every_size_takes_any_length_and_gives_logits(name):
    network = models.build(name, {"verb": 97, "noun": 300}).eval()
    for frames, bands in [(1, 64), (33, 40), (416, 128)]:
        logits = network(torch.randn(2, 1, frames, bands))
        assert {head: values.shape for head, values in logits.items()} == {"verb": (2, 97), "noun": (2, 300)}
    assert network.forward_features(torch.randn(1, 1, 64, 64)).shape == (1, network.config.width * 8, 2, 2)


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
    with pytest.raises(ConfigError, match=r"kernels .* odd.*expansion is 0"):
        models.build("arin_pico", {"label": 2}, {"time_kernels": [4], "expansion": 0})


def test_stochastic_depth_keeps_the_mean_and_is_off_in_evaluation():
    torch.manual_seed(0)
    skip = StochasticDepth(0.25)
    x = torch.ones(4000, 1, 1, 1)
    kept = skip.train()(x)
    assert sorted(set(kept.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert kept.mean() == pytest.approx(1, abs=0.03)
    assert skip.eval()(x) is x
