"""The command line as a user meets it: a folder of clips to a model of one's own, and every refusal with its exit status."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes

from audiorep import models
from audiorep.cli import main
from audiorep.predict.classifier import BUNDLED

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of forkpty")


class Done:
    """What a command left: its exit status and what it printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def run(capsys, monkeypatch):
    def command(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["audiorep", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        printed = capsys.readouterr()
        return Done(stopped.value.code or 0, printed.out, printed.err)

    return command


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
def own_model(clips, tmp_path_factory):
    """The three commands of the README, run as a user runs them."""
    folder = tmp_path_factory.mktemp("own")
    checkpoint, bundle = folder / "run", folder / "model.onnx"
    quick = ["epochs=30", "architecture=arin_pico", "window_seconds=1"]
    commands = [
        ["train", clips, "-o", checkpoint, *(word for setting in quick for word in ("--set", setting))],
        ["export", checkpoint, "-o", bundle],
    ]
    done = [processes.run(processes.audiorep(*command)) for command in commands]
    assert [d.returncode for d in done] == [0, 0], done[0].stderr + done[1].stderr
    return checkpoint, bundle, done


@pytest.mark.slow
def test_train_says_what_it_does_and_what_comes_next(own_model):
    train, export = own_model[2]
    assert "19 clips" in train.stderr or "clips of 3 classes to train" in train.stderr
    assert "Left out:" in train.stderr
    assert "broken.wav" in train.stderr
    assert "epoch 30/30" in train.stderr
    assert f"Next: audiorep export {own_model[0]}" in train.stderr
    assert "test split of" in train.stdout
    assert re.search(r"largest difference +mean difference +same label\n.* 100%\n", export.stdout)
    assert "clips of its data" in export.stdout
    for talk in ("GPU available", "litlogger", "Warning", "torchvision"):
        assert talk not in train.stderr + export.stderr


@pytest.mark.slow
def test_own_model_names_own_sounds(own_model, clips, run):
    done = run("predict", clips, "-m", own_model[1], "--json")
    assert done.status == 1
    results = [json.loads(line) for line in done.out.splitlines()]
    assert len(results) == 31
    assert sum("error" in r for r in results) == 1
    right = [r["labels"][0]["label"] == Path(r["path"]).parent.name for r in results if "error" not in r]
    assert sum(right) >= 27
    assert "broken.wav cannot be read as audio" in done.err
    assert "1 of 31 files could not be used." in done.err


@pytest.mark.slow
def test_checkpoint_and_bundle_evaluate_alike(own_model, clips, run, tmp_path):
    summaries = []
    for model in own_model[:2]:
        done = run("evaluate", model, clips, "--json", "-o", tmp_path / "m.json", "--picture", tmp_path / "confusion.png")
        summaries.append(json.loads(done.out))
        assert done.status == 0
    assert summaries[0] == summaries[1] == json.loads((tmp_path / "m.json").read_text())
    assert summaries[0]["split"].startswith(f"random test split of {clips.name}")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "mistaken most for" in run("evaluate", own_model[1], clips).out
    for split in ("all", "train"):
        refused = run("evaluate", own_model[1], clips, "--split", split)
        assert refused.status == 2
        assert "were trained on" in refused.err


def test_data_check_finds_the_corrupt_file_and_writes_it_down(clips, run, tmp_path):
    done = run("data", "check", clips, "-o", tmp_path / "problems.csv")
    assert done.status == 1
    assert "unreadable" in done.out
    rows = list(csv.DictReader((tmp_path / "problems.csv").read_text().splitlines()))
    assert [Path(r["subject"]).name for r in rows if r["kind"] == "unreadable"] == ["broken.wav"]
    assert {r["kind"] for r in rows} == {"unreadable", "odd rate"}
    assert len(json.loads(run("data", "check", clips, "--json").out)) == len(rows)


def test_data_check_of_good_data_ends_well(tmp_path, run):
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(3):
            noise = 0.1 * np.random.default_rng(number + 10 * ord(label)).standard_normal(8000)
            soundfile.write(tmp_path / label / f"{number}.wav", noise, 8000)
    done = run("data", "check", tmp_path)
    assert (done.status, done.out.strip()) == (0, "6 clips, 0 problems")


@pytest.mark.slow
def test_models_list_shows_the_papers_numbers(run):
    done = run("models", "list")
    assert "11,834,869" in done.out
    assert "2.625 G" in done.out
    rows = json.loads(run("models", "list", "--json").out)
    assert [row["name"] for row in rows] == list(models.ARCHITECTURES)


@pytest.mark.slow
def test_models_info_shows_what_is_inside(own_model, run):
    text = run("models", "info", own_model[1]).out
    assert "high, low, middle" in text
    assert "single-label" in text
    info = json.loads(run("models", "info", own_model[1], "--json").out)
    assert (info["sample_rate"], info["window_seconds"], info["name"]) == (16_000, 1.0, "arin_pico")
    assert json.loads(run("models", "info", own_model[0], "--json").out)["labels"] == info["labels"]


def test_samples_are_named_by_the_bundled_model(run):
    done = run("predict", SAMPLES, "--json")
    assert done.status == 0
    results = {Path(r["path"]).stem: r["labels"] for r in map(json.loads, done.out.splitlines())}
    names = set(results) - {"recording"}
    right = [name for name in names if results[name][0]["label"] == name]
    assert len(right) >= 0.75 * len(names), sorted(names - set(right))
    assert len(results["recording"]) > 3


def test_long_recordings_have_times_and_merge_windows(run, tmp_path):
    recording = SAMPLES / "recording.flac"
    windows = json.loads(run("predict", recording, "--view", "windows", "--json").out)["labels"]
    merged = json.loads(run("predict", recording, "--json").out)["labels"]
    assert len(merged) < len(windows)
    assert windows[1]["start"] == 1.25
    assert max(m["end"] for m in merged) == pytest.approx(soundfile.info(recording).duration, abs=0.01)
    one = json.loads(run("predict", recording, "--view", "file", "--top", "3", "--json").out)["labels"]
    assert len(one) == 3
    screen = run("predict", recording).out
    assert screen.splitlines()[0].startswith(f"{recording} (")
    assert " – " in screen


def test_outputs_are_written_in_every_format(run, tmp_path):
    siren = SAMPLES / "siren.flac"
    run("predict", siren, SAMPLES / "rain.flac", "-o", tmp_path / "a.csv", "-o", tmp_path / "a.jsonl")
    assert [Path(r["path"]).name for r in csv.DictReader((tmp_path / "a.csv").read_text().splitlines())] == [
        "siren.flac",
        "rain.flac",
    ]
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2
    for name in ("audacity", "raven"):
        run("predict", siren, "-o", tmp_path / name, "--format", name)
        assert (tmp_path / name / f"siren.flac.{name}.txt").read_text().count("\n") >= 1


def test_a_bad_file_among_good_ones_costs_nothing_else(run, tmp_path):
    (tmp_path / "bad.wav").write_text("text")
    done = run("predict", tmp_path / "bad.wav", SAMPLES / "rain.flac", tmp_path / "gone.wav", "-o", tmp_path / "out.csv")
    assert done.status == 1
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [bool(r["error"]) for r in rows] == [True, False, True]
    assert "gone.wav does not exist" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "samples", "-m", "none.onnx"], "none.onnx does not exist"),
        (["predict", "a.wav", "-o", "out.xlsx"], "--format takes csv, jsonl, audacity, raven"),
        (["predict", "a.wav", "--hop", "99"], "and hop 99 s"),
        (["train", "nowhere", "-o", "run"], "nowhere does not exist"),
        (["train", "empty", "-o", "run", "--set", "epochs"], "write section.key=value"),
        (["train", "empty", "-o", "run", "--set", "epoch=3"], "epoch is not a setting"),
        (["train", "empty", "-o", "run", "--recipe", "none.toml"], "none.toml cannot be read"),
        (["train", "empty", "-o", "run"], "holds no sound files in class folders"),
        (["train", "empty", "-o", "run", "--data-format", "xml"], "not a data format; allowed are csv, shards, esc50"),
        (["export", "empty", "-o", "m.onnx"], "is not a checkpoint: it has no config.json"),
        (["export", "empty", "-o", "m.pt"], "the name of a model ends in .onnx, .xml, .tflite, .pte, .mlpackage"),
        (["evaluate", "none.onnx", "empty"], "none.onnx does not exist"),
        (["data", "check", "empty", "-o", "p.txt"], ".csv or .json"),
        (["models", "info", "empty"], "is not a checkpoint"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(run, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(16_000), 16_000)
    done = run(*arguments)
    assert done.status == 2
    assert done.err.startswith("Error: ")
    assert sentence in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments", [["predict"], ["predict", "x.wav", "--color"], ["predict", "x", "--top", "0"], ["listen"]]
)
def test_wrong_flags_show_the_usage(run, arguments):
    done = run(*arguments)
    assert done.status == 2
    assert "Usage: audiorep" in done.err


