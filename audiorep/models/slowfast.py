"""Auditory Slow-Fast: two streams at two frame rates, joined before every stage (arXiv 2103.03516)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audiorep.config import Config
from audiorep.models.layers import Network, conv_bn, he_fan_out, head_checks, make_heads, narrow_linear, refuse

EXPANSION = 4  # of a bottleneck's output over its inner layers


@dataclass(frozen=True)
class SlowFastConfig(Config):
    """Every size of an auditory Slow-Fast; the defaults are those of the R50."""

    heads: dict[str, int] = field(default_factory=lambda: {"label": 309})
    """Classes of each output."""
    width: int = 64
    """Channels of the slow stream's stem; each stage doubles the inner layers."""
    fast_width: int = 8
    """The same of the fast stream."""
    frame_ratio: int = 4
    """The slow stream sees every so manyth frame."""
    depths: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks in each stage, of both streams."""
    slow_kernels: tuple[int, ...] = (1, 1, 3, 3)
    """Length in time of each stage's kernels in the slow stream, odd."""
    fast_kernels: tuple[int, ...] = (3, 3, 3, 3)
    """The same in the fast stream."""
    lateral_kernel: int = 7
    """Length in time of the convolutions from the fast stream to the slow one, odd."""
    lateral_ratio: int = 2
    """Channels of those convolutions over the fast stream's."""
    dropout: float = 0.5
    """Before the heads."""

    def __post_init__(self) -> None:
        kernels = (*self.slow_kernels, *self.fast_kernels, self.lateral_kernel)
        lengths = {len(self.depths), len(self.slow_kernels), len(self.fast_kernels)}
        refuse(
            [
                *head_checks(self.heads, self.dropout),
                (
                    min(self.width, self.fast_width) >= 1,
                    f"width {self.width} and fast_width {self.fast_width} must be at least 1",
                ),
                (bool(self.depths) and min(self.depths) >= 1, f"depths {self.depths} need at least one block a stage"),
                (len(lengths) == 1, f"slow_kernels and fast_kernels need one length for each of the {len(self.depths)} stages"),
                (all(k >= 1 and k % 2 for k in kernels), f"kernels {kernels} must be odd and positive, to keep the size"),
                (min(self.frame_ratio, self.lateral_ratio) >= 1, "frame_ratio and lateral_ratio must be at least 1"),
            ]
        )


class SlowFast(Network):
    """Auditory Slow-Fast: (B, 1, T, F) to {head: logits (B, K)}, for any T and F."""

    def __init__(self, config: SlowFastConfig) -> None:
        super().__init__()
        self.config = config
        # striding further is reading every so manyth frame; so the streams' lengths agree for every T
        slow_stem = _stem(config.width, (1, 7), (2 * config.frame_ratio, 2))
        self.stem = nn.ModuleDict({"slow": slow_stem, "fast": _stem(config.fast_width, (5, 7), (2, 2))})
        self.stages = nn.ModuleList(Stage(index, config) for index in range(len(config.depths)))
        self.dropout = nn.Dropout(config.dropout)
        channels = EXPANSION * 2 ** (len(config.depths) - 1) * (config.width + config.fast_width)
        self.heads = make_heads(channels, config.heads)
        self.apply(he_fan_out).apply(narrow_linear)
        for block in self.modules():
            if isinstance(block, Bottleneck):
                nn.init.zeros_(block.project.bn.weight)  # type: ignore[union-attr,arg-type]

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the means of both streams' last maps, as a map of one cell (B, C, 1, 1): they share no grid."""
        return torch.cat([stream.mean((2, 3), keepdim=True) for stream in self.streams(spectrogram)], 1)

    def streams(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, T, F) to the last map (B, C, T', F') of the slow stream and of the fast one."""
        slow, fast = self.stem["slow"](spectrogram), self.stem["fast"](spectrogram)
        for stage in self.stages:
            slow, fast = stage(slow, fast)
        return slow, fast


class Stage(nn.Module):
    """Joins the fast stream to the slow one, then a stage of each: their maps to their next maps."""

    def __init__(self, index: int, config: SlowFastConfig) -> None:
        super().__init__()
        before = EXPANSION * 2 ** (index - 1) if index else 1  # channels over the stem's
        stride, depth = (2 if index else 1), config.depths[index]
        fast = before * config.fast_width
        joined = config.lateral_ratio * fast
        self.lateral = conv_bn(fast, joined, (config.lateral_kernel, 1), (config.frame_ratio, 1), activation=nn.ReLU())
        slow_inner, fast_inner = config.width * 2**index, config.fast_width * 2**index
        self.slow = _blocks(before * config.width + joined, slow_inner, config.slow_kernels[index], stride, depth)
        self.fast = _blocks(fast, fast_inner, config.fast_kernels[index], stride, depth)

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T/ratio, F) and (B, C', T, F) to the same with F/s."""
        return self.slow(torch.cat([slow, self.lateral(fast)], 1)), self.fast(fast)


class Bottleneck(nn.Module):
    """Mix time, mix frequency, project, add the shortcut: (B, C_in, T, F) to (B, C, T, F/s)."""

    def __init__(self, inputs: int, inner: int, kernel: int, stride: int) -> None:
        super().__init__()
        outputs = inner * EXPANSION
        self.time = conv_bn(inputs, inner, (kernel, 1), activation=nn.ReLU())
        self.frequency = conv_bn(inner, inner, (1, 3), (1, stride), activation=nn.ReLU())
        self.project = conv_bn(inner, outputs, (1, 1))
        keeps_shape = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if keeps_shape else conv_bn(inputs, outputs, (1, 1), (1, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, F) to (B, C, T, F/s)."""
        return self.relu(self.project(self.frequency(self.time(x))) + self.shortcut(x))


def _stem(width: int, kernel: tuple[int, int], stride: tuple[int, int]) -> nn.Sequential:
    sequence = conv_bn(1, width, kernel, stride, activation=nn.ReLU())
    sequence.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
    return sequence


def _blocks(inputs: int, inner: int, kernel: int, stride: int, depth: int) -> nn.Sequential:
    first = Bottleneck(inputs, inner, kernel, stride)
    return nn.Sequential(first, *(Bottleneck(inner * EXPANSION, inner, kernel, 1) for _ in range(depth - 1)))
