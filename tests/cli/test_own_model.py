"""A folder of clips to a model of one's own, by the commands that a user types."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import processes, shared
from support.commands import Done, audiorep

TALK = ("GPU available", "litlogger", "Warning", "torchvision", "Traceback")  # of libraries, which no user can act on
SMALL = (
    "architecture=arin_pico",
    "network.depths=[1, 1]",
    "window_seconds=1",
    "optimizer.learning_rate=0.01",
    "batch_size=4",
    "ema_decay=0.9",
)
PLAIN = Path(__file__).parents[1] / "support" / "plain.toml"
TRAINING = ["--recipe", PLAIN, *(word for setting in SMALL for word in ("--set", setting))]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A stranger's folder: three classes of ten clips, mixed formats, rates and channels, one corrupt file."""
    root = tmp_path_factory.mktemp("mine")
    generator = np.random.default_rng(0)
    kinds = [("wav", 16_000), ("flac", 22_050), ("ogg", 44_100), ("mp3", 48_000), ("wav", 8_000)]
    for label, hertz in {"low": 200, "middle": 800, "high": 3000}.items():
        (root / label).mkdir()
        for number in range(10):
            suffix, rate = kinds[number % len(kinds)]
            times = np.arange(int(rate * generator.uniform(0.8, 2.0))) / rate
            clip = 0.3 * np.sin(2 * np.pi * hertz * generator.uniform(0.9, 1.1) * times)
            clip += 0.01 * generator.standard_normal(len(times))
            soundfile.write(root / label / f"{number}.{suffix}", np.stack([clip] * (1 + number % 2), axis=1), rate)
    (root / "middle" / "broken.wav").write_bytes(b"RIFF\x00\x00this is no audio")
    return root


@pytest.fixture(scope="module")
def own_model(clips, tmp_path_factory) -> tuple[Path, Path, list[Done]]:
    """The two commands of the README: a checkpoint, a bundle, and what was said."""
    folder = tmp_path_factory.mktemp("own")
    checkpoint, bundle = folder / "run", folder / "model.onnx"
    with shared.checkpoints():
        train = audiorep("train", clips, "-o", checkpoint, "--set", "epochs=30", *TRAINING)
        export = audiorep("export", checkpoint, "-o", bundle)
    assert [train.returncode, export.returncode] == [0, 0], train.stderr + export.stderr
    return checkpoint, bundle, [train, export]


@pytest.fixture(autouse=True)
def one_checkpoint():
    with shared.checkpoints():
        yield


@pytest.mark.slow
def test_train_says_what_it_does_and_what_comes_next(own_model):
    train, export = own_model[2]
    assert "clips of 3 classes to train" in train.stderr
    assert "Left out:" in train.stderr
    assert "broken.wav" in train.stderr
    assert "epoch 30/30" in train.stderr
    assert f"Next: audiorep export {own_model[0]}" in train.stderr
    assert "test split of" in train.stdout
    assert re.search(r"largest difference +mean difference +same label +embedding difference\n.* 100% +\S+\n", export.stdout)
    assert "clips of its data" in export.stdout
    assert not [talk for talk in TALK if talk in train.stderr + export.stderr]


@pytest.mark.slow
def test_own_model_names_own_sounds(own_model, clips):
    done = audiorep("predict", clips, "-m", own_model[1], "--json")
    assert done.returncode == 1
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 31
    assert sum("error" in r for r in results) == 1
    right = [r["labels"][0]["label"] == Path(r["path"]).parent.name for r in results if "error" not in r]
    assert sum(right) >= 27
    assert "broken.wav cannot be read as audio" in done.stderr
    assert "1 of 31 files could not be used." in done.stderr


@pytest.mark.slow
def test_checkpoint_and_bundle_evaluate_alike(own_model, clips, tmp_path):
    summaries = []
    for model in own_model[:2]:
        done = audiorep("evaluate", model, clips, "--json", "-o", tmp_path / "m.json", "--picture", tmp_path / "confusion.png")
        summaries.append(json.loads(done.stdout))
        assert done.returncode == 0
    assert summaries[1] == json.loads((tmp_path / "m.json").read_text())
    errors = [summary.pop("reliability")["label"]["expected_calibration_error"] for summary in summaries]
    assert errors[0] == pytest.approx(errors[1], abs=1e-3)
    assert summaries[0] == summaries[1]
    assert summaries[0]["split"].startswith(f"random test split of {clips.name}")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "mistaken most for" in audiorep("evaluate", own_model[1], clips).stdout
    for split in ("all", "train"):
        refused = audiorep("evaluate", own_model[1], clips, "--split", split)
        assert refused.returncode == 2
        assert "were trained on" in refused.stderr


def test_data_check_finds_the_corrupt_file_and_writes_it_down(clips, tmp_path):
    done = audiorep("data", "check", clips, "-o", tmp_path / "problems.csv")
    assert done.returncode == 1
    assert "unreadable" in done.stdout
    rows = list(csv.DictReader((tmp_path / "problems.csv").read_text().splitlines()))
    assert [Path(r["subject"]).name for r in rows if r["kind"] == "unreadable"] == ["broken.wav"]
    assert {r["kind"] for r in rows} == {"unreadable", "odd rate"}
    assert len(json.loads(audiorep("data", "check", clips, "--json").stdout)) == len(rows)


@pytest.mark.slow
def test_models_info_shows_what_is_inside(own_model):
    text = audiorep("models", "info", own_model[1]).stdout
    assert "high, low, middle" in text
    assert "single-label" in text
    info = json.loads(audiorep("models", "info", own_model[1], "--json").stdout)
    assert (info["sample_rate"], info["window_seconds"], info["name"]) == (16_000, 1.0, "arin_pico")
    assert json.loads(audiorep("models", "info", own_model[0], "--json").stdout)["labels"] == info["labels"]


@pytest.mark.slow
def test_an_export_skips_a_bad_clip_and_says_so(own_model, clips, tmp_path):
    done = audiorep("export", own_model[0], "-o", tmp_path / "new" / "m.onnx", "--clips", clips / "middle")
    assert done.returncode == 0, done.stderr
    assert "Left out:" in done.stderr
    assert re.search(r"clips given .*\n +10 ", done.stdout)


@pytest.mark.slow
def test_ctrl_c_in_training_says_how_to_go_on_and_libraries_say_nothing(clips, tmp_path):
    command = processes.audiorep("train", clips, "-o", tmp_path / "run", "--set", "epochs=9999", *TRAINING)
    lines = []
    with processes.started(command, stderr=subprocess.PIPE) as process:
        for line in process.stderr:
            lines.append(line)
            if line.startswith("epoch 2/"):
                process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert process.returncode == 130
    assert lines[-1].startswith("Stopped.")
    assert str(tmp_path / "run") in lines[-1]
    assert any("broken.wav" in line for line in lines)
    assert not [line for line in lines if any(talk in line for talk in TALK)]
