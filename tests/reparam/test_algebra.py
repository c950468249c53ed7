"""The arithmetic of taps is exact: each operation against the modules it stands for, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorep.errors import FuseError
from audiorep.reparam import algebra
from audiorep.reparam.affine import Affine, to_transposed
from audiorep.reparam.algebra import Taps


def run(taps: Taps, x: torch.Tensor, axis: int = 1) -> torch.Tensor:
    return Affine(taps, axis, frozenset(), torch.float64)(x)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return found.shape == expected.shape and bool((found - expected).abs().max() <= 1e-12 * expected.abs().max().clamp_min(1))


@st.composite
def convolution(draw, inputs: int, outputs: int, padded: bool, dimensions: int = 1):
    groups = draw(st.sampled_from([g for g in (1, 2) if inputs % g == 0 and outputs % g == 0]))
    size = tuple(draw(st.integers(1, 4)) for _ in range(dimensions))
    low, high = (tuple(draw(st.integers(0, 2)) if padded else 0 for _ in size) for _ in range(2))
    stride, dilation = (tuple(draw(st.integers(1, 3)) for _ in size) for _ in range(2))
    bias = randn(outputs) if draw(st.booleans()) else None
    return Taps(randn(outputs, inputs // groups, *size), bias, stride, dilation, low, high, groups)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_convolution_behind_a_convolution_is_one(data):
    dimensions = data.draw(st.integers(1, 2))
    first = data.draw(convolution(4, 6, padded=True, dimensions=dimensions))
    second = data.draw(convolution(6, 4, padded=False, dimensions=dimensions))
    total = algebra.compose(first, second)
    for size in (40, 41, 45):
        x = randn(2, 4, *[size] * dimensions)
        assert close(run(total, x), run(second, run(first, x)))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_point_before_a_padded_convolution_composes_without_a_bias_alone(data):
    second = data.draw(convolution(6, 4, padded=True))
    stride = data.draw(st.integers(1, 3))
    point = Taps(randn(6, 4, 1), None, (stride,), (1,), (0,), (0,))
    for size in (40, 41, 43):
        x = randn(2, 4, size)
        assert close(run(algebra.compose(point, second), x), run(second, run(point, x)))
    if any(second.low + second.high):
        with pytest.raises(FuseError, match="border"):
            algebra.compose(algebra.scale(point, torch.ones(6), randn(6)), second)


def test_a_kernel_before_a_padded_convolution_is_refused():
    first = Taps(randn(4, 4, 3), None, (1,), (1,), (1,), (1,))
    with pytest.raises(FuseError, match="border"):
        algebra.compose(first, first)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_parallel_taps_of_any_size_dilation_and_padding_add_up(data):
    dimensions = data.draw(st.integers(1, 3))
    first = data.draw(convolution(4, 4, padded=True, dimensions=dimensions))
    size = tuple(data.draw(st.integers(1, 4)) for _ in range(dimensions))
    dilation = tuple(data.draw(st.integers(1, 3)) for _ in range(dimensions))
    low = tuple(data.draw(st.integers(0, 3)) for _ in range(dimensions))
    high = tuple(law - a + d * (k - 1) for law, a, d, k in zip(first.law, low, dilation, size, strict=True))
    groups = data.draw(st.sampled_from([1, 2, 4]))
    second = Taps(randn(4, 4 // groups, *size), randn(4), first.stride, dilation, low, high, groups)
    total = algebra.add(first, second)
    x = randn(1, 4, *[14, 17, 15][:dimensions])  # longer than the most that a negative padding cuts off
    assert close(run(total, x), run(first, x) + run(second, x))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_transposed_convolutions_add_up_and_take_scales_and_points(data):
    groups, stride = data.draw(st.sampled_from([1, 2])), data.draw(st.integers(1, 3))
    low = (data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2)))
    first = Taps(randn(6, 4 // groups, 3, 4), randn(6), (stride, 2), (1, 2), low, low, groups, True)
    size = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    high = tuple(law - a + (k - 1) for law, a, k in zip(first.law, low, size, strict=True))
    second = Taps(randn(6, 4 // groups, *size), None, (stride, 2), (1, 1), low, high, groups, True)
    point, x = Taps(randn(5, 6), randn(5)), randn(2, 4, 7, 8)
    before = Taps(randn(4, 4), None)

    def apply(taps: Taps, x: torch.Tensor) -> torch.Tensor:
        """A transposed convolution by its definition: nothing cut, then cut by hand."""
        weight = to_transposed(taps.weight, taps.groups)
        full = F.conv_transpose2d(x, weight, taps.bias, taps.stride, groups=taps.groups, dilation=taps.dilation)
        around = [n for a, b in zip(reversed(taps.low), reversed(taps.high), strict=True) for n in (-a, -b)]
        inside = F.pad(full - (0 if taps.bias is None else taps.bias[:, None, None]), around)
        return inside + (0 if taps.bias is None else taps.bias[:, None, None])

    assert close(apply(algebra.add(first, second), x), apply(first, x) + apply(second, x))
    assert close(apply(algebra.compose(first, point), x), run(point, apply(first, x)))
    assert close(apply(algebra.compose(before, first), x), apply(first, run(before, x)))
    gain, shift = randn(6), randn(6)
    expected = apply(first, x) * gain[:, None, None] + shift[:, None, None]
    assert close(apply(algebra.scale(first, gain, shift), x), expected)


def test_siblings_of_different_sizes_stack_on_one_grid():
    maps = [
        Taps(randn(3, 4, 3), randn(3), (1,), (2,), (2,), (2,)),
        Taps(randn(2, 4, 5), None, (1,), (1,), (2,), (2,)),
        Taps(randn(1, 4), randn(1)),
    ]
    x = randn(2, 4, 12)
    total = algebra.stack(maps)
    assert total.size == (5,)
    assert close(run(total, x), torch.cat([run(taps, x) for taps in maps], 1))


def test_taps_of_different_dilations_share_the_coarsest_grid_that_holds_them():
    wide, narrow = (Taps(randn(2, 2, 3), None, (1,), (d,), (d,), (d,)) for d in (4, 2))
    total = algebra.add(wide, narrow)
    assert (total.size, total.dilation, total.low, total.high) == ((5,), (2,), (4,), (4,))


def test_unit_tap_is_the_identity_and_regrouping_adds_zeros():
    x = randn(1, 6, 5, 5)
    eye = algebra.unit(6, 2, x)
    assert torch.equal(run(eye, x), x)
    for groups in (1, 2, 3):
        wider = algebra.regrouped(eye, groups)
        assert wider.weight.shape == (6, 6 // groups, 1, 1)
        assert torch.equal(run(wider, x), x)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Taps(randn(2, 2, 3), None, (2,), (1,), (1,), (1,)), "strides"),
        (Taps(randn(2, 2, 3), None, (1,), (1,), (0,), (0,)), "differ in size"),
        (Taps(randn(4, 2, 3), None, (1,), (1,), (1,), (1,)), "channels"),
        (Taps(randn(2, 2, 3), None, (1,), (1,), (1,), (1,), 1, True), "transposed"),
        (Taps(randn(2, 2, 3, 3), None, (1, 1), (1, 1), (1, 1), (1, 1)), "1D and a 2D"),
    ],
    ids=["stride", "size", "channels", "transposed", "dimensions"],
)
def test_what_does_not_add_up_is_refused(second, reason):
    first = Taps(randn(2, 2, 3), None, (1,), (1,), (1,), (1,))
    with pytest.raises(FuseError, match=reason):
        algebra.add(first, second)
