"""The losses of distillation are the formulas of their papers."""

from __future__ import annotations

import math

import pytest
import torch
from support.teaching import LABELS
from support.training import quick

from audiorep.training import distil
from audiorep.training.module import Trainee


def test_the_soft_loss_is_the_formulas_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    scores = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    q = math.e / (math.e + 1)  # the first clip's softmax of (1, 0), at a temperature of 2
    first = 0.5 * math.log(0.5 / q) + 0.5 * math.log(0.5 / (1 - q))
    second = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert distil.soft_target_loss(logits, scores, 2.0, False).item() == pytest.approx(4 * (first + second) / 2, rel=1e-6)
    binary = [0.5 * math.log(0.5 / q) + 0.5 * math.log(0.5 / (1 - q)), 0.0, second, 0.1 * math.log(0.2) + 0.9 * math.log(1.8)]
    assert distil.soft_target_loss(logits, scores, 2.0, True).item() == pytest.approx(4 * sum(binary) / 4, rel=1e-6)


def test_a_teacher_that_is_certain_gives_the_labels_loss():
    logits, certain = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.eye(4)[[0, 3, 1, 1, 2]]
    expected = torch.nn.functional.cross_entropy(logits, certain)
    assert distil.soft_target_loss(logits, certain, 1.0, False).item() == pytest.approx(expected.item(), rel=1e-6)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, certain)
    assert distil.soft_target_loss(logits, certain, 1.0, True).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_at_equality_the_soft_loss_and_its_gradient_are_zero(multi_label, temperature):
    given = 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    logits = given.clone().requires_grad_()
    loss = distil.soft_target_loss(logits, distil.soften(given, temperature, multi_label), temperature, multi_label)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad.abs().max() < 1e-6
    worse = distil.soft_target_loss(given.roll(1, 0), distil.soften(given, temperature, multi_label), temperature, multi_label)
    assert worse > 0.01


def test_the_gradient_keeps_its_size_at_high_temperatures():
    generator = torch.Generator().manual_seed(0)
    student, theirs = (torch.randn(8, 5, generator=generator) for _ in range(2))
    centered = [values - values.mean(1, keepdim=True) for values in (student, theirs)]
    logits = student.clone().requires_grad_()
    distil.soft_target_loss(logits, distil.soften(theirs, 1000.0, False), 1000.0, False).backward()
    assert torch.allclose(logits.grad, (centered[0] - centered[1]) / (5 * 8), atol=1e-3)  # arXiv 1503.02531, equation 4


def test_an_ensemble_is_the_weighted_mean_of_each_head():
    first, second = (
        {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.2]])},
        {
            "a": torch.tensor([[0.5, 0.5]]),
            "b": torch.tensor([[0.6]]),
        },
    )
    assert distil.ensemble([first, second])["a"].tolist() == [[0.75, 0.25]]
    assert distil.ensemble([first, second])["b"].tolist() == [[pytest.approx(0.4)]]
    assert distil.ensemble([first, second], [3.0, 1.0])["a"].tolist() == [[0.875, 0.125]]
    assert distil.shares([], 4) == [0.25] * 4


def test_maps_of_other_sizes_are_matched_on_the_smaller_one():
    match = distil.FeatureMatch(3, 5)
    torch.nn.init.zeros_(match.projection.weight)
    torch.nn.init.zeros_(match.projection.bias)
    student, theirs = torch.randn(2, 3, 4, 7), torch.randn(2, 5, 8, 2)
    assert match(student, theirs).item() == pytest.approx(1.0)
    match = distil.FeatureMatch(3, 3)
    torch.nn.init.dirac_(match.projection.weight)
    torch.nn.init.zeros_(match.projection.bias)
    wide = torch.randn(2, 3, 8, 4)
    assert match(torch.nn.functional.avg_pool2d(wide, 2), wide).item() == pytest.approx(0, abs=1e-6)
    assert match(torch.zeros(2, 3, 8, 4), torch.zeros(2, 3, 8, 4)).item() == 0


def test_the_last_map_comes_beside_the_same_logits():
    network = Trainee(quick(), LABELS, 10, {}).eval().network
    spectrogram = torch.randn(2, 1, 20, 16)
    logits, last = distil.WithMap(network)(spectrogram)
    assert torch.equal(logits["label"], network(spectrogram)["label"])
    assert torch.equal(last, network.forward_features(spectrogram))
