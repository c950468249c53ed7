"""`audiorep calibrate` writes a model whose scores and thresholds every command applies, or one sentence and nothing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile
from support import shared
from support.commands import audiorep

import audiorep as face


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A checkpoint of tones, and more tones that it does not know."""
    folder, generator = tmp_path_factory.mktemp("place"), np.random.default_rng(3)
    shutil.copytree(trained[0], folder / "run")
    for label, hertz in {"low": 150, "middle": 500, "high": 1500}.items():
        (folder / "more" / label).mkdir(parents=True)
        for number in range(10):
            clip = 0.2 * np.sin(2 * np.pi * hertz * generator.uniform(0.8, 1.3) * np.arange(2000) / 4000)
            soundfile.write(folder / "more" / label / f"n{number}.wav", clip + 0.02 * generator.standard_normal(2000), 4000)
    return folder


@pytest.fixture(autouse=True)
def shared_checkpoints():
    with shared.checkpoints():
        yield


@pytest.mark.slow
def test_a_calibrated_checkpoint_is_evaluated_predicted_and_said(place):
    done = audiorep("calibrate", "run", "more", "-o", "made", "--split", "all", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    found = face.load(place / "made").info
    head = values["heads"]["label"]
    assert found.calibration["label"]["file"] == head["file"]
    assert found.thresholds["label"] == head["thresholds"]
    shown = audiorep("calibrate", "run", "more", "-o", "again", "--split", "all", cwd=place).stdout
    assert f"{head['file']['temperature']:.2f}" in shown
    assert f"{head['common']:.2f}" in shown
    done = audiorep("evaluate", "made", "more", "--split", "all", "--json", "--reliability", "r.png", cwd=place)
    assert json.loads(done.stdout)["calibrated_on"] == 30
    assert (place / "r.png").read_bytes().startswith(b"\x89PNG")
    table = audiorep("evaluate", "made", "more", "--split", "all", cwd=place).stdout
    assert "30 of them calibrated on" in table
    assert "expected calibration error" in table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "TONES", "-o", "no", "--split", "test"], "tested on"),
        (["run", "TONES", "-o", "no", "--split", "all"], "trained on"),
        (["run", "TONES", "-o", "no"], "at least 20"),
        (["run", "more", "-o", "run", "--split", "all"], "never overwritten"),
        (["run", "more", "-o", "more", "--split", "all"], "exists already"),
        (["run", "nowhere", "-o", "no"], "does not exist"),
        (["nothing.onnx", "more", "-o", "no.onnx"], "does not exist"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(words, told, place, tones):
    done = audiorep("calibrate", *[str(tones) if word == "TONES" else word for word in words], cwd=place)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (place / "no").exists()
    assert not (place / "no.onnx").exists()


@pytest.mark.slow
def test_an_unreadable_clip_is_named_and_costs_only_itself(place):
    shutil.copytree(place / "more", place / "bad", dirs_exist_ok=True)
    (place / "bad" / "low" / "broken.wav").write_bytes(b"RIFF")
    done = audiorep("calibrate", "run", "bad", "-o", "without", "--split", "all", "--thresholds", "precision",
                    "--precision", "0.7", cwd=place)  # fmt: skip
    assert done.returncode == 1
    assert "broken.wav" in done.stderr
    assert face.load(place / "without").info.provenance["calibrated"]["precision"] == 0.7
