"""A layer for a few clips: what it says of clips left out is what a layer taught without them says."""

from __future__ import annotations

import numpy as np
import pytest

from audiorep.embeddings import few_shot
from audiorep.embeddings.few_shot import Examples, clip_logits, fit

SIZE = 20


def made(clips: int, apart: float, background: int = 200, seed: int = 0) -> Examples:
    """Three classes of so many clips of four windows around a centre of their own, and a background."""
    random = np.random.default_rng(seed)
    centres = apart * random.standard_normal((3, SIZE))
    classes = np.repeat([0, 1, 2], clips)
    own = centres[classes] + 0.5 * random.standard_normal((3 * clips, SIZE))
    vectors = np.repeat(own, 4, axis=0) + 0.5 * random.standard_normal((12 * clips, SIZE))
    return Examples(
        np.concatenate([vectors, random.standard_normal((background, SIZE))]) + 3.0,
        np.concatenate([np.repeat(np.arange(3 * clips), 4), 3 * clips + np.arange(background)]),
        np.concatenate([np.repeat(classes, 4), np.full(background, -1)]),
        np.concatenate([random.uniform(0.1, 1.0, 12 * clips), np.ones(background)]),
    )


def test_left_out_values_are_those_of_a_fit_without_the_clip(monkeypatch):
    monkeypatch.setattr(few_shot, "PENALTIES", np.array([0.3]))
    random = np.random.default_rng(1)
    inputs = np.hstack([random.standard_normal((30, 5)), np.ones((30, 1))])
    targets, clips = random.standard_normal((30, 2)), np.repeat(np.arange(10), 3)
    root = np.sqrt(random.uniform(0.5, 2, (30, 1)))
    _, left = few_shot._left_out(inputs * root, targets * root, root, 0.3, clips)
    ridge = np.diag([0.3] * 5 + [1e-9])
    for clip in range(10):
        rest, own = clips != clip, clips == clip
        weighted = inputs[rest] * root[rest] ** 2
        coefficients = np.linalg.solve(weighted.T @ inputs[rest] + ridge, weighted.T @ targets[rest])
        assert left[own] == pytest.approx(inputs[own] @ coefficients, abs=1e-5)


def test_classes_far_apart_are_told_and_the_background_is_none_of_them():
    examples = made(5, apart=2.0)
    layer = fit(examples, 3, 3)
    logits = examples.vectors @ layer.weight.T + layer.bias
    truth = examples.classes
    assert (logits[truth >= 0].argmax(1) == truth[truth >= 0]).all()
    assert (logits[truth >= 0].max(1) > 0).mean() > 0.95
    assert (logits[truth < 0].max(1) > 0).mean() < 0.05
    left = clip_logits(layer.left_out, examples)[:15]
    assert (left.argmax(1) == np.repeat([0, 1, 2], 5)).all()


def test_classes_that_are_the_same_are_not_told_when_left_out():
    examples = made(6, apart=0.0, seed=3)
    left = clip_logits(fit(examples, 3, 3).left_out, examples)[:18]
    assert (left.argmax(1) == np.repeat([0, 1, 2], 6)).mean() < 0.7


def test_probabilities_of_clips_left_out_are_about_right():
    right, said = [], []
    for seed in range(10):
        examples = made(6, apart=0.7, seed=seed)
        scores = 1 / (1 + np.exp(-fit(examples, 3, 3).left_out))
        said.append(scores.mean())
        weights = few_shot._balanced(examples, 3)
        targets = examples.classes[:, None] == np.arange(3)
        right.append((weights @ targets).sum() / weights.sum() / 3)
        said[-1] = (weights @ scores).sum() / weights.sum() / 3
    assert np.mean(said) == pytest.approx(np.mean(right), abs=0.03)


def test_a_class_of_many_clips_weighs_no_more_than_one_of_few():
    examples = made(5, apart=1.0)
    weights = few_shot._balanced(examples, 3)
    sums = [weights[examples.classes == number].sum() for number in (0, 1, 2, -1)]
    assert sums == pytest.approx([1.0, 1.0, 1.0, 3.0])


def test_a_single_clip_of_each_class_teaches_too():
    examples = made(1, apart=2.0)
    layer = fit(examples, 3, 3)
    logits = examples.vectors @ layer.weight.T + layer.bias
    truth = examples.classes
    clips = clip_logits(logits, examples)[:3]
    assert clips.argmax(1).tolist() == [0, 1, 2]
    assert (clips.max(1) > 0).sum() >= 2
    assert (logits[truth < 0].max(1) > 0).mean() < 0.02
