"""Metrics against scikit-learn and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    roc_auc_score,
    top_k_accuracy_score,
)

from audiorep.evaluation.metrics import in_words, joint, mean_average_precision, score

LABELS = [f"class {k}" for k in range(8)]


@pytest.fixture
def guesses():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 8, 200)
    scores = generator.dirichlet(np.ones(8), 200).astype(np.float32)
    scores[np.arange(200), truth] += 0.2
    return scores, truth


def test_single_label_metrics_agree_with_scikit_learn(guesses):
    scores, truth = guesses
    card = score(scores, np.eye(8, dtype=int)[truth], LABELS, multi_label=False)
    given = scores.argmax(1)
    assert card.summary["top1"] == pytest.approx(accuracy_score(truth, given))
    assert card.summary["top5"] == pytest.approx(top_k_accuracy_score(truth, scores, k=5))
    assert card.summary["macro_accuracy"] == pytest.approx(balanced_accuracy_score(truth, given))
    expected = np.mean([average_precision_score(truth == k, scores[:, k]) for k in range(8)])
    assert card.summary["mean_average_precision"] == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(card.confusion, confusion_matrix(truth, given))


def test_multi_label_metrics_agree_with_scikit_learn():
    generator = np.random.default_rng(1)
    targets = (generator.random((100, 8)) < 0.2).astype(int)
    scores = (0.5 * targets + 0.6 * generator.random((100, 8))).astype(np.float32).clip(0, 1)
    card = score(scores, targets, LABELS, multi_label=True)
    assert card.summary["mean_average_precision"] == pytest.approx(
        average_precision_score(targets, scores, average="macro"), abs=1e-6
    )
    assert card.summary["accuracy"] == pytest.approx(((scores >= 0.5) == targets).mean())
    assert card.confusion is None


def test_classes_without_clips_do_not_count():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], np.float32)
    card = score(scores, np.array([[1, 0, 0], [0, 1, 0]]), LABELS[:3], multi_label=False)
    assert card.summary["macro_accuracy"] == 1.0
    assert card.summary["mean_average_precision"] == 1.0
    assert card.classes[2].clips == 0


def test_each_class_names_what_it_is_mistaken_for():
    scores = np.array([[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0.9, 0.1], [0, 1, 0]], np.float32)
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    first, second, third = score(scores, targets, LABELS[:3], multi_label=False).classes
    assert (first.recall, first.precision, first.mistaken_for) == (0.5, 1.0, "class 1")
    assert (second.recall, second.mistaken_for) == (1.0, "")
    assert second.precision == pytest.approx(1 / 3)
    assert (third.recall, third.precision) == (0.0, 0.0)


def test_two_classes_and_one_class_work():
    for classes in (1, 2):
        scores = np.full((3, classes), 0.6, np.float32)
        card = score(scores, np.ones((3, classes), int), LABELS[:classes], multi_label=True)
        assert card.summary["mean_average_precision"] == pytest.approx(1.0)
    assert score(np.array([[0.9, 0.1]], np.float32), np.array([[1, 0]]), LABELS[:2], multi_label=False).summary["top5"] == 1.0


def test_area_under_the_curve_and_d_prime_agree_with_scikit_learn(guesses):
    scores, truth = guesses
    areas = [roc_auc_score(truth == k, scores[:, k]) for k in range(8)]
    for multi_label in (False, True):
        summary = score(scores, np.eye(8, dtype=int)[truth], LABELS, multi_label).summary
        assert summary["mean_auc"] == pytest.approx(np.mean(areas), abs=1e-6)
        assert summary["d_prime"] == pytest.approx(np.sqrt(2) * norm.ppf(np.mean(areas)), abs=1e-4)


def test_classes_without_clips_do_not_count_and_a_perfect_model_has_a_number():
    scores = np.eye(8, dtype=np.float32)[[0, 1, 1, 2]]
    summary = score(scores, np.eye(8, dtype=int)[[0, 1, 1, 2]], LABELS, multi_label=False).summary
    assert summary["mean_auc"] == 1.0
    assert 7 < summary["d_prime"] < 9
    assert "mean_auc" not in score(scores[:2, :2], np.array([[1, 0], [1, 0]]), LABELS[:2], multi_label=False).summary


def test_actions_need_every_head_right():
    truth = {"verb": np.eye(8, dtype=int)[[0, 1, 2, 3]], "noun": np.eye(6, dtype=int)[[0, 1, 2, 3]]}
    generator = np.random.default_rng(1)
    scores = {head: generator.dirichlet(np.ones(values.shape[1]), 4) for head, values in truth.items()}
    classes = {"verb": LABELS, "noun": LABELS[:6]}
    found = joint(scores, truth, classes)
    right = {h: [list(np.argsort(-scores[h][i])).index(truth[h][i].argmax()) for i in range(4)] for h in truth}
    assert found["top1"] == np.mean([right["verb"][i] < 1 and right["noun"][i] < 1 for i in range(4)])
    assert found["top5"] == np.mean([right["verb"][i] < 5 and right["noun"][i] < 5 for i in range(4)])
    ranks = []
    for clip in range(4):
        pairs = np.outer(scores["verb"][clip], scores["noun"][clip])
        order = [divmod(int(place), 6) for place in np.argsort(-pairs, axis=None)]
        ranks.append(order.index((truth["verb"][clip].argmax(), truth["noun"][clip].argmax())))
    assert found["top5_of_pairs"] == np.mean([rank < 5 for rank in ranks])


def test_metrics_in_words_leave_d_prime_a_number():
    assert in_words({"top1": 0.5, "d_prime": 1.234}) == "top1 50.0%, d prime 1.23"


@pytest.mark.filterwarnings("ignore:No positive samples")
@pytest.mark.parametrize("classes", [1, 4])
def test_the_mean_average_precision_alone_is_that_of_the_summary(classes):
    generator = np.random.default_rng(0)
    scores, targets = generator.random((30, classes)).astype(np.float32), generator.integers(0, 2, (30, classes))
    targets[:, 3:] = 0
    summary = score(scores, targets, [str(k) for k in range(classes)], multi_label=True).summary
    assert mean_average_precision(scores, targets) == summary["mean_average_precision"]
