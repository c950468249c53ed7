"""What the index of a collection and teaching from a few clips cost and reach.

python -m experiments.embeddings search|speed|neighbours|retrieval|maps|teach|thresholds|rounds|old_classes --data AUDIOREP_DATA

Each replaces its own part of results/embeddings.json. Sounds that are judged are those of ESC-50's fold 5, which no model of
the package was trained on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import audiorep
from audiorep.benchmark.environment import environment
from audiorep.datasets import Example, listed_examples
from audiorep.embeddings.approximate import build
from audiorep.embeddings.index import Index
from audiorep.embeddings.plane import MOST_SOUNDS, Method, of_index
from audiorep.embeddings.search import Query, similar
from audiorep.files import write_json
from audiorep.predict.results import Embedding, Failure
from experiments.suggesting import rounds

OUTPUT = Path(__file__).parent.parent / "results" / "embeddings.json"
WINDOWS, SIZE, SOUNDS = 1_000_000, 128, 200
SHOTS, DRAWS, CLASSES = 5, 10, 10
MORE_DRAWS = 30  # where differences are small
METHODS: tuple[Method, ...] = ("pca", "umap")
FORTY = "runs/unknown/forty"


def main() -> None:
    """Measures one part and writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    found = PARTS[given.part](given.data)
    print(json.dumps(found, indent=2))
    kept = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    command = f"python -m experiments.embeddings {given.part} --data AUDIOREP_DATA"
    write_json(OUTPUT, {**kept, given.part: {"command": command, **found, "environment": environment()}})


def search(data: Path) -> dict[str, Any]:
    """Seconds of an exact search among a million windows, for queries of one and of ten windows."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        index = Index.create(Path(folder) / "index", audiorep.load("nano"))
        for number in range(SOUNDS):
            path = Path(folder) / f"{number}.wav"
            path.write_bytes(b"")
            each = WINDOWS // SOUNDS
            vectors = np.abs(random.standard_normal((each, SIZE), dtype=np.float32))
            index.add(Embedding(path, each / 2, np.arange(each) / 2, vectors))
            index.commit()
        made = time.perf_counter() - begun
        rows = {}
        for queries in (1, 10):
            vectors = np.abs(random.standard_normal((queries, SIZE), dtype=np.float32))
            rows[queries] = [_seconds(partial(similar, index, Query(vectors))) for _ in range(9)]
        bytes_ = sum(path.stat().st_size for path in (Path(folder) / "index").iterdir())
        index.close()
    return {
        "windows": WINDOWS,
        "seconds_to_make": made,
        "megabytes": bytes_ / 1e6,
        "seconds": {queries: {"median": float(np.median(times)), "all": times} for queries, times in rows.items()},
    }


def speed(data: Path) -> dict[str, Any]:
    """How long embedding takes over classifying, for the same files, in turns."""
    paths = [example.path for example in listed_examples(data / "esc50") if example.fold == 5][:100]
    classifier = audiorep.load("nano")
    turns = [
        (_seconds(lambda: list(classifier.files(paths))), _seconds(lambda: list(classifier.embed_files(paths))))
        for _ in range(5)
    ]
    ratios = [embedded / classified for classified, embedded in turns]
    return {"files": len(paths), "seconds": turns, "ratio": float(np.median(ratios)), "ratios": ratios}


def neighbours(data: Path) -> dict[str, Any]:
    """Building the neighbours of all windows of ESC-50, and how many of the exact first ten they find."""
    with tempfile.TemporaryDirectory() as folder:
        audiorep.embed([example.path for example in listed_examples(data / "esc50")], Path(folder) / "index")
        with Index(Path(folder) / "index") as index:
            begun = time.perf_counter()
            built = build(index)
            seconds = time.perf_counter() - begun
    return {"windows": built.rows, "seconds": seconds, "recall": built.recall, "expansion": built.expansion}


def retrieval(data: Path) -> dict[str, Any]:
    """Share of the first five results that are of the query's class: clips of fold 5 among all but those of their recording."""
    examples = listed_examples(data / "esc50")
    truth = {example.path.absolute(): (example.labels["label"][0], example.path.name.split("-")[1]) for example in examples}
    classifier = audiorep.load("nano")
    with tempfile.TemporaryDirectory() as folder:
        audiorep.embed([example.path for example in examples], Path(folder) / "index", classifier)
        right = []
        with Index(Path(folder) / "index") as index:
            for example in (example for example in examples if example.fold == 5):
                label, group = truth[example.path.absolute()]
                found = audiorep.similar(index, example.path, 50, classifier)
                others = [truth[match.path] for match in found if truth[match.path][1] != group][:5]
                right.append(np.mean([other[0] == label for other in others]))
    return {"queries": len(right), "first_five": float(np.mean(right))}


