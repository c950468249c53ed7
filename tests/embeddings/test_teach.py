"""New classes from a few clips: the result is a deployed model, which says what was taught and knows what it knew."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes

import audiorep
from audiorep import shipped
from audiorep.datasets import Example
from audiorep.embeddings.index import cosine, probe
from audiorep.errors import BundleError, ConfigError, DataError
from audiorep.evaluation.scored import count_known

RATE = 16_000


def chirp(low: float, high: float, seed: int) -> np.ndarray:
    """Two seconds of a sound that rises again and again, in a little noise."""
    random = np.random.default_rng(seed)
    times = np.arange(2 * RATE) / RATE
    rising = (times * random.uniform(1.5, 3)) % 1
    phase = 2 * np.pi * np.cumsum(low + (high - low) * rising) / RATE
    return 0.4 * random.uniform(0.5, 1) * np.sin(phase) + 0.003 * random.standard_normal(len(times))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Three folders of six clips each: low and high chirps, and bursts of noise; four clips more in `test`."""
    folder = tmp_path_factory.mktemp("teach")
    for number in range(10):
        place = folder / ("test" if number >= 6 else "clips")
        bursts = np.random.default_rng(number).standard_normal(2 * RATE) * (np.arange(2 * RATE) % 4000 < 1200) * 0.2
        sounds = {"low": chirp(200, 500, number), "high": chirp(2500, 4000, 50 + number), "bursts": bursts}
        for name, sound in sounds.items():
            (place / name).mkdir(parents=True, exist_ok=True)
            soundfile.write(place / name / f"{number}.wav", sound, RATE)
    return folder


def classes(clips: Path) -> dict[str, Path]:
    return {f"my {name}": clips / "clips" / name for name in ("low", "high", "bursts")}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["nano", "esc50"])
def test_new_classes_stand_beside_the_old(model, clips, tmp_path):
    taught = audiorep.teach(model, classes(clips), tmp_path / "mine.onnx")
    assert taught.failures == []
    assert taught.accuracy == 1.0
    assert [(row.name, row.clips, row.right) for row in taught.classes] == [(name, 6, 6) for name in classes(clips)]
    assert taught.background > 1000
    mine, before = audiorep.load(tmp_path / "mine.onnx"), audiorep.load(model)
    assert mine.info.labels["label"] == [*before.info.labels["label"], "my low", "my high", "my bursts"]
    for name in ("low", "high", "bursts"):
        for path in (clips / "test" / name).iterdir():
            assert f"my {name}" in [detection.label for detection in mine(path).whole()], path
    for path in sorted(SAMPLES.glob("*.flac")):
        old, new = before(path).top(1)[0], mine(path).top(1)[0]
        assert new[0] == old[0], path
    assert taught.warnings() == []


def test_the_old_classes_can_be_left_out(clips, tmp_path):
    for model, labels in (("nano", ["low", "high"]), ("esc50", ["low", "high", "unknown"])):
        audiorep.teach(model, {name: clips / "clips" / name for name in ("low", "high")}, tmp_path / "mine.onnx", instead=True)
        mine = audiorep.load(tmp_path / "mine.onnx")
        assert mine.info.labels["label"] == labels
        assert mine(clips / "test" / "high" / "7.wav").label == "high"
        assert [found.label for found in mine(SAMPLES / "rain.flac").whole()] == ["unknown"]


@pytest.mark.slow
def test_a_tagger_keeps_its_calibration_and_has_thresholds_of_its_own(clips, tmp_path):
    before = audiorep.load("nano").info
    for instead, known in ((False, before.thresholds["label"]), (True, [])):
        taught = audiorep.teach("nano", classes(clips), tmp_path / "mine.onnx", instead=instead)
        assert taught.info.calibration == before.calibration
        limits = taught.info.thresholds["label"]
        assert (limits[:-3], len(limits)) == (known, len(known) + 3)
        assert all(0.3 < limit < 0.7 and limit != 0.5 for limit in limits[-3:])
    taught = audiorep.teach("nano", {"my low": clips / "clips" / "low" / "1.wav"}, tmp_path / "mine.onnx")
    assert taught.info.thresholds["label"][-1] == 0.5


