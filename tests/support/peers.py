"""Small networks of each architecture to compare with."""

from __future__ import annotations

from torch import nn

from audiorep import models

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