def maps(data: Path) -> dict[str, Any]:
    """Share of the five nearest points that are of a sound's class, on maps of fold 5; seconds for a map of 20,000 sounds."""
    truth = {
        example.path.absolute(): example.labels["label"][0] for example in listed_examples(data / "esc50") if example.fold == 5
    }
    random, found, seconds = np.random.default_rng(0), {}, {}
    classifier = audiorep.load("nano")
    with tempfile.TemporaryDirectory() as folder:
        audiorep.embed(truth, Path(folder) / "fold", classifier)
        with Index(Path(folder) / "fold") as index:
            for method in METHODS:
                made = of_index(index, truth, method)
                away = np.linalg.norm(made.points[:, None] - made.points, axis=2) + 9 * np.eye(len(truth))
                labels = np.array(made.labels)
                found[method] = float((labels[away.argsort(axis=1)[:, :5]] == labels[:, None]).mean())
        index = Index.create(Path(folder) / "many", classifier)
        kinds = random.standard_normal((50, SIZE))
        for number in range(MOST_SOUNDS):
            path = Path(folder) / f"{number}.wav"
            path.write_bytes(b"")
            vector = np.abs(kinds[number % 50] + 0.6 * random.standard_normal((1, SIZE))).astype(np.float32)
            index.add(Embedding(path, 1.0, np.zeros(1), vector))
        index.commit()
        for method in METHODS:
            seconds[method] = _seconds(partial(of_index, index, None, method))
        index.close()
    return {"sounds": len(truth), "first_five": found, "seconds_for_20000": seconds}


def teach(data: Path) -> dict[str, Any]:
    """Ten classes of fold 5 from five clips each, ten draws."""
    examples = [example for example in listed_examples(data / "esc50") if example.fold == 5]
    draws = [_draw(examples, np.random.default_rng(number)) for number in range(DRAWS)]
    rows = [_taught(train, test) for train, test in draws]
    return {
        "accuracy": float(np.mean([row["accuracy"] for row in rows])),
        "left_out": float(np.mean([row["left_out"] for row in rows])),
        "seconds": float(np.median([row["seconds"] for row in rows])),
        "draws": rows,
    }


def _draw(
    examples: Sequence[Example], random: np.random.Generator, shots: int = SHOTS
) -> tuple[dict[str, list[Path]], list[tuple[Path, str]]]:
    """Clips to teach, of recordings of their own, and clips of other recordings to test; of classes with enough recordings."""
    known: dict[str, set[str]] = {}
    for example in examples:
        known.setdefault(example.labels["label"][0], set()).add(example.path.name.split("-")[1])
    labels = sorted(label for label, recordings in known.items() if len(recordings) > SHOTS)
    train: dict[str, list[Path]] = {}
    test: list[tuple[Path, str]] = []
    for label in random.choice(labels, CLASSES, replace=False):
        own = [example for example in examples if example.labels["label"][0] == label]
        recordings: dict[str, list[Path]] = {}
        for example in own:
            recordings.setdefault(example.path.name.split("-")[1], []).append(example.path)
        names = list(random.permutation(sorted(recordings)))
        kept = names[:shots]
        train[str(label)] = [recordings[name][int(random.integers(len(recordings[name])))] for name in kept]
        test += [(path, str(label)) for name in names if name not in kept for path in recordings[name]]
    return train, test


