"""Measures what calibration gives on clips that it was not fitted on: the bundled model on ESC-50's fold 5, in halves.

    python experiments/calibration.py --data ESC50_FOLDER

`audiorep calibrate` refuses these clips, since the model was tested on them. Here each half of the fold is judged by what was
fitted on the other, with clips of one recording always in the same half, for many random divisions. Writes
`results/calibration.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import audiorep
from audiorep.benchmark.environment import environment
from audiorep.datasets.random_split import groups_of
from audiorep.evaluation import scaling, thresholds
from audiorep.evaluation.calibrate import fitted
from audiorep.evaluation.reliability import reliability
from audiorep.evaluation.scored import Heard, hear
from audiorep.files import write_json
from audiorep.info.calibration import calibrated, logits

ROOT = Path(__file__).resolve().parent.parent
DIVISIONS = 50
PRECISION = 0.9
CLASS_BIASES = 1.0  # standard deviation of the prior of a bias for each class

Clips = tuple[np.ndarray, np.ndarray]
"""Scores of files and their targets, (clips, K) each."""


def main() -> None:
    """Measures and writes everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of ESC-50")
    arguments = parser.parse_args()
    classifier = audiorep.load("esc50")
    place = audiorep.Data(arguments.data)
    examples = place.examples(place.splits(classifier.info.provenance), print)
    trained = {example.group for example in examples if example.split == "train"}
    unseen = [example for example in examples if example.split == "test" and example.group not in trained]
    heard = hear(classifier.uncalibrated(), unseen, "fold 5")
    files, targets = np.stack([recording.mean("label") for recording in heard.recordings]), heard.targets["label"]
    divisions = list(_halves(np.array(groups_of(heard.examples))))
    shown = partial(classifier.info.contested, "label")
    values = {
        "command": "python experiments/calibration.py --data ESC50_FOLDER",
        "environment": environment(),
        "clips": len(files),
        "recordings": len(set(groups_of(heard.examples))),
        "top1": float((shown(files).argmax(1) == targets.argmax(1)).mean()),
        "as_it_is": _without_bins(reliability(shown(files), targets).as_dict()),
        "windows_as_they_are": _of_windows(heard),
        "cross_validated": _cross_validated(classifier.info, heard),
        "halves": {
            "divisions": len(divisions),
            "scores": {name: _scores(fit, files, targets, divisions, shown) for name, fit in SCALINGS.items()},
            "thresholds": _thresholds(files, targets, divisions, shown),
        },
    }
    write_json(ROOT / "results" / "calibration.json", values)


