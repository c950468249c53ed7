"""Classes of odd names are trained, described, measured and predicted under the names that their folders have."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.markdown import cells
from support.training import quick

from audiorep import datasets
from audiorep.evaluation.evaluate import evaluate
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.predict.output import CsvWriter
from audiorep.predict.results import Recording
from audiorep.runtimes.torch import TorchSession
from audiorep.training import workflow

pytestmark = pytest.mark.slow

RATE = 4000
NAMES = ["$x^2$", "a|b;c\\", "*s*_[b](c)", '=1+1, "q"', "new\nline", "cafe\u0301", "[bold] <i>"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("odd [x] $HOME;")
    for place, name in enumerate(NAMES):
        for take in range(4):
            path = root / "data" / name / str(take) / "1.wav"
            path.parent.mkdir(parents=True)
            times = np.arange(RATE // 2) / RATE
            soundfile.write(path, 0.3 * np.sin(2 * np.pi * (150 + 200 * place + take) * times), RATE)
    found = datasets.examples(root / "data")
    workflow.train(quick(epochs=1, augment={}), found, root / "data", root / "run")
    return root


def test_labels_are_the_names_in_their_composed_form(trained):
    info = checkpoint.load(trained / "run").info
    assert info.labels == {"label": sorted(unicodedata.normalize("NFC", name) for name in NAMES)}


def test_the_card_and_the_metrics_name_them(trained):
    names = {unicodedata.normalize("NFC", name) for name in NAMES}
    rows = cells((trained / "run" / "README.md").read_text(encoding="utf-8"))
    assert {row[0] for row in rows} == names
    values = json.loads((trained / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert {row["label"] for row in values["test"]["heads"]["label"]["classes"]} == names


def test_the_clips_of_the_run_are_measured_and_predicted_under_them(trained):
    classifier = Classifier(TorchSession(checkpoint.load(trained / "run")))
    listed = datasets.examples(trained / "run" / "clips.csv")
    counts = {split: sum(e.split == split for e in listed) for split in ("train", "valid", "test")}
    assert counts == {"train": 14, "valid": 7, "test": 7}
    tested = [example for example in listed if example.split == "test"]
    card = evaluate(classifier, tested, "test").heads["label"]
    assert sorted((row.label, row.clips) for row in card.classes) == [(label, 1) for label in classifier.info.labels["label"]]
    writer = CsvWriter(trained / "found.csv")
    for result in classifier.files([example.path for example in listed]):
        assert isinstance(result, Recording)
        writer.write(result, result.whole(len(NAMES), 0.0))
    writer.close()
    with (trained / "found.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(classifier.info.labels["label"])
    assert {Path(row["path"]) for row in rows} == {example.path for example in listed}