def _taught(train: dict[str, list[Path]], test: Sequence[tuple[Path, str]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        taught = audiorep.teach("nano", train, Path(folder) / "mine.onnx", instead=True)
        seconds = time.perf_counter() - begun
        mine = audiorep.load(Path(folder) / "mine.onnx")
        found = list(mine.files([path for path, _ in test]))
    labels = mine.info.labels["label"]
    right = [
        labels[int(recording.mean().argmax())] == label
        for recording, (_, label) in zip(found, test, strict=True)
        if not isinstance(recording, Failure)
    ]
    return {
        "clips": sum(map(len, train.values())),
        "tested": len(right),
        "accuracy": float(np.mean(right)),
        "left_out": taught.accuracy,
        "seconds": seconds,
    }


def thresholds(data: Path) -> dict[str, Any]:
    """F1 with the thresholds that teaching chooses, and with 0.5, on clips of fold 5 that did not teach.

    `closed` are clips of the ten classes, `open` all of the fold. The draws are others than those by which
    `limits.OWN_CLIPS` was chosen, 0 to 29.
    """
    examples = [example for example in listed_examples(data / "esc50") if example.fold == 5]
    found: dict[str, Any] = {}
    for shots in (2, SHOTS):
        rows = [_reported(examples, np.random.default_rng(100 + number), shots) for number in range(MORE_DRAWS)]
        for key in ("closed", "open"):
            means = {name: float(np.mean([row[key][name] for row in rows])) for name in rows[0][key]}
            gains = np.array([row[key]["macro"] - row[key]["macro_with_half"] for row in rows])
            error = float(gains.std(ddof=1) / len(gains) ** 0.5)
            found[f"{shots} clips, {key}"] = {**means, "gain": float(gains.mean()), "standard_error": error}
        found[f"{shots} clips, thresholds"] = [row["thresholds"] for row in rows]
    return {"draws": MORE_DRAWS, **found}


def _reported(examples: Sequence[Example], random: np.random.Generator, shots: int) -> dict[str, Any]:
    train, test = _draw(examples, random, shots)
    labels, closed = list(train), dict(test)
    used = {path for paths in train.values() for path in paths}
    rest = {each.path: "" for each in examples if each.labels["label"][0] not in labels}
    with tempfile.TemporaryDirectory() as folder:
        audiorep.teach("nano", train, Path(folder) / "mine.onnx")
        mine = audiorep.load(Path(folder) / "mine.onnx")
    assert not used & {*closed, *rest}
    columns = [mine.info.labels["label"].index(label) for label in labels]
    limits = np.array(mine.info.threshold("label"))[columns]
    scores = {path: mine(path).mean()[columns] for path in [*closed, *rest]}
    row: dict[str, Any] = {"thresholds": limits.tolist()}
    for name, truth in (("closed", closed), ("open", {**closed, **rest})):
        right = np.array([[label == other for other in labels] for label in truth.values()])
        given = np.stack([scores[path] for path in truth])
        row[name] = {**_f1(given >= limits, right), **{f"{key}_with_half": v for key, v in _f1(given >= 0.5, right).items()}}
    return row


def _f1(reported: np.ndarray, right: np.ndarray) -> dict[str, float]:
    hits, wanted = (reported & right).sum(0), reported.sum(0) + right.sum(0)
    return {"macro": float((2 * hits / np.maximum(wanted, 1)).mean()), "micro": float(2 * hits.sum() / max(wanted.sum(), 1))}


def old_classes(data: Path) -> dict[str, Any]:
    """Fold 5 by a model of forty classes, before and after the other ten were taught from five clips each of folds 1 to 4.

    The model is the one of experiments/unknown.py that ten classes were left out of, and its background 400 of its own
    training clips.
    """
    examples = listed_examples(data / "esc50")
    with tempfile.TemporaryDirectory() as folder:
        audiorep.export(FORTY, Path(folder) / "forty.onnx")
        before = audiorep.load(Path(folder) / "forty.onnx")
        known = {*before.info.labels["label"]}
        random = np.random.default_rng(0)
        new = _clips_of_own(examples, known, random)
        others = [each.path for each in examples if each.fold != 5 and each.labels["label"][0] in known]
        background = [others[k] for k in random.permutation(len(others))[:400]]
        taught = audiorep.teach(Path(folder) / "forty.onnx", new, Path(folder) / "fifty.onnx", background=background)
        after = audiorep.load(Path(folder) / "fifty.onnx")
        test = [each for each in examples if each.fold == 5]
        rows = [[_label(found) for found in model.files([each.path for each in test])] for model in (before, after)]
    truth = [each.labels["label"][0] for each in test]
    old = [label in known for label in truth]
    right = np.array([[given == label for given, label in zip(row, truth, strict=True)] for row in rows])
    return {
        "old_clips": sum(old),
        "old_before": float(right[0, old].mean()),
        "old_after": float(right[1, old].mean()),
        "new_clips": len(truth) - sum(old),
        "new_after": float(right[1, ~np.array(old)].mean()),
        "left_out": taught.accuracy,
    }


def _clips_of_own(examples: Sequence[Example], known: set[str], random: np.random.Generator) -> dict[str, list[Path]]:
    """Five clips of folds 1 to 4 of each class that is not known, each of a recording of its own."""
    found: dict[str, dict[str, Path]] = {}
    for k in random.permutation(len(examples)):
        label, path = examples[k].labels["label"][0], examples[k].path
        if examples[k].fold != 5 and label not in known and len(found.setdefault(label, {})) < SHOTS:
            found[label].setdefault(path.name.split("-")[1], path)
    return {label: list(clips.values()) for label, clips in sorted(found.items())}


def _label(found: audiorep.Recording | Failure) -> str:
    return "" if isinstance(found, Failure) else found.label


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "search": search,
    "speed": speed,
    "neighbours": neighbours,
    "retrieval": retrieval,
    "maps": maps,
    "teach": teach,
    "thresholds": thresholds,
    "rounds": rounds,
    "old_classes": old_classes,
}

if __name__ == "__main__":
    main()