def _halves(groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(clips to fit on, clips to judge) of random halves of the recordings, each half once in each part."""
    recordings = np.unique(groups)
    for seed in range(DIVISIONS):
        first = np.random.default_rng(seed).permutation(recordings)[: len(recordings) // 2]
        inside = np.isin(groups, first)
        yield inside, ~inside
        yield ~inside, inside


def _of_windows(heard: Heard) -> dict[str, Any]:
    windows = [recording.sounding("label") for recording in heard.recordings]
    targets = heard.targets["label"].repeat([len(scores) for scores in windows], axis=0)
    return {
        "temperature": scaling.fit(windows, heard.targets["label"], "softmax")["temperature"],
        **_without_bins(reliability(np.concatenate(windows), targets).as_dict()),
    }


def _cross_validated(info: Any, heard: Heard) -> dict[str, Any]:
    """What `audiorep calibrate` would print for these clips."""
    plain = replace(info, provenance={})
    found = {rule: fitted(plain, heard, "fold 5", rule, PRECISION).heads["label"] for rule in thresholds.RULES}
    one = found["precision"]
    return {
        "temperature": one.file["temperature"],
        **one.after.as_dict(),
        **{
            rule: {"common": head.common, "precision": head.precision, "answered": head.answered}
            for rule, head in found.items()
        },
    }


def _nothing(fitted_on: Clips) -> Callable[[np.ndarray], np.ndarray]:
    return lambda scores: scores


def _temperature(fitted_on: Clips) -> Callable[[np.ndarray], np.ndarray]:
    settings = scaling.fit([scores[None] for scores in fitted_on[0]], fitted_on[1], "softmax")
    return lambda scores: calibrated(scores, settings, "softmax")


def _class_biases(fitted_on: Clips) -> Callable[[np.ndarray], np.ndarray]:
    """A temperature and a bias for each class (vector scaling, arXiv 1706.04599), with a prior."""
    values = torch.from_numpy(logits(fitted_on[0], "softmax"))
    truth = torch.from_numpy(fitted_on[1].argmax(1))
    scale = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(values.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        found = torch.nn.functional.cross_entropy(scale.exp() * values + bias, truth, reduction="sum")
        found = found + 0.5 * (scale**2).sum() + 0.5 * (bias**2).sum() / CLASS_BIASES**2
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    a, b = float(scale.exp().detach()), bias.detach().numpy()

    def apply(scores: np.ndarray) -> np.ndarray:
        raised = np.exp(a * logits(scores, "softmax") + b)
        return raised / raised.sum(1, keepdims=True)

    return apply


SCALINGS = {"as_they_are": _nothing, "temperature": _temperature, "temperature_and_class_biases": _class_biases}


def _scores(
    fit: Callable[[Clips], Callable[[np.ndarray], np.ndarray]],
    files: np.ndarray,
    targets: np.ndarray,
    divisions: list[tuple[np.ndarray, np.ndarray]],
    shown: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """The error of halves' scores by what was fitted on the other halves."""
    rows: dict[str, list[float]] = {"error": [], "by_chance": [], "log_loss": [], "top1": [], "answered": []}
    for known, held in divisions:
        scores = fit((files[known], targets[known]))(files[held])
        found = reliability(shown(scores), targets[held])
        right = (scores * targets[held]).sum(1)
        rows["error"].append(found.error)
        rows["by_chance"].append(found.by_chance)
        rows["log_loss"].append(float(-np.log(np.maximum(right, 1e-30)).mean()))
        rows["top1"].append(float((shown(scores).argmax(1) == targets[held].argmax(1)).mean()))
        rows["answered"].append(found.answered)
    return {name: _told(values) for name, values in rows.items()}


def _thresholds(
    files: np.ndarray,
    targets: np.ndarray,
    divisions: list[tuple[np.ndarray, np.ndarray]],
    shown: Callable[[np.ndarray], np.ndarray],
) -> dict[str, dict[str, Any]]:
    """Precision, share answered and F1 of halves by thresholds from the other halves, of temperature-scaled scores."""
    rows: dict[str, dict[str, list[float]]] = {}
    for known, held in divisions:
        scale = _temperature((files[known], targets[known]))
        inside, outside = shown(scale(files[known])), shown(scale(files[held]))
        limits: dict[str, np.ndarray | float] = {"none": 0.0}
        for rule in thresholds.RULES:
            found = thresholds.choose(inside, targets[known], "softmax", rule, PRECISION)
            limits[f"{rule}_common"] = 1.0 if found.common is None else found.common
            limits[f"{rule}_classes"] = np.array(found.classes)
        for name, limit in limits.items():
            labels = thresholds.reported(outside, np.asarray(limit), "softmax")
            hits = targets[held][labels].sum()
            row = rows.setdefault(name, {"precision": [], "answered": [], "f1": []})
            row["precision"].append(hits / max(labels.sum(), 1))
            row["answered"].append(labels.any(1).mean())
            row["f1"].append(2 * hits / (labels.sum() + len(outside)))
    return {
        name: {
            **{key: _told(values) for key, values in row.items()},
            "within_0.03_of_0.9": float(np.mean(np.abs(np.array(row["precision"]) - PRECISION) <= 0.03)),
        }
        for name, row in rows.items()
    }


def _told(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=1))}


def _without_bins(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "bins"}


if __name__ == "__main__":
    main()
