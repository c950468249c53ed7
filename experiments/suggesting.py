"""What labels of suggested places teach, against labels of others, in rounds.

A class is taught from two clips. In each of four rounds five places of a collection get their true label, and it is taught
again with all that is known. Collection, clips to begin with and clips to judge are of ESC-50's fold 5, in recordings of
their own. `rare` is one of its fifty classes, `frequent` ten of them together, a fifth of the sounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import audiorep
from audiorep.datasets import Example, listed_examples
from audiorep.embeddings.api import PAUSE
from audiorep.embeddings.index import SILENCE, Index, Place, unit
from audiorep.embeddings.scores import of_label
from audiorep.embeddings.suggest import CANDIDATES, _unlike, suggest
from audiorep.export.heads import heads_of
from audiorep.info import EMBEDDING
from audiorep.predict.results import Embedding
from audiorep.runtimes.onnx import session

BEGIN, ROUNDS, PLACES = 2, 4, 5
TASKS = {"rare": 20, "frequent": 10}
NAME = "the class"


@dataclass(frozen=True)
class Task:
    """A class, and which clips are for what."""

    truth: dict[Path, bool]
    begin: list[Path]
    collection: list[Path]
    test: list[Path]


def rounds(data: Path) -> dict[str, Any]:
    """F1 and average precision before the first round and after each, in the mean of all classes and draws."""
    examples = [example for example in listed_examples(data / "esc50") if example.fold == 5]
    classifier = audiorep.load("nano")
    heard = {example.path: classifier.embed(example.path) for example in examples}
    found: dict[str, Any] = {}
    for kind, count in TASKS.items():
        tasks = [task for draw in range(2) for task in _tasks(examples, kind, draw)]
        chosen = [tasks[k] for k in np.random.default_rng(0).permutation(len(tasks))[:count]]
        runs = [_ways(task, heard, classifier) for task in chosen]
        found[kind] = {"tasks": count, **{way: _mean([run[way] for run in runs]) for way in WAYS}}
    return found


def _tasks(examples: Sequence[Example], kind: str, draw: int) -> list[Task]:
    """A task for each class of which enough recordings are there."""
    random = np.random.default_rng(draw)
    recordings: dict[str, dict[str, list[Path]]] = {}
    for example in examples:
        own = recordings.setdefault(example.labels["label"][0], {})
        own.setdefault(example.path.name.split("-")[1], []).append(example.path)
    test: set[Path] = set()
    for own in recordings.values():
        order = random.permutation(sorted(own))
        test |= {path for name in order[: len(order) // 2] for path in own[name]}
    groups: dict[str, set[Path]] = {}
    for example in examples:
        number = int(example.path.stem.rpartition("-")[2])
        name = example.labels["label"][0] if kind == "rare" else str(number // 10)  # ESC-50 numbers its five groups in tens
        groups.setdefault(name, set()).add(example.path)
    made = []
    for own_paths in groups.values():
        rest = {path.name.split("-")[1]: path for path in sorted(own_paths - test)}
        if len(rest) <= BEGIN or not own_paths & test:
            continue
        begin = [rest[str(name)] for name in random.permutation(sorted(rest))[:BEGIN]]
        collection = [each.path for each in examples if each.path not in test and each.path not in begin]
        made.append(Task({each.path: each.path in own_paths for each in examples}, begin, collection, sorted(test)))
    return made


Choose = Callable[[Index, Path, Sequence[audiorep.Stretch], dict[Path, Embedding]], list[audiorep.Stretch]]


Row = tuple[float, float, int]
"""F1, average precision, and labels of the class."""


def _ways(task: Task, heard: dict[Path, Embedding], classifier: audiorep.Classifier) -> dict[str, list[Row]]:
    """What each way of choosing gives before the first round and after each."""
    with tempfile.TemporaryDirectory() as folder, Index.create(Path(folder) / "index", classifier, "nano") as index:
        for path in task.collection:
            index.add(heard[path])
        index.commit()
        begun = _taught(Path(folder) / "mine.onnx", task, heard, [])
        return {way: [begun, *_run(Path(folder), index, task, heard, choose)] for way, choose in WAYS.items()}


def _run(folder: Path, index: Index, task: Task, heard: dict[Path, Embedding], choose: Choose) -> Iterator[Row]:
    given: list[audiorep.Stretch] = []
    _taught(folder / "mine.onnx", task, heard, given)
    for _ in range(ROUNDS):
        given += choose(index, folder / "mine.onnx", given, heard)
        yield _taught(folder / "mine.onnx", task, heard, given)


def _taught(model: Path, task: Task, heard: dict[Path, Embedding], given: Sequence[audiorep.Stretch]) -> Row:
    right = [place for place in given if task.truth[place.path]]
    others = [place for place in given if not task.truth[place.path]]
    audiorep.teach("nano", {NAME: [*task.begin, *right]}, model, background=others)
    return (*_judged(model, task, heard), len(right))


def _judged(model: Path, task: Task, heard: dict[Path, Embedding]) -> tuple[float, float]:
    """F1 and average precision of the class on the test clips."""
    info = audiorep.load(model).info
    heads = session(heads_of(model.read_bytes(), info.embedding_size, ["label"]), 1)
    means = np.stack([heads.run(["label"], {EMBEDDING: heard[path].vectors})[0].mean(0) for path in task.test])
    scores, truth = info.calibrated("label", means, "file")[:, -1], np.array([task.truth[path] for path in task.test])
    reported = scores >= info.threshold("label")[-1]
    ranked = truth[np.argsort(-scores, kind="stable")]
    precisions = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return 2 * float((reported & truth).sum() / (reported.sum() + truth.sum())), float(precisions[ranked].mean())


def _suggested(
    index: Index, model: Path, given: Sequence[audiorep.Stretch], heard: dict[Path, Embedding]
) -> list[audiorep.Stretch]:
    return [audiorep.Stretch(row.path, row.start, row.end) for row in suggest(index, model, NAME, PLACES, given)]


def _random(
    index: Index, model: Path, given: Sequence[audiorep.Stretch], heard: dict[Path, Embedding]
) -> list[audiorep.Stretch]:
    """An audible window of sounds drawn at random."""
    random = np.random.default_rng(len(given))
    left = [path for path in index.paths() if path not in {place.path for place in given}]
    found = []
    for k in random.permutation(len(left))[:PLACES]:
        peaks = heard[left[k]].peaks
        assert peaks is not None
        places = index.rows_of(left[k])
        place = places[random.choice(np.flatnonzero((peaks >= SILENCE) & (peaks >= PAUSE * peaks.max())))]
        found.append(audiorep.Stretch(place.path, place.start, place.end))
    return found


def _least_sure(
    index: Index, model: Path, given: Sequence[audiorep.Stretch], heard: dict[Path, Embedding]
) -> list[audiorep.Stretch]:
    """The windows whose scores are nearest to a half, one of a sound, unlike each other."""
    score, known = of_label(index, NAME, model), {place.path for place in given}
    best: list[tuple[float, Place]] = []
    for path in index.paths():
        places = index.rows_of(path)
        doubts = np.abs(score(index.vectors([place.row for place in places])) - 0.5)
        best.append((float(doubts.min()), places[int(doubts.argmin())]))
    best = sorted((row for row in best if row[1].path not in known), key=lambda row: row[0])[: CANDIDATES * PLACES]
    return _apart(index, best)


def _highest(
    index: Index, model: Path, given: Sequence[audiorep.Stretch], heard: dict[Path, Embedding]
) -> list[audiorep.Stretch]:
    """The windows that score highest, one of a sound."""
    score, known = of_label(index, NAME, model), {place.path for place in given}
    best: list[tuple[float, Place]] = []
    for path in index.paths():
        places = index.rows_of(path)
        scores = score(index.vectors([place.row for place in places]))
        best.append((-float(scores.max()), places[int(scores.argmax())]))
    best = sorted((row for row in best if row[1].path not in known), key=lambda row: row[0])[:PLACES]
    return _apart(index, best)


def _apart(index: Index, best: list[tuple[float, Place]]) -> list[audiorep.Stretch]:
    vectors = unit(index.vectors([place.row for _, place in best]))
    chosen = [best[k][1] for k in _unlike(vectors, PLACES, vectors[:0])]
    return [audiorep.Stretch(place.path, place.start, place.end) for place in chosen]


def _mean(runs: Sequence[Sequence[Row]]) -> dict[str, list[float]]:
    means = np.array(runs).mean(axis=0).T
    return dict(zip(("f1", "average_precision", "labels_of_the_class"), means.tolist(), strict=True))


WAYS: dict[str, Choose] = {"suggested": _suggested, "random": _random, "least_sure": _least_sure, "highest": _highest}
