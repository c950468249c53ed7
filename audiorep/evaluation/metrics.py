"""Metrics of scores against labels; the arithmetic is torchmetrics' wherever it has the metric."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multilabel_accuracy,
    multilabel_auroc,
    multilabel_average_precision,
)


@dataclass(frozen=True)
class ClassRow:
    """How one class fares."""

    label: str
    clips: int
    recall: float
    """Share of its clips that are recognized."""
    precision: float
    """Share of the clips given this label that are its own."""
    average_precision: float
    mistaken_for: str
    """The wrong label its clips are given most often, or empty."""


@dataclass(frozen=True)
class Scorecard:
    """Metrics of one head over one split."""

    summary: dict[str, float]
    """Single-label: top1, top5, macro_accuracy; multi-label: accuracy; both: mean_average_precision, mean_auc, d_prime."""
    classes: list[ClassRow]
    confusion: np.ndarray | None
    """(K, K) clips, true class by given class; None for multi-label tasks."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        confusion = None if self.confusion is None else self.confusion.tolist()
        return {**self.summary, "classes": [asdict(row) for row in self.classes], "confusion": confusion}


def score(scores: np.ndarray, targets: np.ndarray, labels: list[str], multi_label: bool) -> Scorecard:
    """Metrics of scores (clips, K) against 0/1 targets (clips, K).

    Classes without clips are left out of the means over classes.
    """
    given, wanted = torch.from_numpy(scores).float(), torch.from_numpy(targets).long()
    return _multi_label(given, wanted, labels) if multi_label else _single_label(given, wanted.argmax(1), labels)


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """That of a multi-label task, as in the summary of `score`: scores (clips, K) against 0/1 targets (clips, K)."""
    given, wanted = torch.from_numpy(scores).float(), torch.from_numpy(targets).long()
    return _class_precisions(given, wanted)[wanted.sum(0) > 0].mean().item()


def in_words(values: Mapping[str, float]) -> str:
    """Metrics in one line: shares in percent, d′ as the number it is."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.2f}" if name == "d_prime" else f"{name.replace('_', ' ')} {value:.1%}"
        for name, value in values.items()
    )


def _single_label(scores: Tensor, truth: Tensor, labels: list[str]) -> Scorecard:
    classes = len(labels)
    present = torch.bincount(truth, minlength=classes) > 0
    confusion = multiclass_confusion_matrix(scores.argmax(1), truth, classes)
    precision = _average_precision(scores, truth, present)
    recall = confusion.diagonal() / confusion.sum(1).clamp_min(1)
    summary = {
        "top1": multiclass_accuracy(scores, truth, classes, average="micro").item(),
        "top5": multiclass_accuracy(scores, truth, classes, average="micro", top_k=min(5, classes)).item(),
        "macro_accuracy": recall[present].mean().item(),
        "mean_average_precision": precision[present].mean().item(),
        **_separation(scores, functional.one_hot(truth, classes)),
    }
    return Scorecard(summary, _rows(confusion, precision, labels), confusion.numpy())


def _average_precision(scores: Tensor, truth: Tensor, present: Tensor) -> Tensor:
    """(K,) one-against-all average precision, 0 where a class has no clips."""
    result = torch.zeros(scores.shape[1])
    targets = functional.one_hot(truth, scores.shape[1])[:, present]
    if targets.shape[1] == 1:
        result[present] = 1.0
    else:
        result[present] = multilabel_average_precision(scores[:, present], targets, targets.shape[1], average="none")
    return result


def _separation(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Mean area under the ROC curve over the classes with clips of both kinds, and d′ (Gemmeke 2017); nothing without any."""
    both = (targets.sum(0) > 0) & (targets.sum(0) < len(targets))
    count = int(both.sum())
    if not count:
        return {}
    if count == 1:
        area = binary_auroc(scores[:, both][:, 0], targets[:, both][:, 0]).item()
    else:
        area = multilabel_auroc(scores[:, both], targets[:, both], count, average="macro").item()
    within = min(max(area, 1e-12), 1 - 1e-7)  # float32's last step below 1, so that a perfect model's d′ is a number
    return {"mean_auc": area, "d_prime": math.sqrt(2) * NormalDist().inv_cdf(within)}


def joint(scores: dict[str, np.ndarray], targets: dict[str, np.ndarray], classes: dict[str, list[str]]) -> dict[str, float]:
    """Accuracy of several single-label heads at once, as of EPIC-KITCHENS' actions: a verb and a noun.

    `top1`: the best label of every head is right. `top5`: every head has the right one among its five best (Kazakos 2021,
    what the paper compares). `top5_of_pairs`: the right combination is among the five of the highest product of scores (the
    EPIC-KITCHENS-100 challenge).
    """
    truth = {head: targets[head].argmax(1) for head in classes}
    inside = {head: (-scores[head]).argsort(1, kind="stable")[:, :5] == truth[head][:, None] for head in classes}  # (clips, 5)
    top1 = np.all([found[:, 0] for found in inside.values()], axis=0)
    top5 = np.all([found.any(1) for found in inside.values()], axis=0)
    pairs = [_rank(*[scores[head][clip] for head in classes], right=[truth[head][clip] for head in classes]) < 5
             for clip in range(len(top1))]  # fmt: skip
    return {"top1": float(top1.mean()), "top5": float(top5.mean()), "top5_of_pairs": float(np.mean(pairs))}


def _rank(*scores: np.ndarray, right: list[int]) -> int:
    """How many combinations of one class a head have a higher product of scores than the right one."""
    product = functools.reduce(np.multiply.outer, [values.astype(np.float64) for values in scores])
    return int((product > product[tuple(right)]).sum())


def _rows(confusion: Tensor, precision: Tensor, labels: list[str]) -> list[ClassRow]:
    rows = []
    for k, label in enumerate(labels):
        clips, given, right = int(confusion[k].sum()), int(confusion[:, k].sum()), int(confusion[k, k])
        others = confusion[k].clone()
        others[k] = 0
        wrong = labels[int(others.argmax())] if others.sum() else ""
        rows.append(ClassRow(label, clips, right / max(clips, 1), right / max(given, 1), precision[k].item(), wrong))
    return rows


def _multi_label(scores: Tensor, targets: Tensor, labels: list[str]) -> Scorecard:
    classes = len(labels)
    present = targets.sum(0) > 0
    precision = _class_precisions(scores, targets)
    found = scores >= 0.5
    rows = []
    for k, label in enumerate(labels):
        right = int((found[:, k] & (targets[:, k] > 0)).sum())
        clips, given = int(targets[:, k].sum()), int(found[:, k].sum())
        rows.append(ClassRow(label, clips, right / max(clips, 1), right / max(given, 1), precision[k].item(), ""))
    accuracy = (
        multilabel_accuracy(scores, targets, classes, average="micro").item()
        if classes > 1
        else (found == targets).float().mean().item()
    )
    summary = {"accuracy": accuracy, "mean_average_precision": precision[present].mean().item()}
    return Scorecard({**summary, **_separation(scores, targets)}, rows, None)


def _class_precisions(scores: Tensor, targets: Tensor) -> Tensor:
    """(K,) average precision of a multi-label task, 0 where a class has no clips."""
    classes, present = scores.shape[1], targets.sum(0) > 0
    values = multilabel_average_precision(scores, targets, classes, average="none") if classes > 1 else _binary(scores, targets)
    return torch.where(present, values, torch.zeros(classes))


def _binary(scores: Tensor, targets: Tensor) -> Tensor:
    from torchmetrics.functional.classification import binary_average_precision

    return binary_average_precision(scores[:, 0], targets[:, 0])[None]
