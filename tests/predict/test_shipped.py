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
    between = audiorep.Stretch(SAMPLES / "recording.flac", 13.5, 14.5)  # next to nothing
    assert [(found.label, found.score) for found in classifier(between).whole()] == [("unknown", pytest.approx(0.85, abs=0.05))]
    assert audiorep.load(threads=1, unknown=False)(between).whole() == []


@pytest.mark.slow
@pytest.mark.parametrize("model", shipped.SHIPPED)
def test_weights_to_train_from_give_the_scores_of_the_file(model):
    folder, file = (audiorep.load(model, runtime=runtime, threads=1) for runtime in ("torch", "onnx"))
    for name in ("rain", "siren"):
        one, other = (heard(SAMPLES / f"{name}.flac") for heard in (folder, file))
        np.testing.assert_allclose(one.scores["label"], other.scores["label"], atol=1e-5)
        np.testing.assert_allclose(one.mean(), other.mean(), atol=1e-5)
    assert folder.info.thresholds == file.info.thresholds
    assert checkpoint.load(model).architecture == "arin_nano"


@pytest.mark.slow
def test_commands_take_the_names(tmp_path):
    shown = command("predict", SAMPLES / "siren.flac", "--model", "esc50", "--json")
    assert json.loads(shown.stdout)["labels"][0]["label"] == "siren"


@pytest.mark.slow
def test_the_model_of_50_sounds_says_what_is_none_of_them():
    classifier = audiorep.load("esc50", threads=1)
    assert len(classifier.info.labels["label"]) == 51
    assert (classifier.info.unknown, classifier.info.silence) == ("unknown", 0.001)
    seconds = np.arange(80_000) / 16_000
    noise = np.random.default_rng(0).normal(0, 0.1, 80_000)
    for sound in (noise, 0.1 * np.sin(2 * np.pi * 1000 * seconds), np.zeros(80_000)):
        assert classifier(sound, 16_000).label == "unknown"
    assert audiorep.load("esc50", threads=1, unknown=False)(noise, 16_000).label in classifier.info.labels["label"][:50]


@pytest.mark.full
@pytest.mark.parametrize("name", shipped.SHIPPED)
def test_models_are_exported_by_their_names(name, tmp_path):
    made = command("export", name, "-o", tmp_path / "made.onnx")
    assert made.returncode == 0, made.stderr
    assert audiorep.load(tmp_path / "made.onnx").info.unknown == "unknown"
