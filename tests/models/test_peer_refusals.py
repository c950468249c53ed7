"""Settings that make no network, and spectrograms that do not fit one, are refused in a sentence."""

from __future__ import annotations

import importlib
import re
import sys

import pytest
import torch
from support.peers import SMALL, small

import audiorep
from audiorep import models
from audiorep.errors import ConfigError, MissingExtraError


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("slowfast", {"slow_kernels": [2, 3], "depths": [1, 1, 1]}, r"each of the 3 stages.*must be odd"),
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
        ("yamnet", {"widths": [8, 0]}, "widths"),
        ("yamnet", {"strides": [1, 3]}, "strides"),
        ("yamnet", {"widths": [], "strides": []}, "0 widths"),
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
    with pytest.raises(ConfigError, match="at least one class"):
        models.build(name, {"label": 0}, SMALL[name])


@pytest.mark.parametrize(
    ("name", "frames", "bands", "reason"),
    [
        ("inceptionnext_tiny", 7, 32, "at least 8 frames and 8 mel bands.* 7 × 32"),
        ("cnn14", 3, 32, "at least 4 frames"),
        ("cnn14", 64, 40, r"32 mel bands.* 40.*network.mels"),
        ("ast", 64, 15, "at least 16 frames and 16 mel bands"),
    ],
)
def test_spectrograms_that_do_not_fit_are_refused_in_a_sentence(name, frames, bands, reason):
    with pytest.raises(ConfigError, match=re.compile(reason)):
        small(name).eval()(torch.randn(1, 1, frames, bands))


@pytest.mark.slow
def test_transformers_is_imported_by_the_ast_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(audiorep, "models", models)  # put back what is imported anew here
    for module in [name for name in sys.modules if name.startswith("audiorep.models")]:
        monkeypatch.delitem(sys.modules, module)
    anew = importlib.import_module("audiorep.models")
    assert anew is not models
    for name in SMALL.keys() - {"ast"}:
        anew.build(name, {"label": 3}, SMALL[name])
    with pytest.raises(MissingExtraError, match=r"transformers.*audiorep\[peers\]"):
        anew.build("ast", {"label": 3}, SMALL["ast"])
