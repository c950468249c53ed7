"""Layers and checks that several networks share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from audiorep.errors import ConfigError


def refuse(checks: Iterable[tuple[bool, str]]) -> None:
    """Raises one ConfigError that names every failed check."""
    problems = [text for fine, text in checks if not fine]
    if problems:
        raise ConfigError("network: " + "; ".join(problems) + ".")


def head_checks(heads: Mapping[str, int], dropout: float) -> list[tuple[bool, str]]:
    """What every network asks of its outputs."""
    return [
        (bool(heads) and all(k >= 1 for k in heads.values()), f"heads {heads} need at least one class each"),
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


def make_heads(channels: int, heads: Mapping[str, int]) -> nn.ModuleDict:
    """A linear layer for each output: (B, channels) to (B, K)."""
    return nn.ModuleDict({name: nn.Linear(channels, classes) for name, classes in heads.items()})


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """A convolution without bias whose padding keeps the size, a batch norm, and `activation` where one is given."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel[0] // 2, kernel[1] // 2), groups=groups, bias=False)
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
