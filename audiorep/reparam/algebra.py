"""Exact arithmetic on convolutions as sets of taps: fold, add, unit tap (RepVGG, arXiv 2101.03697, eq. 3-4, generalised).

A kernel's taps sit at the offsets o_j = j * dilation - padding_low from the sample they produce. Two parallel
convolutions with one stride and one size law `low + high - dilation * (size - 1)` are one convolution whose taps are the
union of theirs, whatever their sizes, dilations and centres. All arithmetic is in float64; `to_module` casts once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from audiorep.errors import FuseError

CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True)
class Taps:
    """A zero-padded convolution in float64, of any number of spatial dimensions."""

    weight: Tensor
    """(C_out, C_in / groups, *size)."""
    bias: Tensor
    """(C_out,)."""
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    low: tuple[int, ...]
    """Zeros before the first sample."""
    high: tuple[int, ...]
    """Zeros after the last sample."""
    groups: int

    @property
    def size(self) -> tuple[int, ...]:
        """Taps in each spatial dimension."""
        return tuple(self.weight.shape[2:])

    @property
    def law(self) -> tuple[int, ...]:
        """What decides the output's size: padding less the kernel's reach."""
        return tuple(
            before + after - d * (k - 1)
            for before, after, d, k in zip(self.low, self.high, self.dilation, self.size, strict=True)
        )


def from_module(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Taps:
    """The taps of a convolution; refuses padding that is not zeros."""
    if conv.padding_mode != "zeros" and any(_low_high(conv)[0] + _low_high(conv)[1]):
        raise FuseError(f"padding_mode {conv.padding_mode!r} cannot be merged; only zeros can.")
    weight = conv.weight.detach().double()
    bias = weight.new_zeros(weight.shape[0]) if conv.bias is None else conv.bias.detach().double()
    low, high = _low_high(conv)
    return Taps(weight, bias, tuple(conv.stride), tuple(conv.dilation), low, high, conv.groups)


def unit(channels: int, dimensions: int, like: Tensor | None = None) -> Taps:
    """The identity: one tap of 1 per channel."""
    weight = torch.ones(channels, 1, *[1] * dimensions, dtype=torch.float64, device=None if like is None else like.device)
    ones, zeros = (1,) * dimensions, (0,) * dimensions
    return Taps(weight, weight.new_zeros(channels), ones, ones, zeros, zeros, channels)


def batch_norm(bn: nn.Module) -> tuple[Tensor, Tensor]:
    """(gain, shift) of a batch norm in evaluation mode, float64 (C,) each."""
    if not isinstance(bn, nn.modules.batchnorm._BatchNorm):
        raise FuseError(f"{type(bn).__name__} is not a batch norm.")
    if bn.running_mean is None or bn.running_var is None:
        raise FuseError("a batch norm without running statistics depends on its batch and cannot be folded.")
    if bn.training:
        raise FuseError("a batch norm is in training mode: call model.eval() first.")
    gain = (bn.running_var.double() + bn.eps).rsqrt()
    if bn.weight is not None:
        gain = gain * bn.weight.detach().double()
    shift = -bn.running_mean.double() * gain
    if bn.bias is not None:
        shift = shift + bn.bias.detach().double()
    return gain, shift


def scale(taps: Taps, gain: Tensor, shift: Tensor) -> Taps:
    """The convolution followed by `gain * y + shift` per channel: exact for any stride, dilation, groups and padding."""
    weight = taps.weight * gain.reshape(-1, *[1] * (taps.weight.dim() - 1))
    return replace(taps, weight=weight, bias=taps.bias * gain + shift)


def add(first: Taps, second: Taps) -> Taps:
    """One convolution equal to the sum of two on the same input (union of taps)."""
    if first.stride != second.stride:
        raise FuseError(f"strides {first.stride} and {second.stride} differ.")
    if first.law != second.law:
        raise FuseError(
            f"the branches' outputs differ in size: {first.size} with padding {first.low}, {second.size} with {second.low}."
        )
    groups = math.gcd(first.groups, second.groups)
    first, second = _regroup(first, groups), _regroup(second, groups)
    if first.weight.shape[:2] != second.weight.shape[:2]:
        raise FuseError("the branches differ in channels.")
    grid = [_grid(first, second, axis) for axis in range(len(first.size))]
    first, second = (_place(taps, grid) for taps in (first, second))
    return replace(first, weight=first.weight + second.weight, bias=first.bias + second.bias)


def symmetric(taps: Taps) -> Taps:
    """The same convolution with equal padding on both sides, as `nn.Conv` needs, by zero taps where it is off-centre."""
    grid = []
    for low, high, dilation, size in zip(taps.low, taps.high, taps.dilation, taps.size, strict=True):
        reach = dilation * (size - 1) - low  # the last tap's offset
        if (high - low) % dilation:
            raise FuseError(f"padding {low} and {high} cannot be made equal with dilation {dilation}.")
        grid.append((-max(low, high), reach + max(0, low - high), dilation))
    return _place(taps, grid)


def to_module(taps: Taps, dtype: torch.dtype, bias: bool = True) -> nn.Module:
    """An ordinary convolution; the one place where float64 is cast."""
    taps = symmetric(taps)
    conv = CONVOLUTIONS[len(taps.size)](
        taps.weight.shape[1] * taps.groups,
        taps.weight.shape[0],
        taps.size,  # type: ignore[arg-type]
        stride=taps.stride,  # type: ignore[arg-type]
        padding=taps.low,  # type: ignore[arg-type]
        dilation=taps.dilation,  # type: ignore[arg-type]
        groups=taps.groups,
        bias=bias,
        device=taps.weight.device,
        dtype=dtype,
    )
    with torch.no_grad():
        conv.weight.copy_(taps.weight)
        if conv.bias is not None:
            conv.bias.copy_(taps.bias)
    return conv.eval()


def _low_high(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if conv.padding == "valid":
        return (0,) * len(conv.kernel_size), (0,) * len(conv.kernel_size)
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    padding = tuple(int(p) for p in conv.padding)
    return padding, padding


def _regroup(taps: Taps, groups: int) -> Taps:
    """The same convolution written with fewer groups; the added weights are zeros."""
    if groups == taps.groups:
        return taps
    outputs, inputs = taps.weight.shape[0], taps.weight.shape[1] * taps.groups
    weight = taps.weight.new_zeros(outputs, inputs // groups, *taps.size)
    for output in range(outputs):
        group = output // (outputs // taps.groups)
        start = (group * taps.weight.shape[1]) % (inputs // groups)
        weight[output, start : start + taps.weight.shape[1]] = taps.weight[output]
    return replace(taps, weight=weight, groups=groups)


def _grid(first: Taps, second: Taps, axis: int) -> tuple[int, int, int]:
    """(first offset, last offset, spacing) of a grid that holds the taps of both and needs no negative padding."""
    offsets = [j * t.dilation[axis] - t.low[axis] for t in (first, second) for j in range(t.size[axis])]
    least, last = min(*offsets, 0), max(*offsets, -first.law[axis])
    spacing = math.gcd(*(offset - least for offset in offsets), last - least) or 1
    return least, last, spacing


def _place(taps: Taps, grid: list[tuple[int, int, int]]) -> Taps:
    """The same convolution with its taps on `grid`, zeros between them."""
    weight = taps.weight
    for axis, (least, last, spacing) in enumerate(grid):
        size = (last - least) // spacing + 1
        if size == weight.shape[axis + 2] and spacing == taps.dilation[axis]:
            continue
        positions = torch.tensor(
            [(j * taps.dilation[axis] - taps.low[axis] - least) // spacing for j in range(taps.size[axis])]
        )
        shape = list(weight.shape)
        shape[axis + 2] = size
        weight = weight.new_zeros(shape).index_copy_(axis + 2, positions.to(weight.device), weight)
    low = tuple(-least for least, _, _ in grid)
    high = tuple(law + last for law, (_, last, _) in zip(taps.law, grid, strict=True))
    return replace(taps, weight=weight, low=low, high=high, dilation=tuple(spacing for _, _, spacing in grid))