def test_version_is_told(run):
    assert run("--version").out.strip() == "0.1.0"


def test_an_empty_folder_or_pattern_among_good_files_costs_nothing_else(run, tmp_path):
    done = run("predict", SAMPLES / "rain.flac", tmp_path, str(tmp_path / "*.wav"))
    assert done.status == 1
    assert "rain" in done.out
    assert "is a folder" in done.err
    assert "2 of 3 files could not be used" in done.err


def test_output_sent_to_a_file_from_a_terminal_arrives_there(tmp_path):
    script = f"{shlex.join(processes.audiorep('predict', SAMPLES / 'rain.flac', '--json'))} > out.jsonl"
    terminal, end = pty.openpty()
    with processes.started(["sh", "-c", script], cwd=tmp_path, stdin=end, stdout=end, stderr=end) as process:
        os.close(end)
        with contextlib.suppress(OSError):  # the terminal closes with the command
            while select.select([terminal], [], [], 120)[0] and os.read(terminal, 1024):
                pass
        os.close(terminal)
        assert process.wait(timeout=60) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["labels"]


@pytest.mark.slow
def test_the_bundled_model_is_measured_on_other_data_as_a_whole(run, tmp_path):
    for label in ("rain", "siren"):
        (tmp_path / label).mkdir()
        shutil.copy(SAMPLES / f"{label}.flac", tmp_path / label)
    done = run("evaluate", BUNDLED, tmp_path)
    assert done.status == 2
    assert "split all" in done.err
    whole = json.loads(run("evaluate", BUNDLED, tmp_path, "--split", "all", "--json").out)
    assert (whole["clips"], whole["heads"]["label"]["top1"]) == (2, 1.0)