def test_what_was_taught_is_remembered(clips, tmp_path):
    audiorep.teach("nano", classes(clips), tmp_path / "mine.onnx")
    mine = audiorep.load(tmp_path / "mine.onnx")
    assert mine.info.provenance["taught"]["classes"] == {"my low": 6, "my high": 6, "my bursts": 6}
    own = [Example(path, {"label": ("my low",)}) for path in (clips / "clips" / "low").iterdir()]
    other = [Example(path, {"label": ("my low",)}) for path in (clips / "test" / "low").iterdir()]
    assert (count_known(mine, own, "seen"), count_known(mine, other, "seen")) == (6, 0)


def test_more_can_be_taught_later(clips, tmp_path):
    audiorep.teach("nano", {"my low": clips / "clips" / "low"}, tmp_path / "one.onnx")
    audiorep.teach(tmp_path / "one.onnx", {"my high": clips / "clips" / "high"}, tmp_path / "two.onnx")
    mine = audiorep.load(tmp_path / "two.onnx")
    assert mine.info.labels["label"][-2:] == ["my low", "my high"]
    for name in ("low", "high"):
        assert f"my {name}" in [found.label for found in mine(clips / "test" / name / "8.wav").whole()]


def test_a_class_that_clips_cannot_tell_is_said(clips, tmp_path):
    same = {"one": sorted((clips / "clips" / "low").iterdir())[:3], "two": sorted((clips / "clips" / "low").iterdir())[3:]}
    said: list[str] = []
    taught = audiorep.teach("nano", same, tmp_path / "mine.onnx", say=said.append)
    assert taught.accuracy < 0.7
    assert any("one, two: fewer than 5 clips" in text for text in said)
    assert any("hardly tell" in text for text in said)


def test_a_single_class_is_told_from_the_background(clips, tmp_path):
    taught = audiorep.teach("nano", {"my low": clips / "clips" / "low"}, tmp_path / "mine.onnx")
    assert taught.accuracy is None
    mine = audiorep.load(tmp_path / "mine.onnx")
    assert "my low" in [found.label for found in mine(clips / "test" / "low" / "9.wav").whole()]
    assert "my low" not in [found.label for found in mine(SAMPLES / "rain.flac").whole()]


def test_bad_clips_are_told_and_the_others_teach(clips, tmp_path):
    folder = tmp_path / "low"
    folder.mkdir()
    for number, path in enumerate(sorted((clips / "clips" / "low").iterdir())):
        (folder / f"{number}.wav").symlink_to(path)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    (folder / "broken.wav").write_bytes(b"no sound")
    taught = audiorep.teach("nano", {"my low": folder}, tmp_path / "mine.onnx")
    assert sorted(failure.path.name for failure in taught.failures) == ["broken.wav", "silent.wav"]
    assert any("nothing but silence" in str(failure.error) for failure in taught.failures)
    assert taught.classes[0].clips == 6


