"""Puts a model into the package, and measures how well a tagger agrees with its teacher on sounds it never heard.

    python experiments/tagger.py ship runs/tagger_nano nano --data AUDIOREP_DATA --teacher runs/yamnet
    python experiments/tagger.py ship runs/bundled esc50 --data AUDIOREP_DATA
    python experiments/tagger.py measure nano --data AUDIOREP_DATA --teacher runs/yamnet --sounds PACK

`ship` writes weights in half precision, the file, made of the rounded weights so that it and a training that starts from them
agree, and the attributions. A tagger's calibration and thresholds are fitted to its teacher's labels on one half of ESC-50's
fold 5.

`measure` writes `results/tagger.json`. A label of the teacher is a class whose score, the mean over a file's windows, reaches a
limit. Average precision is of classes with at least `LEAST` such files, in the whole fold. What the thresholds report is judged
on the other half.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save
from sklearn.metrics import average_precision_score
from torch import Tensor

import audiorep
from audiorep import audio, datasets, shipped
from audiorep.datasets.random_split import groups_of
from audiorep.evaluation.calibrate import fitted
from audiorep.evaluation.scored import Heard
from audiorep.export import described
from audiorep.files import open_text, replacing, write_json
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Recording

RESULT = Path(__file__).parent.parent / "results" / "tagger.json"
ATTRIBUTION = "ATTRIBUTION.csv"
LIMITS = (0.1, 0.3, 0.5)
LABEL = 0.2
"""The limit of the labels that thresholds are fitted to."""
LEAST = 3
REACHED = 0.1
"""A class that the teacher hears at no higher score than this in the training sounds was not taught."""


def main() -> None:
    """Both commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command in (ship, measure):
        own = commands.add_parser(command.__name__)
        own.set_defaults(command=command)
        own.add_argument("--data", type=Path, required=True)
        own.add_argument("--teacher", required=command is measure)
        if command is ship:
            own.add_argument("checkpoint", type=Path)
            own.add_argument("name", choices=shipped.SHIPPED)
        else:
            own.add_argument("--sounds", type=Path, help="folder of the training sounds, to count the classes that they reach")
            own.add_argument("models", nargs="+", help="taggers: names in the package, files or checkpoints")
    given = parser.parse_args()
    given.command(given)


def ship(given: argparse.Namespace) -> None:
    """Writes the folder of a model in the package."""
    row = shipped.SHIPPED[given.name]
    row.folder.mkdir(exist_ok=True)
    weights = load_file(given.checkpoint / checkpoint.WEIGHTS)
    with replacing(row.folder / checkpoint.WEIGHTS) as partial:
        partial.write_bytes(save({name: _rounded(tensor) for name, tensor in weights.items()}))
    shutil.copy(given.checkpoint / checkpoint.CONFIG, row.folder / checkpoint.CONFIG)
    print(audiorep.export(row.folder, row.file))
    if given.teacher:
        calibrate(row, given.data / "esc50", given.teacher)
    with replacing(row.folder / ATTRIBUTION) as partial, open_text(partial) as file:
        csv.writer(file).writerows([("clip", "source", "author", "license"), *attributions(given.checkpoint, given.data)])


def measure(given: argparse.Namespace) -> None:
    """A row a tagger, and what the training sounds hold."""
    clips = held_out(given.data / "esc50")
    paths, judged = [clip.path for clip in clips], ~first_half(clips)
    values = json.loads(RESULT.read_text()) if RESULT.exists() else {"taggers": {}}
    teacher = audiorep.load(given.teacher)
    truth = scores(teacher, paths)
    if given.sounds is not None:
        values["training_sounds"] = reached(teacher, list(audio.find([given.sounds])))
    for name in given.models:
        tagger = audiorep.load(name)
        row = agreement(scores(tagger, paths), truth)
        if tagger.info.thresholds:
            others = [path for path, chosen in zip(paths, judged, strict=True) if chosen]
            row["reported"] = reported(tagger, others, truth[judged])
        values["taggers"][Path(name).name] = row
        print(name, json.dumps(row))
    about = {"command": " ".join(["python", *sys.argv]), "date": date.today().isoformat(), "clips": len(paths)}
    write_json(RESULT, {**values, **about})


