"""Whole networks of others, with random statistics: merged at least as far as by their own methods, and equal.

timm and torchvision lie apart (`make .venv/networks/installed`): on a CPU build of torch torchvision lacks operators that it
registers meta functions for, which are declared here first.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.networks import randomize
from torch import nn

from audiorep.reparam import FuseResult, fuse

APART = Path(sys.prefix) / "networks"
pytestmark = pytest.mark.slow

# Whole networks by default: a residual one and a language network. Others are shallow (`SHALLOW`); an adapter has its own test.
BY_DEFAULT = {"resnet18", "llama"}


def some(names: Iterable[str]) -> list[Any]:
    """The names as parameters, those of the long matrix marked."""
    return [name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.full) for name in names]


@pytest.fixture(scope="module", autouse=True)
def apart():
    """timm and torchvision importable, for these tests alone."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if not (APART / "timm").is_dir():
        pytest.skip(f"no timm in {APART}: make .venv/networks/installed")
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.path.append(str(APART))
    yield
    sys.path.remove(str(APART))
    del library


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def convolutions(module: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.conv._ConvNd) for m in module.modules())


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


def leaves(output) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def assert_equal(network: nn.Module, result: FuseResult, *inputs: torch.Tensor, **more) -> None:
    """Both gates of the report, and the outputs on inputs of another batch."""
    assert result.verification.passed, result.verification
    assert result.verification.float64 <= 1e-10
    assert result.after.parameters <= result.before.parameters == sum(p.numel() for p in network.parameters())
    assert result.after.parameters == sum(p.numel() for p in result.model.parameters())
    assert result.after.macs <= result.before.macs
    with torch.no_grad():
        expected, found = leaves(network(*inputs, **more)), leaves(result.model(*inputs, **more))
    for a, b in zip(expected, found, strict=True):
        assert (a - b).abs().max() <= 2e-4 * a.abs().max().clamp_min(1e-6)


# every family of timm that has a merge of its own: (network, batch norms left)
TIMM = {
    "repvgg_a0": 0,
    "repvgg_b1g4": 0,
    "mobileone_s0": 0,
    "fastvit_t8": 0,
    "fastvit_sa12": 0,
    "repvit_m0_9": 0,
    "levit_128s": 0,
    "efficientvit_m0": 0,
    "tiny_vit_5m_224": 0,
    "repghostnet_050": 0,
    "ghostnetv3_100": 0,
    "shvit_s1": 0,
    "nextvit_small": 0,
    "swiftformer_xs": 0,
    "starnet_s1": 0,
    "lcnetv2_small": 0,
    "efficientvim_m1": 0,
    "iformer_t": 0,
}


def mobileone() -> nn.Module:
    from timm.models import byobnet

    blocks = byobnet._mobileone_bcfg((1, 1, 1), wf=(0.5, 0.5, 0.5), se_blocks=(0, 0, 1), num_conv_branches=4)
    return byobnet.ByobNet(byobnet.ByoModelCfg(blocks=blocks, stem_type="one", stem_chs=32), num_classes=10)


def levit() -> nn.Module:
    from timm.models.levit import Levit

    return Levit(64, num_classes=10, embed_dim=(32, 48), key_dim=16, depth=(1, 1), num_heads=(2, 3))


def repghost() -> nn.Module:
    from timm.models.repghost import RepGhostNet

    rows = [[[3, 8, 16, 0, 1]], [[3, 24, 24, 0, 2]], [[5, 36, 40, 0.25, 2], [5, 60, 40, 0.25, 1]]]
    return RepGhostNet(rows, num_classes=10, width=0.5)


SHALLOW = {"branches": mobileone, "attention": levit, "ghosts": repghost}


@pytest.mark.parametrize("kind", ["branches", *(pytest.param(k, marks=pytest.mark.full) for k in ("attention", "ghosts"))])
def test_shallow_networks_of_each_kind_merge_at_least_as_far_as_by_timms_own_methods(kind):
    from timm.utils import reparameterize_model

    network = randomize(SHALLOW[kind]())
    theirs = reparameterize_model(copy.deepcopy(network))
    result = fuse(network, torch.randn(1, 3, 64, 64))
    assert convolutions(result.model) <= convolutions(theirs)
    assert norms(result.model) == 0
    assert_equal(network, result, torch.randn(2, 3, 64, 64))


@pytest.mark.full
@pytest.mark.parametrize("name", TIMM)
def test_timm_networks_merge_at_least_as_far_as_by_timms_own_methods(name):
    import timm
    from timm.utils import reparameterize_model

    network = randomize(timm.create_model(name))
    size = min(network.default_cfg["input_size"][-1], 224)
    theirs = reparameterize_model(copy.deepcopy(network))
    result = fuse(network, torch.randn(1, 3, size, size))
    assert convolutions(result.model) <= convolutions(theirs)
    assert norms(result.model) == TIMM[name] <= norms(theirs)
    assert_equal(network, result, torch.randn(2, 3, size, size))


