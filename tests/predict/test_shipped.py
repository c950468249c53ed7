"""The models in the package: opened by name, with and without torch, and what they say of sounds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import SAMPLES
from support.commands import audiorep as command

import audiorep
from audiorep import shipped
from audiorep.errors import BundleError
from audiorep.models import checkpoint


def test_a_name_is_that_of_a_model_in_the_package_unless_something_there_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.named("nano") is shipped.SHIPPED["nano"]
    assert shipped.place("nano").is_dir()
    assert shipped.named("nano.onnx") is None
    (tmp_path / "nano").mkdir()
    assert shipped.named("nano") is None
    assert str(shipped.file_of("nano")) == "nano"
    with pytest.raises(BundleError, match=r"gone\.onnx"):
        audiorep.load("gone.onnx")


def test_the_tagger_is_what_is_opened_without_a_name():
    classifier = audiorep.load(threads=1)
    assert len(classifier.info.labels["label"]) == 521
    assert classifier.info.task == "multi-label"
    assert classifier.info.labels == audiorep.load("nano").info.labels
    assert classifier.info.outputs["embedding"] == 128


def test_the_tagger_knows_sounds_and_says_where_it_knows_none():
    classifier = audiorep.load(threads=1)
    assert "Rain" in [label for label, _ in classifier(SAMPLES / "rain.flac").top(5)]
    assert classifier(np.zeros(32_000), 16_000).whole()[0].label == "Silence"
    heard = classifier(SAMPLES / "footsteps.flac").whole()
    assert [(found.label, found.score) for found in heard] == [("unknown", pytest.approx(0.66, abs=0.05))]
    assert audiorep.load(threads=1, unknown=False)(SAMPLES / "footsteps.flac").whole() == []


@pytest.mark.slow
def test_weights_to_train_from_give_the_scores_of_the_file():
    folder, file = (audiorep.load("nano", runtime=runtime, threads=1) for runtime in ("torch", "onnx"))
    for name in ("rain", "siren"):
        one, other = (model(SAMPLES / f"{name}.flac") for model in (folder, file))
        np.testing.assert_allclose(one.scores["label"], other.scores["label"], atol=1e-5)
        np.testing.assert_allclose(one.mean(), other.mean(), atol=1e-5)
    assert folder.info.thresholds == file.info.thresholds
    assert checkpoint.load("nano").architecture == "arin_nano"


@pytest.mark.slow
def test_commands_take_the_names(tmp_path):
    shown = command("predict", SAMPLES / "siren.flac", "--model", "esc50", "--json")
    assert json.loads(shown.stdout)["labels"][0]["label"] == "siren"
    refused = command("export", "esc50", "-o", tmp_path / "other.onnx")
    assert refused.returncode == 2
    assert "model.onnx runs" in " ".join(refused.stderr.split())


@pytest.mark.full
def test_the_tagger_is_exported_by_its_name(tmp_path):
    made = command("export", "nano", "-o", tmp_path / "tagger.onnx")
    assert made.returncode == 0, made.stderr
    assert audiorep.load(tmp_path / "tagger.onnx").info.unknown == "unknown"