def held_out(data: Path) -> list[datasets.Example]:
    """The clips of ESC-50's fold 5."""
    return [clip for clip in datasets.listed_examples(data) if clip.fold == 5]


def first_half(clips: Sequence[datasets.Example]) -> np.ndarray:
    """(clips,) which are of the recordings that thresholds are fitted on: every other one."""
    order = {group: place for place, group in enumerate(dict.fromkeys(groups_of(clips)))}
    return np.array([order[group] % 2 == 0 for group in groups_of(clips)])


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


def reported(tagger: Classifier, paths: Sequence[Path], wanted: np.ndarray) -> dict[str, Any]:
    """What is reported of files by the tagger's thresholds, beside their teacher's labels from `LABEL` on."""
    names = next(iter(tagger.info.labels.values()))
    right = given = answered = 0
    for result, labels in zip(tagger.files(paths), wanted >= LABEL, strict=True):
        found = [names.index(d.label) for d in result.whole(len(names)) if d.label != tagger.info.unknown]  # type: ignore[union-attr]
        right, given, answered = right + int(labels[found].sum()), given + len(found), answered + bool(found)
    labels = int((wanted >= LABEL).sum())
    return {
        "files": len(paths),
        "teacher_labels_from": LABEL,
        "precision": right / max(given, 1),
        "recall": right / max(labels, 1),
        "answered": answered / len(paths),
        "teacher_answers": float((wanted >= LABEL).any(1).mean()),
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


def _rounded(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


def calibrate(row: shipped.Shipped, data: Path, teacher: str) -> None:
    """Fits scores and thresholds to the teacher's labels, in the file and the checkpoint."""
    clips = held_out(data)
    clips = [clip for clip, chosen in zip(clips, first_half(clips), strict=True) if chosen]
    paths = [clip.path for clip in clips]
    tagger = audiorep.load(row.file)
    recordings = [result for result in tagger.uncalibrated().files(paths) if isinstance(result, Recording)]
    labels = (scores(audiorep.load(teacher), paths) >= LABEL).astype(np.float32)
    heard = Heard(clips, recordings, {next(iter(tagger.info.labels)): labels}, [])
    found = fitted(tagger.info, heard, f"half of ESC-50's fold 5, with the teacher's labels from {LABEL}", "f1", 0.9)
    print(found.summary())
    for place in (row.file, row.folder):
        described.write(place, found.info, place)


def attributions(run: Path, data: Path) -> Iterator[tuple[str, str, str, str]]:
    """Each sound of the training: its name, source, author and license."""
    with (data / "free_audio" / "manifest.csv").open(newline="") as file:
        free = {Path(line["file"]).name: line for line in csv.DictReader(file) if Path(line["file"]).parent.name == "audio"}
    with (run / "clips.csv").open(newline="") as file:
        named = {Path(line["path"]): line["license"] for line in csv.DictReader(file)}
    for path, license in named.items():
        if (about := free.get(path.name)) is not None:
            yield path.name, f"{about['source_repo']} {about['path']}", about["author"], license
        elif path.parent.name in ("esc50", "audio"):
            yield path.name, f"freesound.org sound {path.name.split('-')[1]}, by way of ESC-50", "", license
        else:
            yield f"{path.parent.name}/{path.name}", "Speech Commands", "Google", license
    for folder in json.loads((run / "train.json").read_text())["config"].get("unknown", {}).get("folders", []):
        for about in (free[path.name] for path in sorted(Path(folder).iterdir())):
            yield Path(about["file"]).name, f"{about['source_repo']} {about['path']}", about["author"], about["licence"]


if __name__ == "__main__":
    main()