def test_window_and_formats_are_as_asked(run, tmp_path):
    siren = SAMPLES / "siren.flac"
    labels = json.loads(run("predict", siren, "--window", "1", "--hop", "1", "--view", "windows", "--json").out)["labels"]
    assert [label["start"] for label in labels] == [0, 1, 2, 3, 4]
    run("predict", siren, "-o", tmp_path / "a.csv", "-o", tmp_path / "labels", "--format", "audacity")
    assert (tmp_path / "a.csv").is_file()
    assert (tmp_path / "labels" / "siren.flac.audacity.txt").is_file()
    assert "--output" in run("predict", siren, "--format", "csv").err
    assert "twice" in run("predict", siren, "-o", tmp_path / "b.csv", "-o", tmp_path / "b.csv").err


@pytest.mark.slow
def test_an_export_skips_a_bad_clip_and_says_so(own_model, clips, run, tmp_path):
    done = run("export", own_model[0], "-o", tmp_path / "new" / "m.onnx", "--clips", clips / "middle")
    assert done.status == 0, done.err
    assert "Left out:" in done.err
    assert re.search(r"clips given .*\n +10 ", done.out)


@pytest.mark.slow
def test_ctrl_c_leaves_complete_output_for_what_was_done(tmp_path):
    rate, long, short = 8000, tmp_path / "b_long.wav", tmp_path / "a_short.wav"
    noise = (0.1 * np.random.default_rng(0).standard_normal(rate * 60)).astype(np.float32)
    soundfile.write(short, noise[: rate * 3], rate)
    with soundfile.SoundFile(long, "w", rate, 1) as file:
        for _ in range(240):
            file.write(noise)
    output = tmp_path / "out.csv"
    command = processes.audiorep("predict", short, long, "-o", output, "--view", "windows")
    with processes.started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        first = process.stdout.readline()
        assert "a_short.wav" in first
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, errors = processes.ended(process, 60)
    assert process.returncode == 130, errors
    assert errors.startswith("Stopped after")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    rows = list(csv.DictReader(output.read_text().splitlines()))
    starts = [float(r["start"]) for r in rows if r["path"] == str(long)]
    assert rows[0]["path"] == str(short)
    assert 1 < len(starts) < 60 * 240
    assert starts == sorted(starts)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_ctrl_c_in_training_says_how_to_go_on(clips, tmp_path):
    command = processes.audiorep("train", clips, "-o", tmp_path / "run", "--set", "epochs=9999")
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
    assert not [line for line in lines if "Traceback" in line]


def test_the_bundled_model_is_small_and_carries_its_license(run):
    assert BUNDLED.stat().st_size <= 5_000_000
    info = json.loads(run("models", "info", "--json").out)
    assert len(info["labels"]["label"]) == 50
    assert info["provenance"]["splits"]["test_folds"] == [5]
    assert info["provenance"]["splits"]["licenses"] == ["CC0", "CC-BY"]
    assert info["license"] == "Apache-2.0"
