"""Audio Spectrogram Transformer (arXiv 2104.01778), its layers from the package transformers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiorep.config import Config
from audiorep.errors import require
from audiorep.models.layers import Network, head_checks, make_heads, refuse, refuse_small

DEVIATION = 0.02  # of the weights at the start, as in DeiT


@dataclass(frozen=True)
class AstConfig(Config):
    """Every size of an AST; the defaults are those of DeiT-base, as in the paper."""

    heads: dict[str, int] = field(default_factory=lambda: {"label": 309})
    """Classes of each output."""
    frames: int = 512
    """Frames T of the grid on which positions are learned; for other lengths they are interpolated."""
    mels: int = 128
    """Mel bands F of that grid."""
    patch: int = 16
    """Side of a patch."""
    stride: int = 10
    """Distance between patches; they overlap where it is less than `patch`."""
    width: int = 768
    """Length of a token."""
    depth: int = 12
    """Layers."""
    attention_heads: int = 12
    """Attention heads; they divide `width`."""
    expansion: int = 4
    """Width of a layer's inner layer over its outer."""
    dropout: float = 0.0
    """Dropout of tokens and in layers."""

    def __post_init__(self) -> None:
        sizes = (self.patch, self.stride, self.width, self.depth, self.attention_heads, self.expansion)
        refuse(
            [
                *head_checks(self.heads, self.dropout),
                (min(sizes) >= 1, "patch, stride, width, depth, attention_heads and expansion must be at least 1"),
                (
                    min(self.frames, self.mels) >= self.patch,
                    f"frames {self.frames} and mels {self.mels} must be at least a patch of {self.patch}",
                ),
                (
                    self.attention_heads >= 1 and self.width % self.attention_heads == 0,
                    f"width {self.width} must be a multiple of attention_heads {self.attention_heads}",
                ),
            ]
        )


class Ast(Network):
    """AST: (B, 1, T, F) to {head: logits (B, K)}, for T and F of at least a patch."""

    def __init__(self, config: AstConfig) -> None:
        super().__init__()
        self.config = config
        transformers = require("transformers", extra="peers")
        self.transformer = transformers.ASTModel(
            transformers.ASTConfig(
                hidden_size=config.width,
                num_hidden_layers=config.depth,
                num_attention_heads=config.attention_heads,
                intermediate_size=config.width * config.expansion,
                hidden_dropout_prob=config.dropout,
                patch_size=config.patch,
                frequency_stride=config.stride,
                time_stride=config.stride,
                max_length=config.frames,
                num_mel_bins=config.mels,
            )
        )
        self.transformer.embeddings = Embeddings(config)
        self.norm = nn.LayerNorm(config.width)
        self.heads = make_heads(config.width, config.heads)
        self.apply(_initialize)

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the mean of the class and the distillation token, as a map of one cell (B, C, 1, 1).

        Raises:
            ConfigError: T or F is smaller than a patch.
        """
        refuse_small(spectrogram, self.config.patch, self.config.patch, "AST")
        return self.transformer(spectrogram).pooler_output[:, :, None, None]

    def pool(self, features: Tensor) -> Tensor:
        """(B, C, 1, 1) to (B, C), normalized."""
        return self.norm(features.flatten(1))


class Embeddings(nn.Module):
    """Patches as tokens with their positions, after a class and a distillation token: (B, 1, T, F) to (B, 2 + T'·F', C)."""

    def __init__(self, config: AstConfig) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, config.width, config.patch, config.stride)
        rows, columns = ((size - config.patch) // config.stride + 1 for size in (config.frames, config.mels))
        self.tokens = nn.Parameter(torch.empty(1, 2, config.width))  # the two learned tokens, with their positions
        self.positions = nn.Parameter(torch.empty(1, config.width, rows, columns))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.trunc_normal_(self.tokens, std=DEVIATION)
        nn.init.trunc_normal_(self.positions, std=DEVIATION)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to (B, 2 + T'·F', C)."""
        patches = self.patches(spectrogram)  # (B, C, T', F')
        # a grid of the learned size comes out as it is
        positions = functional.interpolate(self.positions, patches.shape[2:], mode="bilinear", align_corners=False)
        tokens = (patches + positions).flatten(2).transpose(1, 2)  # (B, T'·F', C)
        return self.dropout(torch.cat([self.tokens.expand(tokens.shape[0], -1, -1), tokens], 1))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
