"""What labels of suggested places teach, against labels of others, in rounds.

A class is taught from two clips. In each of four rounds five places of a collection get their true label, and it is taught
again with all that is known. Collection, clips to begin with and clips to judge are of ESC-50's fold 5, in recordings of
their own. `rare` is one of its fifty classes, `frequent` ten of them together, a fifth of the sounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import audiorep
from audiorep import shipped
from audiorep.audio.decode import Stretch
from audiorep.datasets import Example, listed_examples
from audiorep.embeddings.api import PAUSE
from audiorep.embeddings.few_shot import Examples, Layer, fit
from audiorep.embeddings.index import SILENCE, Index, Place, unit
from audiorep.embeddings.limits import file_scores, limits
from audiorep.embeddings.suggest import CANDIDATES, _unlike, worth_a_label
from audiorep.embeddings.teach import BACKGROUND, examples_of, weights_of
from audiorep.info.model_info import ModelInfo
from audiorep.predict.results import Embedding

BEGIN, ROUNDS, PLACES = 2, 4, 5
TASKS = {"rare": 40, "frequent": 10}


@dataclass(frozen=True)
class Task:
    """A class, and which clips are for what."""

    truth: dict[Path, bool]
    begin: list[Path]
    collection: list[Path]
    test: list[Path]


def rounds(data: Path) -> dict[str, Any]:
    """F1 and average precision before the first round and after each, in the mean of some classes."""
    examples = [example for example in listed_examples(data / "esc50") if example.fold == 5]
    classifier = audiorep.load("nano")
    heard = {example.path: classifier.embed(example.path) for example in examples}
    found: dict[str, Any] = {}
    for kind, count in TASKS.items():
        tasks = [task for draw in range(2) for task in _tasks(examples, kind, draw)]
        chosen = [tasks[k] for k in np.random.default_rng(0).permutation(len(tasks))[:count]]
        runs = [_ways(task, heard, classifier) for task in chosen]
        found[kind] = {"tasks": len(runs), **{way: _mean([run[way] for run in runs]) for way in WAYS}}
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


Score = Callable[[np.ndarray], np.ndarray]
Choose = Callable[[Index, Score, Sequence[Stretch], dict[Path, Embedding]], list[Stretch]]
Row = tuple[float, float, int]
"""F1, average precision, and labels of the class."""


def _ways(task: Task, heard: dict[Path, Embedding], classifier: audiorep.Classifier) -> dict[str, list[Row]]:
    """What each way of choosing gives before the first round and after each."""
    with tempfile.TemporaryDirectory() as folder, Index.create(Path(folder) / "index", classifier, "nano") as index:
        for path in task.collection:
            index.add(heard[path])
        index.commit()
        return {way: list(_run(index, task, heard, classifier.info, choose)) for way, choose in WAYS.items()}


def _run(index: Index, task: Task, heard: dict[Path, Embedding], info: ModelInfo, choose: Choose) -> Iterator[Row]:
    given: list[Stretch] = []
    for number in range(ROUNDS + 1):
        examples = _examples(task, heard, given)
        layer = fit(examples, 1, 1)
        yield (*_judged(layer, examples, task, heard, info), sum(task.truth[place.path] for place in given))
        if number < ROUNDS:
            given += choose(index, partial(_score, layer), given, heard)


def _examples(task: Task, heard: dict[Path, Embedding], given: Sequence[Stretch]) -> Examples:
    """What `teach` is given: the first clips, the places with their true labels, and the background of the package."""
    clips = [(0, heard[path]) for path in task.begin]
    for place in given:
        whole = heard[place.path]
        kept = np.abs(whole.starts - place.start) < 1e-3
        assert whole.peaks is not None
        part = replace(whole, starts=whole.starts[kept], vectors=whole.vectors[kept], peaks=whole.peaks[kept])
        clips.append((0 if task.truth[place.path] else -1, part))
    sounding = [(number, clip) for number, clip in clips if weights_of(clip).any()]
    with np.load(shipped.SHIPPED["nano"].folder / BACKGROUND) as file:
        bank = file["vectors"].astype(np.float32)
    own = [[clip for number, clip in sounding if number == 0]]
    return examples_of(own, [clip for number, clip in sounding if number < 0], bank)


def _score(layer: Layer, vectors: np.ndarray) -> np.ndarray:
    """(W,) the calibrated scores of windows, as the taught file gives them."""
    return 1 / (1 + np.exp(-np.clip(vectors @ layer.weight[0] + layer.bias[0], -80, 80)))


def _judged(layer: Layer, examples: Examples, task: Task, heard: dict[Path, Embedding], info: ModelInfo) -> tuple[float, float]:
    """F1 and average precision of the class on the test clips."""
    sounds = [heard[path].vectors for path in task.test]
    places = np.repeat(np.arange(len(sounds)), [len(vectors) for vectors in sounds])
    logits = np.concatenate(sounds) @ layer.weight.T + layer.bias
    scores, truth = file_scores(logits, places, info)[:, 0], np.array([task.truth[path] for path in task.test])
    reported = scores >= limits(layer, examples, info)[0]
    ranked = truth[np.argsort(-scores, kind="stable")]
    precisions = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return 2 * float((reported & truth).sum() / (reported.sum() + truth.sum())), float(precisions[ranked].mean())


def _suggested(index: Index, score: Score, given: Sequence[Stretch], heard: dict[Path, Embedding]) -> list[Stretch]:
    return [Stretch(row.path, row.start, row.end) for row in worth_a_label(index, score, PLACES, given)]


def _random(index: Index, score: Score, given: Sequence[Stretch], heard: dict[Path, Embedding]) -> list[Stretch]:
    """An audible window of sounds drawn at random."""
    random = np.random.default_rng(len(given))
    left = _left(index, given)
    found = []
    for k in random.permutation(len(left))[:PLACES]:
        peaks = heard[left[k]].peaks
        assert peaks is not None
        audible = np.flatnonzero((peaks >= SILENCE) & (peaks >= PAUSE * peaks.max()))
        found.append(index.rows_of(left[k])[random.choice(audible)])
    return [Stretch(place.path, place.start, place.end) for place in found]


def _least_sure(index: Index, score: Score, given: Sequence[Stretch], heard: dict[Path, Embedding]) -> list[Stretch]:
    """Of the windows whose scores are nearest to a half, one of a sound, those that are unlike each other."""
    return _first(index, lambda vectors: np.abs(score(vectors) - 0.5), given, CANDIDATES * PLACES)


def _highest(index: Index, score: Score, given: Sequence[Stretch], heard: dict[Path, Embedding]) -> list[Stretch]:
    """The windows that score highest, one of a sound."""
    return _first(index, lambda vectors: -score(vectors), given, PLACES)


def _first(index: Index, rank: Score, given: Sequence[Stretch], candidates: int) -> list[Stretch]:
    best: list[tuple[float, Place]] = []
    for path in _left(index, given):
        places = index.rows_of(path)
        ranks = rank(index.vectors([place.row for place in places]))
        best.append((float(ranks.min()), places[int(ranks.argmin())]))
    best = sorted(best, key=lambda row: row[0])[:candidates]
    vectors = unit(index.vectors([place.row for _, place in best]))
    chosen = [best[k][1] for k in _unlike(vectors, PLACES, vectors[:0])]
    return [Stretch(place.path, place.start, place.end) for place in chosen]


def _left(index: Index, given: Sequence[Stretch]) -> list[Path]:
    known = {place.path for place in given}
    return [path for path in index.paths() if path not in known]


def _mean(runs: Sequence[Sequence[Row]]) -> dict[str, list[float]]:
    means = np.array(runs).mean(axis=0).T
    return dict(zip(("f1", "average_precision", "labels_of_the_class"), means.tolist(), strict=True))


WAYS: dict[str, Choose] = {"suggested": _suggested, "random": _random, "least_sure": _least_sure, "highest": _highest}
