"""The networks to compare with are those of their papers: counts, shapes, merging, export, checkpoints."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from unittest import mock

import onnxruntime
import pytest
import torch
from support import ROOT
from support.networks import randomize
from support.peers import SMALL, small
from torch import nn

from audiorep import models, reparam
from audiorep.export.onnx import to_onnx
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint, mobilenetv3
from audiorep.models.front_end import FRONT_ENDS
from audiorep.models.replknet import Residual
from audiorep.reparam import Parallel

PAPER = (1, 1, 512, 128)
PAGE = ROOT / "docs" / "peers.md"
ALL_ROWS = mobilenetv3.ROWS
TIME = {0: torch.export.Dim("batch"), 2: torch.export.Dim("frames", min=33)}


def full(name: str, classes: int = 309, **settings) -> nn.Module:
    """A network of full size, without memory for its weights."""
    with torch.device("meta"), mock.patch.object(mobilenetv3, "ROWS", ALL_ROWS):
        return models.build(name, {"label": classes}, settings)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch) -> None:
    """Small MobileNets have a block of each kind."""
    monkeypatch.setattr(mobilenetv3, "ROWS", [ALL_ROWS[n] for n in (0, 1, 3, 4, 10)])


@functools.cache
def merged(name: str) -> tuple[nn.Module, reparam.FuseResult]:
    """A small network of two heads, and the same merged."""
    torch.manual_seed(0)
    network = randomize(small(name, {"verb": 4, "noun": 5})).eval()
    return network, reparam.fuse(network, torch.randn(1, 1, 64, 32))


def page_row(name: str) -> list[str]:
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{name}`"))
    return [cell.strip() for cell in row.split("|")]


def some(names: Sequence[str], by_default: Sequence[str]) -> list[Any]:
    """The names as parameters, those of the long matrix marked."""
    return [name if name in by_default else pytest.param(name, marks=pytest.mark.full) for name in names]


def depthwise(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]


# --- counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [
        ("slowfast", 26_679_453, 5.545),  # the paper's, exactly
        ("inceptionnext_tiny", 24_208_845, 5.46),
        ("replknet_31t", 40_329_885, 8.10),
        ("resnet50", 24_134_901, 5.27),
        ("cnn14", 80_307_061, 20.61),
        ("mobilenetv3", 4_597_573, 0.288),
        ("yamnet", 3_523_125, 0.746),
        ("ast", 85_954_869, 57.93),
    ],
)
def test_parameters_and_macs_at_the_papers_input_are_those_of_the_page(name, parameters, gmacs):
    cost = models.cost(full(name), PAPER)
    assert cost.parameters == parameters
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=0.006 if gmacs > 1 else 0.0006)
    assert page_row(name)[3:5] == [f"{parameters:,}", f"{cost.macs / 1e9:.3f}"]


@pytest.mark.slow
def test_slow_fast_costs_what_the_paper_says():
    assert round(models.cost(full("slowfast"), PAPER).macs / 1e9, 3) == 5.545


@pytest.mark.slow
def test_inceptionnext_and_replknet_are_within_two_percent_of_the_papers_counts():
    for name, millions, gmacs in [("inceptionnext_tiny", 24.3, 5.4), ("replknet_31t", 40.4, 8.0)]:
        cost = models.cost(full(name), PAPER)
        assert cost.parameters / 1e6 == pytest.approx(millions, rel=0.005)
        assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.015)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "settings", "published", "difference"),
    [
        ("resnet50", 1000, {}, 25_557_032, 2 * 64 * 7 * 7),  # torchvision's; two colors fewer
        ("mobilenetv3", 1000, {}, 5_483_032, 2 * 16 * 3 * 3),  # torchvision's
        ("cnn14", 527, {"mels": 64}, 80_753_615, 0),  # PANNs, table 5
        ("yamnet", 521, {"norms": False}, 3_729_481, 0),  # of the published file, whose norms are merged
    ],
)
def test_parameters_are_the_published_ones_without_what_one_channel_saves(name, classes, settings, published, difference):
    assert models.cost(full(name, classes, **settings), (1, 1, 64, 64)).parameters == published - difference


@pytest.mark.slow
def test_taggers_and_large_kernels_have_the_published_sizes():
    mn10 = models.cost(full("mobilenetv3", 527), (1, 1, 64, 64))
    assert round(mn10.parameters / 1e6, 2) == 4.88  # EfficientAT's mn10
    base = full("replknet_31t", 1000, widths=[128, 256, 512, 1024])
    assert models.cost(base, (1, 1, 224, 224)).parameters / 1e6 == pytest.approx(79.9, abs=0.05)  # RepLKNet-31B in training


def test_ast_is_transformers_own_with_the_same_weights():
    import transformers

    ours = small("ast").eval()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    settings = transformers.ASTConfig(**sizes, max_length=64, num_mel_bins=32, num_labels=3)
    theirs = transformers.ASTForAudioClassification(settings).eval()
    inner, mine = theirs.audio_spectrogram_transformer, ours.transformer.embeddings
    own = {name: tensor for name, tensor in ours.transformer.state_dict().items() if not name.startswith("embeddings.")}
    assert not inner.load_state_dict(own, strict=False).unexpected_keys
    with torch.no_grad():  # theirs runs over frequency first, and has its two tokens apart from their positions
        inner.embeddings.patch_embeddings.projection.weight.copy_(mine.patches.weight.transpose(2, 3))
        inner.embeddings.patch_embeddings.projection.bias.copy_(mine.patches.bias)
        positions = mine.positions.transpose(2, 3).flatten(2).transpose(1, 2)
        inner.embeddings.position_embeddings.copy_(torch.cat([mine.tokens, positions], 1))
        for name in ("cls_token", "distillation_token"):
            getattr(inner.embeddings, name).zero_()
    theirs.classifier.layernorm, theirs.classifier.dense = ours.norm, ours.heads["label"]
    x = torch.randn(2, 1, 64, 32)
    assert torch.allclose(ours(x)["label"], theirs(x[:, 0]).logits, atol=1e-6)
    counts = [sum(p.numel() for p in network.parameters()) for network in (ours, theirs)]
    assert counts[1] - counts[0] == 2 * 16  # the two tokens


# --- what a network gives


@pytest.mark.parametrize("name", SMALL)
def test_any_length_that_fits_gives_logits_of_every_head(name):
    network = small(name, {"verb": 97, "noun": 30}).eval()
    for frames, bands in [(416, 32), (250, 32), (499, 32), (33, 32), (64, 32 if name == "cnn14" else 57)]:
        found = {name: values.shape for name, values in network(torch.randn(2, 1, frames, bands)).items()}
        assert found == {"verb": (2, 97), "noun": (2, 30), "embedding": (2, network.embedding_size)}
        assert list(found) == ["verb", "noun", "embedding"]


@pytest.mark.parametrize("name", ["slowfast", "replknet_31t", "resnet50", "mobilenetv3", "yamnet"])
def test_padded_networks_take_a_single_frame(name):
    assert small(name).eval()(torch.randn(1, 1, 1, 32))["label"].shape == (1, 3)


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_the_same_function_in_both_modes(name):
    torch.manual_seed(0)
    network = small(name).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(keep_what_it_used) for norm in norms]
    for norm in norms:
        norm.momentum = None  # one batch's statistics become the running ones
    x = torch.randn(8, 1, 64, 32)
    with torch.no_grad():
        trained = network(x)["label"]
        for hook in hooks:
            hook.remove()
        evaluated = network.eval()(x)["label"]
    assert not torch.allclose(trained.sum(1), torch.ones(8), atol=1e-3)  # no softmax
    assert torch.allclose(trained, evaluated, atol=1e-3 * float(trained.abs().max()))


def keep_what_it_used(norm: nn.BatchNorm2d, given: tuple[torch.Tensor], result: torch.Tensor) -> None:
    """Training divides by the number of values, running variances by one less."""
    values = result.numel() // result.shape[1]
    norm.running_var.mul_((values - 1) / values)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_finite_gradient(name):
    torch.manual_seed(0)
    network = small(name, {"verb": 4, "noun": 5}).train()
    outputs = network(torch.randn(4, 1, 64, 32))
    sum(outputs[head].logsumexp(1).mean() for head in ("verb", "noun")).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("norms", [True, False])
def test_yamnets_last_map_keeps_the_order_of_time_and_its_norms_can_be_left_out(norms):
    network = small("yamnet", norms=norms, widths=[8], strides=[2]).eval()
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == norms
    assert {module.bias is None for module in network.modules() if isinstance(module, nn.Conv2d)} == {norms}
    sound = torch.zeros(2, 1, 64, 32)
    sound[1, :, :16] = 1  # in the first quarter
    silent, heard = network.forward_features(sound)
    assert (silent - heard).abs().sum((0, 2))[:5].gt(0).any()
    assert torch.equal(silent[:, 8:], heard[:, 8:])


@pytest.mark.parametrize("frames", [1, 250, 416, 499, 512])
def test_slow_stream_sees_every_fourth_frame_and_meets_the_fast_one(frames):
    network = small("slowfast").eval()
    x = torch.randn(1, 1, frames, 32)
    conv, fourth = network.stem["slow"].conv, x[:, :, ::4]
    expected = nn.functional.conv2d(fourth, conv.weight, stride=2, padding=conv.padding)
    assert torch.allclose(conv(x), expected, atol=1e-5)
    slow, fast = network.streams(x)
    assert (slow.shape[2], fast.shape[2]) == (-(-frames // 16), -(-frames // 4))


def test_ast_reads_other_lengths_with_interpolated_positions():
    embeddings = small("ast").eval().transformer.embeddings
    with torch.no_grad():
        embeddings.patches.weight.zero_()
        longer = embeddings(torch.zeros(1, 1, 124, 32))[0, 2:].T.reshape(16, 11, 2)
        same = embeddings(torch.zeros(1, 1, 64, 32))[0, 2:].T.reshape(16, 5, 2)
    assert torch.equal(same, embeddings.positions[0])
    assert torch.allclose(longer[:, 5], embeddings.positions[0, :, 2], atol=1e-6)  # the middle stays the middle


def test_stochastic_depth_grows_from_block_to_block():
    for name in ("inceptionnext_tiny", "replknet_31t"):
        network = small(name, stochastic_depth=0.5).train()
        rates = [module.skip.rate for module in network.modules() if hasattr(module, "skip")]
        assert rates == sorted(rates)
        assert (rates[0], rates[-1]) == (0, 0.5)
        assert network(torch.randn(2, 1, 64, 32))["label"].shape == (2, 3)


def test_weights_start_as_in_the_papers():
    torch.manual_seed(0)
    slow_fast, inception = small("slowfast"), small("inceptionnext_tiny")
    projections = [m.project.bn.weight for m in slow_fast.modules() if hasattr(m, "project")]
    assert len(projections) == 4
    assert all(weight.abs().max() == 0 for weight in projections)
    assert all(m.scale.eq(1e-6).all() for m in inception.modules() if hasattr(m, "scale"))
    assert {(m.eps, m.momentum) for m in small("mobilenetv3").modules() if isinstance(m, nn.BatchNorm2d)} == {(0.001, 0.01)}
    xavier = (6 / (9 * (4 + 8))) ** 0.5  # the bound for a 3×3 from 4 to 8 channels (Glorot 2010, eq. 16)
    assert float(small("cnn14").blocks[4].conv.weight.detach().abs().max()) == pytest.approx(xavier, rel=0.05)


# --- merging


@pytest.mark.slow
@pytest.mark.parametrize("name", some(list(SMALL), ["slowfast", "inceptionnext_tiny", "replknet_31t", "yamnet"]))
def test_merged_network_computes_the_same_without_batch_norms(name):
    network, result = merged(name)
    assert result.verification.passed
    left = name == "replknet_31t"  # its last one, whose mean is the embedding
    assert result.after.operations.get("batch norm", 0) == left
    assert result.after.operations["linear"] == result.before.operations["linear"]
    for batch, frames in [(3, 64), (2, 83)]:
        x = torch.randn(batch, 1, frames, 32)
        with torch.no_grad():
            expected, found = network(x), result.model(x)
        assert all(torch.allclose(found[head], expected[head], atol=1e-4) for head in expected)


@pytest.mark.slow
def test_large_and_small_kernel_become_one():
    network, result = merged("replknet_31t")
    blocks = [m for m in network.modules() if isinstance(m, Residual)]
    pairs = [m for m in network.modules() if isinstance(m, Parallel)]
    assert (len(blocks), len(pairs)) == (6, 3)
    kernels = sorted(conv.kernel_size[0] for conv in depthwise(result.model))
    assert kernels == [3, 3, 3, 7, 7, 13]  # three in stem and transition
    assert [name for name, m in result.model.named_modules() if isinstance(m, nn.BatchNorm2d)] == ["norm"]
    assert (result.before.operations["conv"], result.after.operations["conv"]) == (24, 21)
    assert (result.before.operations["add"], result.after.operations["add"]) == (9, 6)


MERGED = {  # parameters, 10^9 multiply-accumulates and convolutions of the merged networks
    "slowfast": (26_649_109, 5.521, 110),
    "inceptionnext_tiny": (24_187_437, 5.453, 94),
    "replknet_31t": (40_030_989, 7.984, 130),
    "resnet50": (24_108_341, 5.236, 53),
    "cnn14": (80_298_997, 20.578, 12),
    "mobilenetv3": (4_585_373, 0.276, 62),
    "yamnet": (3_512_181, 0.732, 27),
    "ast": (85_918_005, 57.929, 1),
}


@pytest.mark.parametrize("name", MERGED)
def test_the_page_says_what_merged_networks_cost(name):
    parameters, gmacs, _ = MERGED[name]
    assert page_row(name)[5:7] == [f"{parameters:,}", f"{gmacs:.3f}"]


@pytest.mark.slow
@pytest.mark.parametrize("name", some(list(MERGED), ["cnn14"]))
def test_merged_network_of_full_size_is_to_cost_so_much(name):
    parameters, gmacs, convolutions = MERGED[name]
    plan = reparam.plan(full(name).eval(), torch.zeros(PAPER, device="meta"))
    assert plan.after.operations["conv"] == convolutions
    assert (plan.after.parameters, round(plan.after.macs / 1e9, 3)) == (parameters, gmacs)


@pytest.mark.full
@pytest.mark.parametrize("name", MERGED)
def test_network_of_full_size_is_merged_as_planned(name, monkeypatch):
    parameters, gmacs, convolutions = MERGED[name]
    monkeypatch.setattr(mobilenetv3, "ROWS", ALL_ROWS)
    result = reparam.fuse(models.build(name, {"label": 309}).eval(), torch.randn(PAPER))
    assert result.verification.passed
    assert result.after.operations["conv"] == convolutions
    cost = models.cost(result.model, PAPER)
    assert (cost.parameters, round(cost.macs / 1e9, 3)) == (parameters, gmacs)


# --- leaving PyTorch, and coming back


@pytest.mark.slow
@pytest.mark.parametrize("name", some(list(SMALL), ["cnn14", "ast"]))  # merging captures each with free sizes too
def test_exported_program_takes_other_batches_and_lengths(name):
    torch.manual_seed(0)
    network = small(name).eval()
    program = torch.export.export(network, (torch.randn(2, 1, 64, 32),), dynamic_shapes={"spectrogram": TIME}).module()
    for batch, frames in [(1, 64), (5, 83)]:
        x = torch.randn(batch, 1, frames, 32)
        assert torch.allclose(program(x)["label"], network(x)["label"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", some(list(SMALL), []))  # the operations of most are exported from our own networks
def test_onnx_file_takes_other_batches_and_lengths(name):
    network, result = merged(name)
    example = (torch.randn(2, 1, 64, 32),)
    free = {"input_names": ["spectrogram"], "dynamic_shapes": {"spectrogram": TIME}}
    names = ["verb", "noun", "embedding"]
    proto = to_onnx(result.model, example, names, **free)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for batch, frames in [(1, 64), (3, 83)]:
        x = torch.randn(batch, 1, frames, 32)
        expected = network(x)
        for name, values in zip(names, session.run(names, {"spectrogram": x.numpy()}), strict=True):
            assert torch.allclose(torch.from_numpy(values), expected[name].detach(), atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_comes_back_as_it_was(name, tmp_path):
    network = randomize(small(name)).eval()
    info = ModelInfo(name, {"label": ["a", "b", "c"]}, 16_000, 1.0, 0.5, asdict(FRONT_ENDS["light"]), license="CC0")
    checkpoint.save(tmp_path, network, info, name)
    loaded = checkpoint.load(tmp_path)
    x = torch.randn(1, 1, 64, 32)
    assert torch.equal(network(x)["label"], loaded.network(x)["label"])
    assert loaded.network.config == network.config
    assert loaded.architecture == name
