"""How well a tagger agrees with the one that taught it, on ESC-50's fold 5, which the student never heard.

    python experiments/tagger.py --data ESC50_FOLDER --teacher runs/yamnet --sounds runs/tagger_data nano results/tagger.json

A label of the teacher is a class whose score, the mean over a file's windows, reaches a limit. Average precision is of
classes with at least `LEAST` such files. The thresholds of the tagger in the package are fitted on the recordings of one half
of the fold, and judged on the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

import audiorep
from audiorep import audio, datasets
from audiorep.files import write_json
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Recording

LIMITS = (0.1, 0.3, 0.5)
LEAST = 3
REACHED = 0.1
"""A class that the teacher hears at no higher score than this in the training sounds was not taught."""


def main() -> None:
    """A row a tagger, and what the training sounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--sounds", type=Path, help="folder of the training sounds, to count the classes that they reach")
    parser.add_argument("models", nargs="+", metavar="NAME", help="a tagger: a name in the package, a file or a checkpoint")
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    paths = [clip.path for clip in datasets.listed_examples(given.data) if clip.fold == 5]
    values = json.loads(given.output.read_text()) if given.output.exists() else {"taggers": {}}
    teacher = audiorep.load(given.teacher)
    truth = scores(teacher, paths)
    if given.sounds is not None:
        values["training_sounds"] = reached(teacher, list(audio.find([given.sounds])))
    for name in given.models:
        values["taggers"][Path(name).name] = agreement(scores(audiorep.load(name), paths), truth)
        print(name, json.dumps(values["taggers"][Path(name).name]))
    about = {"command": " ".join(["python", *sys.argv]), "date": date.today().isoformat(), "clips": len(paths)}
    write_json(given.output, {**about, **values})


def scores(tagger: Classifier, paths: Sequence[Path]) -> np.ndarray:
    """(files, K) uncalibrated scores of whole files."""
    found = [result for result in tagger.uncalibrated().files(paths) if isinstance(result, Recording)]
    assert len(found) == len(paths)
    return np.stack([recording.mean() for recording in found])


def agreement(given: np.ndarray, wanted: np.ndarray) -> dict[str, Any]:
    """What a student's scores (files, K) have in common with its teacher's."""
    by_limit = {}
    for limit in LIMITS:
        labels = wanted >= limit
        common = np.flatnonzero(labels.sum(0) >= LEAST)
        found = [average_precision_score(labels[:, k], given[:, k]) for k in common]
        about = {"classes": len(common), "labels": int(labels.sum())}
        by_limit[str(limit)] = {"mean_average_precision": float(np.mean(found)), **about}
    hits = [w.argmax() in np.argsort(-g)[:5] for g, w in zip(given, wanted, strict=True)]
    return {
        "teacher_labels_from": by_limit,
        "same_best_class": float((given.argmax(1) == wanted.argmax(1)).mean()),
        "best_of_teacher_in_top_5": float(np.mean(hits)),
        "mean_difference": float(np.abs(given - wanted).mean()),
    }


def reached(teacher: Classifier, paths: Sequence[Path]) -> dict[str, Any]:
    """The classes that the teacher hears in no window of the training sounds."""
    names = next(iter(teacher.info.labels.values()))
    highest = np.zeros(len(names))
    for result in teacher.files(paths):
        if isinstance(result, Recording):
            highest = np.maximum(highest, next(iter(result.scores.values())).max(0))
    missing = [names[k] for k in np.flatnonzero(highest < REACHED)]
    return {"files": len(paths), "classes_below": REACHED, "count": len(missing), "classes": missing}


if __name__ == "__main__":
    main()
