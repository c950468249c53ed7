"""AudioRepInceptionNeXt: one stream, parallel k×1 and 1×k depthwise branches (arXiv 2404.13551, section 3.2).

`audiorep.reparam.fuse` turns a block into five convolutions and one addition; `merge_branches` gives the authors' own
merged form, which stops earlier.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audiorep.config import Config
from audiorep.models.layers import Network, conv_bn, head_checks, make_heads, narrow_linear, refuse
from audiorep.reparam import Parallel, algebra

SQUEEZED_AT_LEAST = 8  # channels, as MobileNetV3 rounds: fewer say too little of the map


@dataclass(frozen=True)
class ArinConfig(Config):
    """Every size of an AudioRepInceptionNeXt; the defaults are the paper's (`arin_base`)."""

    heads: dict[str, int] = field(default_factory=lambda: {"label": 309})
    """Classes of each output."""
    width: int = 64
    """Channels of the stem and first stage; each stage doubles them."""
    depths: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks in each stage."""
    time_kernels: tuple[int, ...] = (3, 11, 21)
    """Lengths of the parallel k×1 branches, odd."""
    frequency_kernels: tuple[int, ...] = (3, 11, 21)
    """Lengths of the parallel 1×k branches, odd."""
    stem_kernel: tuple[int, int] = (5, 7)
    """Time × frequency, odd."""
    stem_stride: int = 2
    """Stride of the stem's convolution in time and frequency; 1 keeps the resolution of a small input."""
    stem_pool: bool = True
    """Whether a 3×3 max-pool of stride 2 follows it."""
    strides: tuple[int, ...] = ()
    """Stride of each stage's first block; empty: 1 in the first stage and 2 in all others."""
    expansion: int = 4
    """Width of the block's inner layer over its outer."""
    standard_stages: tuple[int, ...] = ()
    """Stages, counted from 1, whose mixing uses standard convolutions instead of depthwise ones."""
    grouped_stages: tuple[int, ...] = ()
    """Stages, counted from 1, whose mixing uses grouped convolutions, which mix channels too; none of `standard_stages`."""
    group_channels: int = 8
    """Channels in each group there; 1 is depthwise."""
    squeeze_excitation: int = 0
    """Reduction of a squeeze-excitation (arXiv 1709.01507) of every block, on the expanded map before the projection, as in
    MobileNetV3 (arXiv 1905.02244, section 5.3); 0: none."""
    dropout: float = 0.5
    """Before the heads."""
    stochastic_depth: float = 0.0
    """Rate at which the last block is skipped in training; earlier blocks less, linearly (arXiv 1603.09382)."""

    def __post_init__(self) -> None:
        stages = range(1, len(self.depths) + 1)
        kernels = (*self.time_kernels, *self.frequency_kernels, *self.stem_kernel)
        checks = [
            *head_checks(self.heads, self.dropout),
            (self.width >= 1, f"width is {self.width}; at least 1 is needed"),
            (bool(self.depths) and min(self.depths) >= 1, f"depths {self.depths} need at least one block a stage"),
            (all(k >= 1 and k % 2 for k in kernels), f"kernels {kernels} must be odd and positive, to keep the size"),
            (bool(self.time_kernels) and bool(self.frequency_kernels), "time_kernels and frequency_kernels need a length each"),
            (self.expansion >= 1, f"expansion is {self.expansion}; at least 1 is needed"),
            (
                set(self.standard_stages) <= set(stages),
                f"standard_stages {self.standard_stages} must lie in 1..{len(self.depths)}",
            ),
            *self._group_checks(),
            (self.squeeze_excitation >= 0, f"squeeze_excitation is {self.squeeze_excitation}; 0 or a reduction is needed"),
            (
                min((self.stem_stride, *self.strides)) >= 1,
                f"stem_stride {self.stem_stride} and strides {self.strides} must be at least 1",
            ),
            (
                len(self.strides) in (0, len(self.depths)),
                f"strides {self.strides} need one for each of the {len(self.depths)} stages, or none",
            ),
            (0 <= self.stochastic_depth < 1, f"stochastic_depth is {self.stochastic_depth}; 0 to below 1 is allowed"),
        ]
        refuse(checks)

    def channels(self, stage: int) -> int:
        """The channels of a stage, counted from 1."""
        return self.width * 2 ** (stage - 1)

    def stride(self, stage: int) -> int:
        """The stride of the first block of a stage, counted from 1."""
        return self.strides[stage - 1] if self.strides else min(stage, 2)

    def groups(self, stage: int) -> int:
        """The groups of the mixing convolutions in a stage, counted from 1."""
        if stage in self.standard_stages:
            return 1
        return self.channels(stage) // (self.group_channels if stage in self.grouped_stages else 1)

    def _group_checks(self) -> list[tuple[bool, str]]:
        """What grouped mixing asks for."""
        grouped, size = set(self.grouped_stages), self.group_channels
        inside = grouped <= set(range(1, len(self.depths) + 1))
        uneven = [self.channels(stage) for stage in sorted(grouped) if inside and size >= 1 and self.channels(stage) % size]
        both = sorted(grouped & set(self.standard_stages))
        return [
            (inside, f"grouped_stages {self.grouped_stages} must lie in 1..{len(self.depths)}"),
            (not both, f"stages {both} are in grouped_stages and in standard_stages; one is allowed"),
            (size >= 1, f"group_channels is {size}; at least 1 is needed"),
            (not uneven, f"group_channels {size} must divide the channels of grouped stages; it does not divide {uneven}"),
        ]


