"""The networks to compare with are those of their papers: counts, shapes, merging, export, checkpoints, refusals."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict

import onnxruntime
import pytest
import torch
from support import ROOT, processes
from support.networks import randomize
from torch import nn

from audiorep import models, reparam
from audiorep.errors import ConfigError, MissingExtraError
from audiorep.export.onnx import to_onnx
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.models.front_end import FRONT_ENDS
from audiorep.models.replknet import Residual
from audiorep.reparam import Parallel

PAPER = (1, 1, 512, 128)
PAGE = ROOT / "docs" / "peers.md"
TIME = {0: torch.export.Dim("batch"), 2: torch.export.Dim("frames", min=33)}
SMALL = {
    "slowfast": {"width": 16, "fast_width": 2, "depths": [1, 1], "slow_kernels": [1, 3], "fast_kernels": [3, 3]},
    "inceptionnext_tiny": {"widths": [8, 16], "depths": [1, 2], "expansions": [4, 3]},
    "replknet_31t": {"widths": [8, 16], "depths": [1, 2], "kernels": [13, 7]},
    "resnet50": {"width": 8, "depths": [1, 1]},
    "cnn14": {"widths": [4, 8, 8], "mels": 32, "block_dropout": 0.0},
    "mobilenetv3": {"multiplier": 0.25},
    "yamnet": {"stem_width": 8, "widths": [8, 16], "strides": [1, 2]},
    "ast": {"width": 16, "depth": 2, "attention_heads": 2, "frames": 64, "mels": 32},
}


def small(name: str, heads: dict[str, int] | None = None, **changes) -> nn.Module:
    return models.build(name, heads or {"label": 3}, {**SMALL[name], "dropout": 0.0, **changes})


def full(name: str, classes: int = 309, **settings) -> nn.Module:
    """A network of full size, without memory for its weights."""
    with torch.device("meta"):
        return models.build(name, {"label": classes}, settings)


def depthwise(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]


# --- counts


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
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{name}`"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[3:5] == [f"{parameters:,}", f"{cost.macs / 1e9:.3f}"]


def test_slow_fast_costs_what_the_paper_says():
    assert round(models.cost(full("slowfast"), PAPER).macs / 1e9, 3) == 5.545


def test_inceptionnext_and_replknet_are_within_two_percent_of_the_papers_counts():
    for name, millions, gmacs in [("inceptionnext_tiny", 24.3, 5.4), ("replknet_31t", 40.4, 8.0)]:
        cost = models.cost(full(name), PAPER)
        assert cost.parameters / 1e6 == pytest.approx(millions, rel=0.005)
        assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.015)


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
        logits = network(torch.randn(2, 1, frames, bands))
        assert {head: values.shape for head, values in logits.items()} == {"verb": (2, 97), "noun": (2, 30)}


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
    logits = network(torch.randn(4, 1, 64, 32))
    sum(values.logsumexp(1).mean() for values in logits.values()).backward()
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


@pytest.mark.parametrize("name", SMALL)
def test_merged_network_computes_the_same_without_batch_norms(name):
    torch.manual_seed(0)
    network = randomize(small(name, {"verb": 4, "noun": 5})).eval()
    result = reparam.fuse(network, torch.randn(1, 1, 64, 32))
    assert result.verification.passed
    assert "batch norm" not in result.after.operations
    assert result.after.operations["linear"] == result.before.operations["linear"]
    for batch, frames in [(3, 64), (2, 83)]:
        x = torch.randn(batch, 1, frames, 32)
        with torch.no_grad():
            expected, found = network(x), result.model(x)
        assert all(torch.allclose(found[head], expected[head], atol=1e-4) for head in expected)


def test_large_and_small_kernel_become_one():
    torch.manual_seed(0)
    network = randomize(small("replknet_31t")).eval()
    result = reparam.fuse(network, torch.randn(1, 1, 64, 32))
    blocks = [m for m in network.modules() if isinstance(m, Residual)]
    pairs = [m for m in network.modules() if isinstance(m, Parallel)]
    assert (len(blocks), len(pairs)) == (6, 3)
    assert sorted(conv.kernel_size[0] for conv in depthwise(result.model)) == [
        3,
        3,
        3,
        7,
        7,
        13,
    ]  # three in stem and transition
    assert not [m for m in result.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert (result.before.operations["conv"], result.after.operations["conv"]) == (24, 21)
    assert (result.before.operations["add"], result.after.operations["add"]) == (9, 6)


MERGED = [
    ("slowfast", 26_649_109, 5.521, 110),
    ("inceptionnext_tiny", 24_187_437, 5.453, 94),
    ("replknet_31t", 40_029_021, 7.984, 130),
    ("resnet50", 24_108_341, 5.236, 53),
    ("cnn14", 80_298_997, 20.578, 12),
    ("mobilenetv3", 4_585_373, 0.276, 62),
    ("yamnet", 3_512_181, 0.732, 27),
    ("ast", 85_916_469, 57.929, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters", "gmacs", "convolutions"), MERGED)
def test_merged_network_of_full_size_is_to_cost_what_the_page_says(name, parameters, gmacs, convolutions):
    plan = reparam.plan(full(name).eval(), torch.zeros(PAPER, device="meta"))
    assert plan.after.operations["conv"] == convolutions
    assert (plan.after.parameters, round(plan.after.macs / 1e9, 3)) == (parameters, gmacs)
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{name}`"))
    assert [cell.strip() for cell in row.split("|")][5:7] == [f"{parameters:,}", f"{gmacs:.3f}"]


@pytest.mark.full
@pytest.mark.parametrize(("name", "parameters", "gmacs", "convolutions"), MERGED)
def test_network_of_full_size_is_merged_as_planned(name, parameters, gmacs, convolutions):
    result = reparam.fuse(models.build(name, {"label": 309}).eval(), torch.randn(PAPER))
    assert result.verification.passed
    assert result.after.operations["conv"] == convolutions
    cost = models.cost(result.model, PAPER)
    assert (cost.parameters, round(cost.macs / 1e9, 3)) == (parameters, gmacs)


# --- leaving PyTorch, and coming back


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "mobilenetv3" else n for n in SMALL])
def test_exported_program_takes_other_batches_and_lengths(name):
    torch.manual_seed(0)
    network = small(name).eval()
    program = torch.export.export(network, (torch.randn(2, 1, 64, 32),), dynamic_shapes={"spectrogram": TIME}).module()
    for batch, frames in [(1, 64), (5, 83)]:
        x = torch.randn(batch, 1, frames, 32)
        assert torch.allclose(program(x)["label"], network(x)["label"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n if n in ("slowfast", "ast") else pytest.param(n, marks=pytest.mark.full) for n in SMALL])
def test_onnx_file_takes_other_batches_and_lengths(name):
    torch.manual_seed(0)
    network = randomize(small(name)).eval()
    merged = reparam.fuse(network, torch.randn(1, 1, 64, 32)).model
    example = (torch.randn(2, 1, 64, 32),)
    proto = to_onnx(merged, example, ["label"], input_names=["spectrogram"], dynamic_shapes={"spectrogram": TIME})
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for batch, frames in [(1, 64), (3, 83)]:
        x = torch.randn(batch, 1, frames, 32)
        (found,) = session.run(["label"], {"spectrogram": x.numpy()})
        assert torch.allclose(torch.from_numpy(found), network(x)["label"].detach(), atol=1e-4)


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


# --- refusals


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("slowfast", {"slow_kernels": [2, 3], "depths": [1, 1, 1]}, r"need one length for each of the 3 stages.*must be odd"),
        ("slowfast", {"fast_width": 0}, "must be at least 1"),
        ("slowfast", {"frame_ratio": 0}, "frame_ratio"),
        ("inceptionnext_tiny", {"branch_ratio": 0.4}, "branch_ratio is 0.4"),
        ("inceptionnext_tiny", {"widths": [8], "band_kernel": 10}, r"one number a stage.*band_kernel 10"),
        ("replknet_31t", {"kernels": [13, 8]}, r"kernels \(13, 8, 5\) must be odd"),
        ("replknet_31t", {"widths": [8, 16, 32], "expansion": 0}, r"one number a stage.*not 0"),
        ("replknet_31t", {"stochastic_depth": 1.0}, "stochastic_depth is 1.0"),
        ("resnet50", {"width": 0, "depths": [0]}, r"width is 0.*at least one block"),
        ("cnn14", {"mels": 3, "block_dropout": 1.0}, r"block_dropout is 1.0.*mels is 3; 3 blocks need at least 4"),
        ("mobilenetv3", {"multiplier": 0}, "multiplier is 0"),
        ("yamnet", {"widths": [8, 0]}, r"stem_width 8 and widths \(8, 0\) must be at least 1"),
        ("yamnet", {"strides": [1, 3]}, r"strides \(1, 3\) need a 1 or 2 for each of the 2 widths"),
        ("yamnet", {"widths": [], "strides": []}, "for each of the 0 widths"),
        ("ast", {"attention_heads": 3}, "width 16 must be a multiple of attention_heads 3"),
        ("ast", {"frames": 8}, "must be at least a patch of 16"),
        ("ast", {"heads_": 1}, "heads_ is not a setting"),
        ("resnet50", {"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_settings_that_make_no_network_are_refused_together(name, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        models.build(name, {"label": 3}, {**SMALL[name], **settings})


@pytest.mark.parametrize("name", SMALL)
def test_heads_without_classes_are_refused(name):
    with pytest.raises(ConfigError, match="need at least one class each"):
        models.build(name, {"label": 0}, SMALL[name])


@pytest.mark.parametrize(
    ("name", "frames", "bands", "reason"),
    [
        ("inceptionnext_tiny", 7, 32, "InceptionNeXt needs at least 8 frames and 8 mel bands; this spectrogram has 7 × 32"),
        ("cnn14", 3, 32, "CNN14 needs at least 4 frames"),
        ("cnn14", 64, 40, r"made for 32 mel bands; the spectrogram has 40. Set network.mels"),
        ("ast", 64, 15, "AST needs at least 16 frames and 16 mel bands"),
    ],
)
def test_spectrograms_that_do_not_fit_are_refused_in_a_sentence(name, frames, bands, reason):
    with pytest.raises(ConfigError, match=re.compile(reason)):
        small(name).eval()(torch.randn(1, 1, frames, bands))


def test_transformers_is_imported_by_the_ast_alone(monkeypatch):
    code = "import sys, audiorep.models; sys.exit('transformers' in sys.modules)"
    assert processes.run(processes.python(code)).returncode == 0
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"needs the package transformers.*audiorep\[peers\]"):
        small("ast")
