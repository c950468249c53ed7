"""Layers and checks that several networks share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiorep import config
from audiorep.errors import ConfigError
from audiorep.info import EMBEDDING, checks

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def refuse(checks: Iterable[tuple[bool, str]]) -> None:
    """Raises one ConfigError that names every failed check."""
    config.refuse(checks, "network: ")


def head_checks(heads: Mapping[str, int], dropout: float) -> list[tuple[bool, str]]:
    """What every network asks of its outputs."""
    return [
        (bool(heads) and all(k >= 1 for k in heads.values()), f"heads {heads} need at least one class each"),
        (EMBEDDING not in heads, checks.RESERVED),
        (0 <= dropout < 1, f"dropout is {dropout}; 0 to below 1 is allowed"),
    ]


def refuse_small(spectrogram: Tensor, frames: int, mels: int, name: str) -> None:
    """Raises a ConfigError for a spectrogram (B, 1, T, F) of less than `frames` × `mels`."""
    given_frames, given_mels = spectrogram.shape[2:]
    if given_frames < frames or given_mels < mels:
        raise ConfigError(
            f"{name} needs at least {frames} frames and {mels} mel bands; this spectrogram has {given_frames} × {given_mels}. "
            "Take a longer window, or more mel bands."
        )


class Network(nn.Module):
    """What all networks share: a last map, a vector pooled from it (the embedding), and a linear layer for each head."""

    heads: nn.ModuleDict
    dropout: nn.Dropout

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the last map (B, C, T', F')."""
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """The last map (B, C, T', F') to the vector (B, C) that the heads are given: its mean, with dropout."""
        return self.dropout(features.mean((2, 3)))

    @property
    def embedding_size(self) -> int:
        """Values of the vector that the heads are given."""
        layers = (module for module in self.heads.modules() if isinstance(module, nn.Linear))
        return next(layers).in_features

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """The last map (B, C, T', F') to {head: logits (B, K)}, and last the `embedding` (B, C)."""
        pooled = self.pool(features)
        return {**{name: head(pooled) for name, head in self.heads.items()}, EMBEDDING: pooled}

    def forward(self, spectrogram: Tensor) -> dict[str, Tensor]:
        """(B, 1, T, F) to {head: logits (B, K)} and the `embedding` (B, C), in training and evaluation alike."""
        return self.classify(self.forward_features(spectrogram))


def make_heads(channels: int, heads: Mapping[str, int]) -> nn.ModuleDict:
    """A linear layer for each output: (B, channels) to (B, K)."""
    return nn.ModuleDict({name: nn.Linear(channels, classes) for name, classes in heads.items()})


class SubsampledConv2d(nn.Conv2d):
    """A strided convolution that is safe on a CPU: (B, C_in, T, F) to (B, C, T/s, F/s).

    oneDNN writes out of bounds in channels-last where a kernel is one long along a strided axis: 1×1 kernels in the backward
    pass, wherever there are fewer input channels than floats in a vector register (oneDNN issue 6035); and 1×k kernels over
    one channel with a stride of 3 or more frames, in the forward pass already. Along such an axis every s-th entry is taken
    first and convolved with a stride of 1, which is the same sum. A 1×1 convolution without gradients is the plain operator,
    so that it is exported and merged as one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, F) to (B, C, T/s, F/s)."""
        if self.kernel_size == (1, 1) and not torch.is_grad_enabled():
            return super().forward(x)
        taken = tuple(s if k == 1 else 1 for k, s in zip(self.kernel_size, self.stride, strict=True))
        inner = (self.stride[0] // taken[0], self.stride[1] // taken[1])
        x = functional.avg_pool2d(x, 1, taken)  # unlike a slice, its size is a convolution's in symbols too
        return functional.conv2d(x, self.weight, self.bias, inner, self.padding, 1, self.groups)


def convolution(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: int | tuple[int, int] = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution whose padding keeps the size at stride 1, of the kind that is safe on a CPU."""
    strides = (stride, stride) if isinstance(stride, int) else stride
    kind = SubsampledConv2d if skips(kernel, strides) else nn.Conv2d
    return kind(inputs, outputs, kernel, strides, (kernel[0] // 2, kernel[1] // 2), groups=groups, bias=bias)


def skips(kernel: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether a convolution passes over entries along an axis in which its kernel is one long."""
    return any(k == 1 and s > 1 for k, s in zip(kernel, stride, strict=True))


def channels_last(network: AnyModule) -> AnyModule:
    """`network` itself in channels-last, where a CPU is fastest, without the convolutions that are unsafe there."""
    return safe_on_cpu(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def safe_on_cpu(network: AnyModule) -> AnyModule:
    """`network` itself with a `SubsampledConv2d` of the same parameters for each plain convolution that should be one."""
    for name, module in list(network.named_modules()):
        if type(module) is nn.Conv2d and skips(module.kernel_size, module.stride) and module.dilation == (1, 1):
            kernel, stride, padding = (cast(Any, n) for n in (module.kernel_size, module.stride, module.padding))
            bias = module.bias is not None
            safe = SubsampledConv2d(
                module.in_channels, module.out_channels, kernel, stride, padding, groups=module.groups, bias=bias
            )
            safe.weight, safe.bias = module.weight, module.bias
            network.set_submodule(name, safe.train(module.training))
    return network


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """A convolution without bias whose padding keeps the size, a batch norm, and `activation` where one is given."""
    conv = convolution(inputs, outputs, kernel, stride, groups)
    sequence = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))
    if activation is not None:
        sequence.add_module("activation", activation)
    return sequence


def he_fan_out(module: nn.Module) -> None:
    """He-normal weights of a convolution by its fan-out (arXiv 1502.01852), for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def narrow_linear(module: nn.Module) -> None:
    """Normal weights of deviation 0.01 and zero biases of a linear layer, for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
