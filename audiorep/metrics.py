"""Metrics of scores against labels; the arithmetic is torchmetrics' wherever it has the metric."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multilabel_accuracy,
    multilabel_average_precision,
)


@dataclass(frozen=True)
class ClassRow:
    """How one class fares."""

    label: str
    clips: int
    recall: float
    """Share of its clips that are recognised."""
    precision: float
    """Share of the clips given this label that are its own."""
    average_precision: float
    mistaken_for: str
    """The wrong label its clips are given most often, or empty."""


@dataclass(frozen=True)
class Scorecard:
    """Metrics of one head over one split."""

    summary: dict[str, float]
    """top1, top5, macro_accuracy, mean_average_precision (single-label); accuracy, mean_average_precision (multi-label)."""
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
    }
    return Scorecard(summary, _rows(confusion, precision, labels), confusion.numpy())


def _average_precision(scores: Tensor, truth: Tensor, present: Tensor) -> Tensor:
    """(K,) one-against-all average precision, 0 where a class has no clips."""
    result = torch.zeros(scores.shape[1])
    targets = torch.nn.functional.one_hot(truth, scores.shape[1])[:, present]
    if targets.shape[1] == 1:
        result[present] = 1.0
    else:
        result[present] = multilabel_average_precision(scores[:, present], targets, targets.shape[1], average="none")
    return result


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
    precision = torch.zeros(classes)
    values = multilabel_average_precision(scores, targets, classes, average="none") if classes > 1 else _binary(scores, targets)
    precision[present] = values[present]
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
    return Scorecard({"accuracy": accuracy, "mean_average_precision": precision[present].mean().item()}, rows, None)


def _binary(scores: Tensor, targets: Tensor) -> Tensor:
    from torchmetrics.functional.classification import binary_average_precision

    return binary_average_precision(scores[:, 0], targets[:, 0])[None]