class Arin(Network):
    """AudioRepInceptionNeXt: (B, 1, T, F) to {head: logits (B, K)}, for any T and F."""

    def __init__(self, config: ArinConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _stem(config)
        self.stages = nn.Sequential(*_stages(config))
        self.dropout = nn.Dropout(config.dropout)
        channels = config.channels(len(config.depths))
        self.heads = make_heads(channels, config.heads)
        self.apply(_initialize)
        for block in self.modules():
            if isinstance(block, Block):
                nn.init.zeros_(block.project.bn.weight)  # type: ignore[union-attr,arg-type]

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the last stage's map (B, C, T', F')."""
        return self.stages(self.stem(spectrogram))


class Block(nn.Module):
    """Reduce, mix time, mix frequency, expand, excite, project, add the shortcut: (B, C_in, T, F) to (B, C, T/s, F/s)."""

    def __init__(self, inputs: int, outputs: int, stride: int, skip_rate: float, groups: int, config: ArinConfig) -> None:
        super().__init__()
        self.reduce = _conv_bn_relu(inputs, outputs, (1, 1), stride)
        self.time = _mix(outputs, [(k, 1) for k in config.time_kernels], groups)
        self.frequency = _mix(outputs, [(1, k) for k in config.frequency_kernels], groups)
        inner, reduction = outputs * config.expansion, config.squeeze_excitation
        self.expand = _conv_bn_relu(outputs, inner, (1, 1))
        self.excite = SqueezeExcitation(inner, reduction) if reduction else nn.Identity()
        self.project = conv_bn(inner, outputs, (1, 1))
        self.skip = StochasticDepth(skip_rate)
        keeps_shape = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if keeps_shape else conv_bn(inputs, outputs, (1, 1), stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, F) to (B, C, T/s, F/s)."""
        y = self.relu(self.time(self.reduce(x)))
        y = self.relu(self.frequency(y))
        return self.relu(self.skip(self.project(self.excite(self.expand(y)))) + self.shortcut(x))


def merge_branches(network: nn.Module) -> nn.Module:
    """The authors' merged form, a copy: each mixing step is one convolution; other batch norms and inner additions stay."""
    merged = copy.deepcopy(network)
    for block in [module for module in merged.modules() if isinstance(module, Block)]:
        block.time, block.frequency = _merged(block.time), _merged(block.frequency)
    return merged


def _merged(branches: Parallel) -> Parallel:
    """The branches with a convolution as one convolution, beside the identity."""
    taps = [_folded(*branch) for branch in branches.values() if isinstance(branch, nn.Sequential)]
    total = functools.reduce(algebra.add, taps)
    first = next(iter(branches.values()))[0]  # type: ignore[index]
    conv = nn.Conv2d(total.inputs, total.outputs, total.size, 1, total.low, groups=total.groups)  # type: ignore[arg-type]
    conv.weight.data, conv.bias.data = (value.to(first.weight.dtype) for value in (total.weight, total.bias))  # type: ignore[union-attr]
    return Parallel({"merged": conv.eval(), "identity": nn.Identity()})


def _folded(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> algebra.Taps:
    """A convolution and its batch norm's statistics as one map, in float64."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    padding = tuple(int(n) for n in conv.padding)
    taps = algebra.Taps(conv.weight.detach().double(), None, (1, 1), (1, 1), padding, padding, conv.groups)
    gain = bn.weight.detach().double() * (bn.running_var.double() + bn.eps).rsqrt()
    return algebra.scale(taps, gain, bn.bias.detach().double() - bn.running_mean.double() * gain)


class SqueezeExcitation(nn.Module):
    """Channels weighed by a gate of their means (arXiv 1709.01507, section 3): (B, C, T, F) to the same."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        squeezed = max(channels // reduction, SQUEEZED_AT_LEAST)
        self.squeeze, self.excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) to the same."""
        gate = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu())  # (B, C, 1, 1)
        return x * gate.sigmoid()


class StochasticDepth(nn.Module):
    """Zeroes whole clips of a residual branch in training, at `rate`, and scales the others up (arXiv 1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) to the same shape."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * torch.empty(x.shape[0], *[1] * (x.dim() - 1), device=x.device, dtype=x.dtype).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """The rate, for `print(network)`."""
        return f"rate={self.rate:.3f}"


def _stem(config: ArinConfig) -> nn.Sequential:
    convolution = _conv_bn_relu(1, config.width, config.stem_kernel, config.stem_stride)
    if config.stem_pool:
        convolution.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
    return convolution


def _stages(config: ArinConfig) -> list[nn.Sequential]:
    last = max(sum(config.depths) - 1, 1)
    stages, inputs, index = [], config.width, 0
    for stage, depth in enumerate(config.depths, 1):
        outputs, blocks = config.channels(stage), []
        for position in range(depth):
            stride = 1 if position else config.stride(stage)
            skip_rate = config.stochastic_depth * index / last
            blocks.append(Block(inputs, outputs, stride, skip_rate, config.groups(stage), config))
            inputs, index = outputs, index + 1
        stages.append(nn.Sequential(*blocks))
    return stages


def _mix(channels: int, kernels: list[tuple[int, int]], groups: int) -> Parallel:
    """Convolutions of several lengths with a batch norm each, added to each other and to the input."""
    branches: dict[str, nn.Module] = {
        f"k{max(kernel)}": conv_bn(channels, channels, kernel, groups=groups) for kernel in kernels
    }
    return Parallel({**branches, "identity": nn.Identity()})


def _conv_bn_relu(inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1) -> nn.Sequential:
    sequence = conv_bn(inputs, outputs, kernel, stride)
    sequence.add_module("relu", nn.ReLU())
    return sequence


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        fan_out = module.out_channels * math.prod(module.kernel_size) // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    else:
        narrow_linear(module)
