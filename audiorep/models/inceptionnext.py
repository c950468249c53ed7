"""InceptionNeXt: a ConvNeXt whose depthwise kernel is split into four groups of channels (arXiv 2303.16900)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audiorep.config import Config
from audiorep.models.arin import StochasticDepth
from audiorep.models.layers import Network, head_checks, make_heads, refuse, refuse_small


@dataclass(frozen=True)
class InceptionNextConfig(Config):
    """Every size of an InceptionNeXt; the defaults are those of the Tiny one (the paper's table 9)."""

    heads: dict[str, int] = field(default_factory=lambda: {"label": 309})
    """Classes of each output."""
    widths: tuple[int, ...] = (96, 192, 384, 768)
    """Channels of each stage."""
    depths: tuple[int, ...] = (3, 3, 9, 3)
    """Blocks in each stage."""
    expansions: tuple[int, ...] = (4, 4, 4, 3)
    """Width of each stage's inner layers over its outer."""
    square_kernel: int = 3
    """Size of the square kernels, odd."""
    band_kernel: int = 11
    """Length of the kernels along time and along frequency, odd."""
    branch_ratio: float = 0.125
    """Share of the channels that each kind of kernel sees; the rest passes unchanged."""
    layer_scale: float = 1e-6
    """What the scale of every residual branch starts at."""
    dropout: float = 0.0
    """Before the heads."""
    stochastic_depth: float = 0.0
    """Rate at which the last block is skipped in training; earlier blocks less, linearly (0.1 in the paper)."""

    def __post_init__(self) -> None:
        stages = {len(self.widths), len(self.depths), len(self.expansions)}
        sizes = (*self.widths, *self.depths, *self.expansions)
        branch = int(min(self.widths, default=0) * self.branch_ratio)
        refuse(
            [
                *head_checks(self.heads, self.dropout),
                (len(stages) == 1 and bool(self.widths), "widths, depths and expansions need one number a stage"),
                (min(sizes, default=1) >= 1, f"widths, depths and expansions must be at least 1, not {min(sizes, default=1)}"),
                (
                    all(k >= 1 and k % 2 for k in (self.square_kernel, self.band_kernel)),
                    f"square_kernel {self.square_kernel} and band_kernel {self.band_kernel} must be odd and positive",
                ),
                (
                    branch >= 1 and self.branch_ratio < 1 / 3,
                    f"branch_ratio is {self.branch_ratio}; three branches of a channel or more must leave some untouched",
                ),
                (0 <= self.stochastic_depth < 1, f"stochastic_depth is {self.stochastic_depth}; 0 to below 1 is allowed"),
            ]
        )


class InceptionNext(Network):
    """InceptionNeXt with a linear head: (B, 1, T, F) to {head: logits (B, K)}.

    Its patches do not overlap, so T and F must hold one of the last stage's: 32 each with four stages.
    """

    def __init__(self, config: InceptionNextConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(nn.Conv2d(1, config.widths[0], 4, 4), nn.BatchNorm2d(config.widths[0]))
        self.stages = nn.Sequential(*_stages(config))
        self.dropout = nn.Dropout(config.dropout)
        self.heads = make_heads(config.widths[-1], config.heads)
        self.apply(_initialize)

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the last stage's map (B, C, T', F').

        Raises:
            ConfigError: T or F is smaller than one patch of the last stage.
        """
        smallest = 2 ** (len(self.config.widths) + 1)
        refuse_small(spectrogram, smallest, smallest, "InceptionNeXt")
        return self.stages(self.stem(spectrogram))


class Block(nn.Module):
    """Mix, normalize, widen, narrow, scale, add the input: (B, C, T, F) to the same."""

    def __init__(self, channels: int, expansion: int, skip_rate: float, config: InceptionNextConfig) -> None:
        super().__init__()
        self.mix = Mixer(channels, config)
        self.norm = nn.BatchNorm2d(channels)
        self.expand = nn.Conv2d(channels, channels * expansion, 1)
        self.gelu = nn.GELU()
        self.project = nn.Conv2d(channels * expansion, channels, 1)
        self.scale = nn.Parameter(torch.full((channels,), config.layer_scale))
        self.skip = StochasticDepth(skip_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) to the same."""
        y = self.project(self.gelu(self.expand(self.norm(self.mix(x)))))
        return x + self.skip(y * self.scale[:, None, None])


class Mixer(nn.Module):
    """Depthwise kernels, each on its own channels: none, square, along frequency, along time (the paper's algorithm 1)."""

    def __init__(self, channels: int, config: InceptionNextConfig) -> None:
        super().__init__()
        branch = int(channels * config.branch_ratio)
        self.sizes = [channels - 3 * branch, branch, branch, branch]
        self.square = _depthwise(branch, (config.square_kernel, config.square_kernel))
        self.frequency = _depthwise(branch, (1, config.band_kernel))
        self.time = _depthwise(branch, (config.band_kernel, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) to the same."""
        untouched, square, frequency, time = torch.split(x, self.sizes, 1)
        return torch.cat([untouched, self.square(square), self.frequency(frequency), self.time(time)], 1)


def _stages(config: InceptionNextConfig) -> list[nn.Sequential]:
    last = max(sum(config.depths) - 1, 1)
    stages, inputs, index = [], config.widths[0], 0
    for stage, (width, depth, expansion) in enumerate(zip(config.widths, config.depths, config.expansions, strict=True)):
        layers: list[nn.Module] = [nn.BatchNorm2d(inputs), nn.Conv2d(inputs, width, 2, 2)] if stage else []
        for _ in range(depth):
            layers.append(Block(width, expansion, config.stochastic_depth * index / last, config))
            index += 1
        stages.append(nn.Sequential(*layers))
        inputs = width
    return stages


def _depthwise(channels: int, kernel: tuple[int, int]) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2), groups=channels)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
