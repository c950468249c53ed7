"""RepLKNet: very large depthwise kernels with a small one beside each (arXiv 2203.06717).

`audiorep.reparam.fuse` merges the two kernels, which is the network's own re-parameterization, and all batch norms.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor, nn

from audiorep.config import Config
from audiorep.models.arin import StochasticDepth
from audiorep.models.layers import Network, conv_bn, head_checks, make_heads, refuse
from audiorep.reparam import Parallel


@dataclass(frozen=True)
class RepLKNetConfig(Config):
    """Every size of a RepLKNet; the defaults are RepLKNet-31T.

    Kernels, depths and expansion are RepLKNet-31's. Its tiny widths are not published: the first three stages double
    as in the larger ones, and width and last stage are those whose counts are nearest to the published 40.4 M and 8.0 G.
    """

    heads: dict[str, int] = field(default_factory=lambda: {"label": 309})
    """Classes of each output."""
    widths: tuple[int, ...] = (72, 144, 288, 984)
    """Channels of each stage."""
    depths: tuple[int, ...] = (2, 2, 18, 2)
    """Pairs of a large-kernel block and a feed-forward block in each stage."""
    kernels: tuple[int, ...] = (31, 29, 27, 13)
    """Size of each stage's large kernels, odd."""
    small_kernel: int = 5
    """Size of the kernel beside each, odd."""
    expansion: int = 4
    """Width of the feed-forward blocks' inner layers over their outer."""
    dropout: float = 0.0
    """Before the heads."""
    stochastic_depth: float = 0.0
    """Rate at which the last pair's blocks are skipped in training; earlier ones less, linearly (0.5 for RepLKNet-31B)."""

    def __post_init__(self) -> None:
        sizes, kernels = (*self.widths, *self.depths, self.expansion), (*self.kernels, self.small_kernel)
        stages = {len(self.widths), len(self.depths), len(self.kernels)}
        refuse(
            [
                *head_checks(self.heads, self.dropout),
                (len(stages) == 1 and bool(self.widths), "widths, depths and kernels need one number a stage"),
                (min(sizes) >= 1, f"widths, depths and expansion must be at least 1, not {min(sizes)}"),
                (all(k >= 1 and k % 2 for k in kernels), f"kernels {kernels} must be odd and positive, to keep the size"),
                (0 <= self.stochastic_depth < 1, f"stochastic_depth is {self.stochastic_depth}; 0 to below 1 is allowed"),
            ]
        )


class RepLKNet(Network):
    """RepLKNet: (B, 1, T, F) to {head: logits (B, K)}, for any T and F. Weights start as PyTorch's do, as in the source."""

    def __init__(self, config: RepLKNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _stem(config.widths[0])
        self.stages = nn.Sequential(*_stages(config))
        self.norm = nn.BatchNorm2d(config.widths[-1])
        self.dropout = nn.Dropout(config.dropout)
        self.heads = make_heads(config.widths[-1], config.heads)

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the last stage's map (B, C, T', F')."""
        return self.norm(self.stages(self.stem(spectrogram)))


class Residual(nn.Module):
    """A batch norm and layers whose result is added to the input: (B, C, T, F) to the same."""

    def __init__(self, channels: int, layers: nn.Module, skip_rate: float) -> None:
        super().__init__()
        self.norm, self.layers, self.skip = nn.BatchNorm2d(channels), layers, StochasticDepth(skip_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) to the same."""
        return x + self.skip(self.layers(self.norm(x)))


def _large_kernel(channels: int, kernel: int, small: int) -> nn.Sequential:
    """1×1, large and small depthwise kernels in parallel, 1×1 (the paper's figure 2)."""
    branches = {
        "large": conv_bn(channels, channels, (kernel, kernel), groups=channels),
        "small": conv_bn(channels, channels, (small, small), groups=channels),
    }
    before, after = conv_bn(channels, channels, (1, 1), activation=nn.ReLU()), conv_bn(channels, channels, (1, 1))
    return nn.Sequential(OrderedDict(before=before, depthwise=Parallel(branches), relu=nn.ReLU(), after=after))


def _feed_forward(channels: int, expansion: int) -> nn.Sequential:
    expand = conv_bn(channels, channels * expansion, (1, 1), activation=nn.GELU())
    return nn.Sequential(OrderedDict(expand=expand, project=conv_bn(channels * expansion, channels, (1, 1))))


def _stem(width: int) -> nn.Sequential:
    return nn.Sequential(
        conv_bn(1, width, (3, 3), 2, activation=nn.ReLU()),
        conv_bn(width, width, (3, 3), groups=width, activation=nn.ReLU()),
        conv_bn(width, width, (1, 1), activation=nn.ReLU()),
        conv_bn(width, width, (3, 3), 2, groups=width, activation=nn.ReLU()),
    )


def _stages(config: RepLKNetConfig) -> list[nn.Sequential]:
    last = max(sum(config.depths) - 1, 1)
    stages, inputs, index = [], config.widths[0], 0
    for stage, (width, depth, kernel) in enumerate(zip(config.widths, config.depths, config.kernels, strict=True)):
        layers: list[nn.Module] = []
        if stage:
            layers += [
                conv_bn(inputs, width, (1, 1), activation=nn.ReLU()),
                conv_bn(width, width, (3, 3), 2, groups=width, activation=nn.ReLU()),
            ]
        for _ in range(depth):
            rate = config.stochastic_depth * index / last
            layers.append(Residual(width, _large_kernel(width, kernel, config.small_kernel), rate))
            layers.append(Residual(width, _feed_forward(width, config.expansion), rate))
            index += 1
        stages.append(nn.Sequential(*layers))
        inputs = width
    return stages
