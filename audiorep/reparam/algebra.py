"""Exact arithmetic on convolutions and linear layers: scale, add, compose, stack (RepVGG, arXiv 2101.03697, eq. 3-4).

A kernel's taps sit at the offsets o_j = j * dilation - padding_low from the sample they produce. Two parallel
convolutions with one stride and one size law `low + high - dilation * (size - 1)` are one convolution whose taps are the
union of theirs, whatever their sizes, dilations and centers. A map without spatial dimensions (`size == ()`) is a linear
layer along one axis; with one channel a group it is a scale. Nothing here reads a tensor's values, so that a dry run on
the meta device takes the same decisions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from audiorep.errors import FuseError


@dataclass(frozen=True)
class Taps:
    """A zero-padded convolution, transposed convolution or linear layer of any number of spatial dimensions."""

    weight: Tensor
    """(C_out, C_in / groups, *size), also where transposed."""
    bias: Tensor | None
    """(C_out,)."""
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    low: tuple[int, ...] = ()
    """Zeros before the first sample; where transposed, samples cut from the output's start."""
    high: tuple[int, ...] = ()
    """Zeros after the last sample; where transposed, samples cut from the output's end."""
    groups: int = 1
    transposed: bool = False
    weight_trained: bool = True
    """Whether a parameter is in the weight; a buffer's values are not counted as parameters."""
    bias_trained: bool = True

    @property
    def size(self) -> tuple[int, ...]:
        """The number of taps in each spatial dimension."""
        return tuple(self.weight.shape[2:])

    @property
    def outputs(self) -> int:
        """C_out."""
        return self.weight.shape[0]

    @property
    def inputs(self) -> int:
        """C_in."""
        return self.weight.shape[1] * self.groups

    @property
    def law(self) -> tuple[int, ...]:
        """Padding minus the kernel's reach, in each dimension. Maps with one stride and one law have outputs of one size."""
        return tuple(
            before + after - d * (k - 1)
            for before, after, d, k in zip(self.low, self.high, self.dilation, self.size, strict=True)
        )

    @property
    def is_scale(self) -> bool:
        """Whether it only scales and shifts channels."""
        return self.size == () and self.groups == self.outputs == self.inputs

    @property
    def is_point(self) -> bool:
        """Whether it has a single tap and no padding, so that each output sample reads one input sample."""
        return math.prod(self.size) == 1 and not any(self.low + self.high) and not self.transposed

    @property
    def parameters(self) -> int:
        """The number of trained values."""
        bias = self.bias.numel() if self.bias is not None and self.bias_trained else 0
        return (self.weight.numel() if self.weight_trained else 0) + bias

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one output position (one input position where transposed); 0 for a scale."""
        return 0 if self.is_scale else self.weight.numel()


def unit(channels: int, dimensions: int, like: Tensor, value: float = 1.0) -> Taps:
    """The identity times `value`: one tap per channel."""
    weight = torch.full((channels, 1, *[1] * dimensions), value, dtype=torch.float64, device=like.device)
    ones, zeros = (1,) * dimensions, (0,) * dimensions
    return Taps(weight, None, ones, ones, zeros, zeros, channels, weight_trained=False, bias_trained=False)


def lifted(taps: Taps, dimensions: int) -> Taps:
    """A linear layer along channels as a convolution with one tap in each of `dimensions`."""
    if len(taps.size) == dimensions:
        return taps
    if taps.size:
        raise FuseError(f"a {len(taps.size)}D and a {dimensions}D convolution do not add up.")
    ones, zeros = (1,) * dimensions, (0,) * dimensions
    weight = taps.weight.reshape(*taps.weight.shape, *ones)
    return replace(taps, weight=weight, stride=ones, dilation=ones, low=zeros, high=zeros)


def flattened(taps: Taps) -> Taps:
    """A convolution with one tap and stride 1 as a linear layer along channels; any other map as it is."""
    if not taps.is_point or any(step != 1 for step in taps.stride):
        return taps
    weight = taps.weight.reshape(taps.weight.shape[:2])
    return replace(taps, weight=weight, stride=(), dilation=(), low=(), high=())


def scale(taps: Taps, gain: Tensor, shift: Tensor | None, gain_trained: bool = True, shift_trained: bool = True) -> Taps:
    """The map followed by `gain * y + shift` per channel: exact for any stride, dilation, groups and padding."""
    weight = taps.weight * gain.reshape(-1, *[1] * (taps.weight.dim() - 1))
    bias, trained = taps.bias, taps.bias_trained and taps.bias is not None
    if bias is not None:
        bias = bias * gain
    if shift is not None:
        bias, trained = shift.expand(taps.outputs) if bias is None else bias + shift, trained or shift_trained
    return replace(taps, weight=weight, bias=bias, weight_trained=taps.weight_trained or gain_trained, bias_trained=trained)


def add(first: Taps, second: Taps) -> Taps:
    """One map equal to the sum of two on the same input (union of taps).

    Raises:
        FuseError: strides, output sizes or channels differ.
    """
    dimensions = max(len(first.size), len(second.size))
    first, second = lifted(first, dimensions), lifted(second, dimensions)
    if first.transposed != second.transposed:
        raise FuseError("a convolution and a transposed one do not add up.")
    if first.stride != second.stride:
        raise FuseError(f"strides {first.stride} and {second.stride} differ.")
    if first.law != second.law:
        raise FuseError(
            f"the branches' outputs differ in size: {first.size} with padding {first.low}, {second.size} with {second.low}."
        )
    if (first.inputs, first.outputs) != (second.inputs, second.outputs):
        raise FuseError(f"channels {first.inputs}→{first.outputs} and {second.inputs}→{second.outputs} differ.")
    groups = math.gcd(first.groups, second.groups)
    first, second = regrouped(first, groups), regrouped(second, groups)
    grid = [_grid(first, second, axis) for axis in range(dimensions)]
    first, second = (_place(taps, grid) for taps in (first, second))
    biases = [(taps.bias, taps.bias_trained) for taps in (first, second) if taps.bias is not None]
    return replace(
        first,
        weight=first.weight + second.weight,
        bias=biases[0][0] + biases[1][0] if len(biases) == 2 else biases[0][0] if biases else None,
        weight_trained=first.weight_trained or second.weight_trained,
        bias_trained=any(trained for _, trained in biases),
    )


def compose(first: Taps, second: Taps) -> Taps:
    """One map equal to `second(first(x))`.

    Raises:
        FuseError: it would be wrong at the border, or a transposed convolution is in the way.
    """
    dimensions = max(len(first.size), len(second.size))
    first, second = lifted(first, dimensions), lifted(second, dimensions)
    if second.transposed or first.transposed:
        return _compose_transposed(first, second)
    if any(second.low + second.high):
        if first.bias is not None:
            raise FuseError("a bias or shift before a zero-padded convolution is wrong at the border.")
        if not first.is_point:
            raise FuseError("a convolution before a zero-padded convolution is wrong at the border.")
    offsets = zip(first.stride, second.low, first.low, strict=True), zip(first.stride, second.high, first.high, strict=True)
    low, high = (tuple(s * outer + inner for s, outer, inner in sides) for sides in offsets)
    stride = tuple(s1 * s2 for s1, s2 in zip(first.stride, second.stride, strict=True))
    first, second = _aligned(first, second)
    weight, dilation = _convolved(first, second)
    return _with_bias(replace(second, weight=weight, stride=stride, dilation=dilation, low=low, high=high), first, second)


def stack(maps: list[Taps]) -> Taps:
    """One map whose output is the concatenation of the outputs of `maps` on the same input.

    Raises:
        FuseError: they differ in stride or output size, or are grouped.
    """
    dimensions = max(len(taps.size) for taps in maps)
    maps = [lifted(taps, dimensions) for taps in maps]
    head = maps[0]
    for taps in maps:
        if taps.groups != 1 or taps.transposed:
            raise FuseError("grouped or transposed convolutions are not stacked.")
        if (taps.stride, taps.law, taps.inputs) != (head.stride, head.law, head.inputs):
            raise FuseError("the siblings differ in stride, output size or channels.")
    for taps in maps[1:]:
        grid = [_grid(head, taps, axis) for axis in range(dimensions)]
        head = _place(head, grid)
    grid = [(-low, d * (k - 1) - low, d) for low, d, k in zip(head.low, head.dilation, head.size, strict=True)]
    placed = [_place(taps, grid) for taps in maps]
    bias = None
    if any(taps.bias is not None for taps in maps):
        bias = torch.cat([taps.weight.new_zeros(taps.outputs) if taps.bias is None else taps.bias for taps in maps])
    return replace(
        head,
        weight=torch.cat([taps.weight for taps in placed]),
        bias=bias,
        bias_trained=any(taps.bias_trained and taps.bias is not None for taps in maps),
    )


def regrouped(taps: Taps, groups: int) -> Taps:
    """The same map with fewer groups; the added weights are zeros."""
    if groups == taps.groups:
        return taps
    merged = taps.groups // groups  # old groups in a new one
    blocks = taps.weight.reshape(groups, merged, taps.outputs // taps.groups, taps.weight.shape[1], *taps.size)
    eye = torch.eye(merged, dtype=blocks.dtype, device=blocks.device).reshape(1, merged, 1, merged, 1, *[1] * len(taps.size))
    weight = (blocks[:, :, :, None] * eye).reshape(taps.outputs, taps.inputs // groups, *taps.size)
    return replace(taps, weight=weight, groups=groups)


def _compose_transposed(first: Taps, second: Taps) -> Taps:
    if second.transposed and (first.bias is not None or not first.is_point or any(s != 1 for s in first.stride)):
        raise FuseError("a bias or a kernel before a transposed convolution is wrong at the border.")
    if first.transposed and (second.transposed or not second.is_point or any(s != 1 for s in second.stride)):
        raise FuseError("a kernel after a transposed convolution is not merged.")
    frame = first if first.transposed else second
    first, second = _aligned(first, second)
    return _with_bias(replace(frame, weight=_convolved(first, second)[0], groups=second.groups), first, second)


def _aligned(first: Taps, second: Taps) -> tuple[Taps, Taps]:
    if first.outputs != second.inputs:
        raise FuseError(f"{first.outputs} channels do not fit {second.inputs}.")
    groups = math.gcd(first.groups, second.groups)
    return regrouped(first, groups), regrouped(second, groups)


def _convolved(first: Taps, second: Taps) -> tuple[Tensor, tuple[int, ...]]:
    """(weight, dilation) of the composition; the taps of `second` are `first.stride` apart as the input sees them."""
    dilation, sizes, spots = [], [], []
    for d1, k1, s1, d2, k2 in zip(first.dilation, first.size, first.stride, second.dilation, second.size, strict=True):
        steps = [d1] * (k1 > 1) + [s1 * d2] * (k2 > 1)
        spacing = math.gcd(*steps) if steps else 1
        reach, step = d1 * (k1 - 1) // spacing, max(1, d1 // spacing)
        starts = [j * s1 * d2 // spacing for j in range(k2)]
        dilation.append(spacing)
        sizes.append(starts[-1] + reach + 1)
        spots.append([slice(start, start + reach + 1, step) for start in starts])
    groups = second.groups
    inner = first.weight.reshape(groups, first.outputs // groups, first.weight.shape[1], *first.size)
    outer = second.weight.reshape(groups, second.outputs // groups, second.weight.shape[1], *second.size)
    total = second.weight.new_zeros(second.outputs, first.weight.shape[1], *sizes)
    for place in itertools.product(*(range(k) for k in second.size)):
        product = torch.einsum("gom,gm...->go...", outer[_trailing(place)], inner)
        taps = product.reshape(second.outputs, first.weight.shape[1], *first.size)
        total[_trailing(spots[axis][j] for axis, j in enumerate(place))] += taps
    return total, tuple(dilation)


def _trailing(places: Iterable[Any]) -> Any:
    """An index into the last axes of a tensor."""
    return (..., *places)


def _with_bias(total: Taps, first: Taps, second: Taps) -> Taps:
    """`total`, the composition, with the bias of `second` and what `second` makes of the bias of `first`."""
    trained = first.weight_trained or second.weight_trained
    if first.bias is None:
        return replace(total, bias=second.bias, bias_trained=second.bias_trained, weight_trained=trained)
    outer = second.weight.flatten(2).sum(2) if second.size else second.weight
    outer = outer.reshape(second.groups, second.outputs // second.groups, -1)
    bias = torch.einsum("gom,gm->go", outer, first.bias.reshape(second.groups, -1)).reshape(-1)
    bias_trained = first.bias_trained or (second.bias_trained and second.bias is not None)
    return replace(
        total,
        bias=bias if second.bias is None else bias + second.bias,
        bias_trained=bias_trained,
        weight_trained=trained,
    )


def _grid(first: Taps, second: Taps, axis: int) -> tuple[int, int, int]:
    """(first offset, last offset, spacing) of the closest grid that holds the taps of both."""
    offsets = [j * t.dilation[axis] - t.low[axis] for t in (first, second) for j in range(t.size[axis])]
    spacing = math.gcd(*(offset - offsets[0] for offset in offsets)) or 1
    return min(offsets), max(offsets), spacing


def _place(taps: Taps, grid: list[tuple[int, int, int]]) -> Taps:
    """The same convolution with its taps on `grid`, zeros between them."""
    weight = taps.weight
    for axis, (least, last, spacing) in enumerate(grid):
        size = (last - least) // spacing + 1
        if size == weight.shape[axis + 2] and (spacing == taps.dilation[axis] or size == 1):
            continue
        start, step = -taps.low[axis] - least, taps.dilation[axis]
        shape = list(weight.shape)
        shape[axis + 2] = size
        spot = slice(start // spacing, (start + step * (taps.size[axis] - 1)) // spacing + 1, max(1, step // spacing))
        placed = weight.new_zeros(shape)
        placed[_trailing((spot, *[slice(None)] * (len(grid) - 1 - axis)))] = weight
        weight = placed
    low = tuple(-least for least, _, _ in grid)
    high = tuple(law + last for law, (_, last, _) in zip(taps.law, grid, strict=True))
    return replace(taps, weight=weight, low=low, high=high, dilation=tuple(spacing for _, _, spacing in grid))