@pytest.mark.parametrize(
    "name",
    some(
        [
            "resnet18",
            "vgg11_bn",
            "inception_next_atto",
            "inception_v3",
            "convnext_atto",
            "mobilenetv3_small_050",
            "vit_tiny_patch16_224",
        ]
    ),
)
def test_image_networks_keep_no_batch_norm(name):
    import timm

    size = 96 if name != "vit_tiny_patch16_224" else 224
    network = randomize(timm.create_model(name))
    result = fuse(network, torch.randn(1, 3, size, size))
    assert norms(result.model) == 0
    assert_equal(network, result, torch.randn(3, 3, size, size))
    if name == "resnet18":  # no fixed size
        assert_equal(network, result, torch.randn(1, 3, 65, 70))


@pytest.mark.full
def test_densenets_norms_before_activations_stay():
    import timm

    network = randomize(timm.create_model("densenet121"))
    result = fuse(network, torch.randn(1, 3, 64, 64))
    left = [skip for skip in result.skipped if skip.what == "batch norm"]
    assert norms(result.model) == len(left) > 58
    assert all("used elsewhere" in skip.reason or "not linear" in skip.reason for skip in left)
    assert_equal(network, result, torch.randn(2, 3, 64, 64))


def test_a_shallow_video_network_keeps_no_batch_norm():
    from torchvision.models.video import resnet

    makers = [resnet.Conv3DSimple, resnet.Conv2Plus1D, resnet.Conv3DNoTemporal, resnet.Conv3DNoTemporal]
    network = randomize(resnet.VideoResNet(resnet.BasicBlock, makers, [1, 1, 0, 0], resnet.BasicStem, num_classes=5))
    result = fuse(network, torch.randn(1, 3, 8, 32, 32))
    assert norms(result.model) == 0
    assert_equal(network, result, torch.randn(2, 3, 9, 40, 40))


@pytest.mark.full
@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_video_networks_keep_no_batch_norm(name):
    from torchvision.models import video

    network = randomize(getattr(video, name)(num_classes=20))
    result = fuse(network, torch.randn(1, 3, 8, 32, 32))
    assert norms(result.model) == 0
    assert_equal(network, result, torch.randn(2, 3, 9, 40, 40))


@pytest.mark.full
def test_a_detector_of_torchvision_is_fused_by_parts(monkeypatch):
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    monkeypatch.setattr("torchvision.ops.boxes.nms", lambda boxes, scores, threshold: scores.argsort(descending=True))
    network = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5).eval()
    for module in network.modules():  # gently: saturated scores tie, and ties are sorted by rounding
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    images = [torch.rand(3, 64, 80), torch.rand(3, 70, 50)]
    result = fuse(network, images)
    assert norms(result.model) < norms(network), [str(skip)[:160] for skip in result.skipped]
    assert any("gives something else" in skip.reason for skip in result.skipped)  # where rounding decides between equal scores
    with torch.no_grad():
        expected, found = network(images), result.model(images)
    for a, b in zip(expected, found, strict=True):
        assert (a["scores"] - b["scores"]).abs().max() <= 1e-4


# --- language networks


def language(name: str) -> tuple[nn.Module, dict]:
    from transformers import (
        BertConfig,
        BertModel,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    index = torch.randint(0, 90, (2, 12))
    causal = {"input_ids": index, "use_cache": False}
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if name == "bert":
        config = BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
        return BertModel(config), {"input_ids": index, "attention_mask": torch.ones_like(index)}
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64, **tokens)), causal
    if name == "llama":
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        return LlamaForCausalLM(
            LlamaConfig(vocab_size=100, num_attention_heads=4, num_key_value_heads=2, **sizes, **tokens)
        ), causal
    config = T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return T5ForConditionalGeneration(config), {**causal, "decoder_input_ids": index.clone()}


NORMS_LEFT = {"bert": 5, "gpt2": 1, "llama": 0, "t5": 2}


@pytest.mark.parametrize("name", some(NORMS_LEFT))
def test_language_networks_fold_the_norms_that_only_linear_layers_read(name):
    network, inputs = language(name)
    network = randomize(network)
    result = fuse(network, **inputs)
    left = [skip for skip in result.skipped if "norm" in skip.path.lower() or "ln_" in skip.path]
    assert len(left) == NORMS_LEFT[name], list(map(str, result.skipped))
    assert_equal(network, result, **inputs)
    longer = {
        key: torch.cat([value, value], 1)[:1] if isinstance(value, torch.Tensor) else value for key, value in inputs.items()
    }
    assert_equal(network, result, **longer)
    assert type(result.model(**inputs)) is type(network(**inputs))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6")
def test_peft_adapters_merge_as_merge_and_unload_does():
    from peft import LoraConfig, get_peft_model

    base, inputs = language("gpt2")
    adapters = LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    network = get_peft_model(randomize(base), adapters).eval()
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, 0, 0.2)
    result = fuse(network, **inputs)
    assert_equal(network, result, **inputs)
    merged = network.merge_and_unload()
    assert torch.allclose(merged(**inputs).logits, result.model(**inputs).logits, atol=1e-5)
    assert result.after.parameters <= sum(p.numel() for p in merged.parameters())
    assert not any("lora" in key for key in result.model.state_dict())