def test_what_cannot_be_taught_is_refused(clips, tmp_path):
    low = clips / "clips" / "low"
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    for given, kind, reason in (
        ({"Siren": low}, ConfigError, "knows Siren already"),
        ({"unknown": low}, ConfigError, "cannot be named 'unknown'"),
        ({" ": low}, ConfigError, "cannot be named ' '"),
        ({}, ConfigError, "No class was given"),
        ({"a": tmp_path / "none"}, DataError, "No clip of a can be heard.*does not exist"),
        ({"a": tmp_path / "silent.wav"}, DataError, "No clip of a can be heard.*nothing but silence"),
    ):
        with pytest.raises(kind, match=reason):
            audiorep.teach("nano", given, tmp_path / "mine.onnx")
    with pytest.raises(ConfigError, match=r"mine\.xml must end in \.onnx"):
        audiorep.teach("nano", {"a": low}, tmp_path / "mine.xml")
    assert not (tmp_path / "mine.onnx").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.xml", "is a model for openvino; an .onnx file is needed here. Make one with: audiorep export CHECKPOINT -o"),
        ("model.tflite", "is a model for litert; an .onnx file is needed here"),
        ("model.pte", "is a model for executorch; an .onnx file is needed here"),
        ("model.mlpackage", "is a model for coreml; an .onnx file is needed here"),
        ("model.wav", "is no model; an .onnx file is needed here"),
        ("folder", "is a folder; an .onnx file is needed here. Make one with: audiorep export /"),
    ],
)
def test_a_model_in_another_file_is_refused_with_the_way_to_the_right_one(clips, tmp_path, name, reason):
    model = tmp_path / name
    model.mkdir() if name == "folder" else model.write_bytes(b"model")
    with pytest.raises(ConfigError, match=re.escape(f"{model} {reason}")):
        audiorep.teach(model, {"a": clips / "clips" / "low"}, tmp_path / "mine.onnx")
    model.rmdir() if name == "folder" else model.unlink()
    with pytest.raises(BundleError, match="does not exist; a model file is needed"):
        audiorep.teach(model, {"a": clips / "clips" / "low"}, tmp_path / "mine.onnx")


def test_another_model_needs_a_background(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "SHIPPED", {})
    model = Path(audiorep.__file__).parent / "assets" / "nano" / "model.onnx"
    with pytest.raises(DataError, match="my low alone cannot be told from anything"):
        audiorep.teach(model, {"my low": clips / "clips" / "low"}, tmp_path / "mine.onnx")
    said: list[str] = []
    two = {name: clips / "clips" / name for name in ("low", "high")}
    audiorep.teach(model, two, tmp_path / "mine.onnx", say=said.append)
    assert any("No other sounds were heard" in text for text in said)
    others = [SAMPLES, clips / "clips" / "high"]
    audiorep.teach(model, {"my low": clips / "clips" / "low"}, tmp_path / "mine.onnx", background=others)
    mine = audiorep.load(tmp_path / "mine.onnx")
    assert "my low" not in [found.label for found in mine(SAMPLES / "rain.flac").whole()]


def test_a_file_that_does_not_say_what_was_taught_is_not_written(clips, tmp_path, monkeypatch):
    from audiorep.embeddings import teach

    real = teach.with_classes
    monkeypatch.setattr(teach, "with_classes", lambda *given: real(*given[:5], given[5] + 1, *given[6:]))
    with pytest.raises(BundleError, match="does not say what was taught"):
        audiorep.teach("nano", classes(clips), tmp_path / "mine.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", list(shipped.SHIPPED))
def test_the_background_in_the_package_is_of_its_model(name):
    with np.load(shipped.SHIPPED[name].folder / "background.npz") as file:
        assert len(file["vectors"]) > 1000
        assert cosine(probe(audiorep.load(name)), file["probe"]) > 0.999


@pytest.mark.slow
def test_the_command_teaches_and_tells(clips, tmp_path):
    words = [f"my {name}={clips / 'clips' / name}" for name in ("low", "high")]
    done = processes.run(processes.audiorep("teach", "nano", *words, "-o", tmp_path / "mine.onnx"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "my low: 6 clips, 6 told right by what the others taught",
        "my high: 6 clips, 6 told right by what the others taught",
        "100% of the clips are told right.",
    ]
    told = processes.run(processes.audiorep("teach", "nano", *words, "-o", tmp_path / "mine.onnx", "--json"))
    assert json.loads(told.stdout)["classes"][1] == {"name": "my high", "clips": 6, "right": 6, "taken_for": {}}
    for wrong, reason in (("clips", "clips is no class; NAME=PATH is needed"), ("a=none", "No clip of a can be heard")):
        done = processes.run(processes.audiorep("teach", "nano", wrong, "-o", tmp_path / "other.onnx"))
        assert done.returncode == 2
        assert reason in done.stderr
        assert not (tmp_path / "other.onnx").exists()
