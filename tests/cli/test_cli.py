"""The command line as a user meets it: sounds named by the bundled model, and every refusal with its exit status."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
import pty
import select
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes
from support.commands import audiorep

from audiorep import models
from audiorep.shipped import SHIPPED

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of forkpty")


def test_data_check_of_good_data_ends_well(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(3):
            noise = 0.1 * np.random.default_rng(number + 10 * ord(label)).standard_normal(8000)
            soundfile.write(tmp_path / label / f"{number}.wav", noise, 8000)
    done = audiorep("data", "check", tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "6 clips, 0 problems")


@pytest.mark.slow
def test_models_list_shows_the_papers_numbers(monkeypatch):
    monkeypatch.setattr(models, "overview", functools.cache(models.overview))
    done = audiorep("models", "list")
    assert "11,834,869" in done.stdout
    assert "2.625 G" in done.stdout
    listed = json.loads(audiorep("models", "list", "--json").stdout)
    assert [row["name"] for row in listed["architectures"]] == list(models.ARCHITECTURES)
    assert [row["name"] for row in listed["models"]] == list(SHIPPED)
    assert "general tagger" in done.stdout


@pytest.mark.slow
def test_samples_are_named_by_the_model_of_50_sounds():
    done = audiorep("predict", SAMPLES, "--model", "esc50", "--json")
    assert done.returncode == 0
    results = {Path(r["path"]).stem: r["labels"] for r in map(json.loads, done.stdout.splitlines())}
    names = set(results) - {"recording"}
    right = [name for name in names if results[name][0]["label"] == name]
    assert len(right) >= 0.75 * len(names), sorted(names - set(right))
    assert len(results["recording"]) > 3


@pytest.mark.slow
def test_long_recordings_have_times_and_merge_windows(tmp_path):
    recording = SAMPLES / "recording.flac"
    windows = json.loads(audiorep("predict", recording, "--model", "esc50", "--view", "windows", "--json").stdout)["labels"]
    merged = json.loads(audiorep("predict", recording, "--model", "esc50", "--top", "1", "--json").stdout)["labels"]
    assert len(merged) < len(windows)
    assert windows[1]["start"] == pytest.approx(0.4875, abs=1e-3)
    assert max(m["end"] for m in merged) == pytest.approx(
        soundfile.info(recording).duration, abs=0.1
    )  # the rest is below a tenth of a window
    asked = ("--model", "esc50", "--view", "file", "--top", "3", "--json")
    assert len(json.loads(audiorep("predict", recording, *asked).stdout)["labels"]) == 3
    screen = audiorep("predict", recording).stdout
    assert screen.splitlines()[0].startswith(f"{recording} (")
    assert " – " in screen


@pytest.mark.slow
def test_outputs_are_written_in_every_format(tmp_path):
    siren = SAMPLES / "siren.flac"
    audiorep("predict", siren, SAMPLES / "rain.flac", "--top", "1", "-o", tmp_path / "a.csv", "-o", tmp_path / "a.jsonl")
    assert [Path(r["path"]).name for r in csv.DictReader((tmp_path / "a.csv").read_text().splitlines())] == [
        "siren.flac",
        "rain.flac",
    ]
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2
    for name in ("audacity", "raven"):
        audiorep("predict", siren, "-o", tmp_path / name, "--format", name)
        assert (tmp_path / name / f"siren.flac.{name}.txt").read_text().count("\n") >= 1


def test_a_bad_file_among_good_ones_costs_nothing_else(tmp_path):
    (tmp_path / "bad.wav").write_text("text")
    files = tmp_path / "bad.wav", SAMPLES / "rain.flac", tmp_path / "gone.wav"
    done = audiorep("predict", *files, "--top", "1", "-o", tmp_path / "out.csv")
    assert done.returncode == 1
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [bool(r["error"]) for r in rows] == [True, False, True]
    assert "gone.wav does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "samples", "-m", "none.onnx"], "none.onnx"),
        (["predict", "a.wav", "-o", "out.xlsx"], "csv, jsonl, audacity, raven"),
        (["predict", "a.wav", "--hop", "99"], "hop 99 s"),
        (["train", "nowhere", "-o", "run"], "nowhere"),
        (["train", "empty", "-o", "run", "--set", "epochs"], "section.key=value"),
        (["train", "empty", "-o", "run", "--set", "epoch=3"], "epoch "),
        (["train", "empty", "-o", "run", "--recipe", "none.toml"], "none.toml"),
        (["train", "empty", "-o", "run"], "empty"),
        (["train", "empty", "-o", "run", "--data-format", "xml"], "csv, shards, esc50"),
        (["export", "empty", "-o", "m.onnx"], "config.json"),
        (["export", "empty", "-o", "m.pt"], ".onnx, .xml, .tflite, .pte, .mlpackage"),
        (["evaluate", "none.onnx", "empty"], "none.onnx"),
        (["data", "check", "empty", "-o", "p.txt"], ".csv or .json"),
        (["models", "info", "empty"], "is not a checkpoint"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(16_000), 16_000)
    done = audiorep(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments", [["predict"], ["predict", "x.wav", "--color"], ["predict", "x", "--top", "0"], ["listen"]]
)
def test_wrong_flags_show_the_usage(arguments):
    done = audiorep(*arguments)
    assert done.returncode == 2
    assert "Usage: audiorep" in done.stderr


def test_version_is_told():
    assert audiorep("--version").stdout.strip() == "0.1.0"


def test_an_empty_folder_or_pattern_among_good_files_costs_nothing_else(tmp_path):
    done = audiorep("predict", SAMPLES / "rain.flac", tmp_path, str(tmp_path / "*.wav"))
    assert done.returncode == 1
    assert "rain" in done.stdout
    assert "is a folder" in done.stderr
    assert "2 of 3 files could not be used" in done.stderr


@pytest.mark.slow
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
def test_the_bundled_model_is_measured_on_other_data_as_a_whole(tmp_path):
    for label in ("rain", "siren"):
        (tmp_path / label).mkdir()
        shutil.copy(SAMPLES / f"{label}.flac", tmp_path / label)
    done = audiorep("evaluate", "esc50", tmp_path)
    assert done.returncode == 2
    assert "split all" in done.stderr
    whole = json.loads(audiorep("evaluate", "esc50", tmp_path, "--split", "all", "--json").stdout)
    assert (whole["clips"], whole["heads"]["label"]["top1"]) == (2, 1.0)


@pytest.mark.slow
def test_window_and_formats_are_as_asked(tmp_path):
    siren = SAMPLES / "siren.flac"
    asked = ("--window", "1", "--hop", "1", "--view", "windows", "--top", "1", "--json")
    labels = json.loads(audiorep("predict", siren, *asked).stdout)["labels"]
    assert [label["start"] for label in labels] == [0, 1, 2, 3, 4]
    audiorep("predict", siren, "-o", tmp_path / "a.csv", "-o", tmp_path / "labels", "--format", "audacity")
    assert (tmp_path / "a.csv").is_file()
    assert (tmp_path / "labels" / "siren.flac.audacity.txt").is_file()
    assert "--output" in audiorep("predict", siren, "--format", "csv").stderr
    assert "twice" in audiorep("predict", siren, "-o", tmp_path / "b.csv", "-o", tmp_path / "b.csv").stderr


def test_models_in_the_package_are_small_and_carry_their_licenses():
    for row in SHIPPED.values():
        sizes = [path.stat().st_size for path in row.folder.iterdir()]
        assert max(sizes) <= 5_000_000
        about = json.loads(audiorep("models", "info", row.name, "--json").stdout)
        assert about["license"] == "Apache-2.0"
        listed = list(csv.DictReader((row.folder / "ATTRIBUTION.csv").read_text().splitlines()))
        assert {"clip", "license"} <= listed[0].keys()
        assert not {line["license"] for line in listed if "NC" in line["license"] or "ND" in line["license"]}
        assert row.name == about["path"].split("/")[-2]
    info = json.loads(audiorep("models", "info", "esc50", "--json").stdout)
    assert len(info["labels"]["label"]) == 51  # and unknown
    assert info["provenance"]["splits"]["test_folds"] == [5]
    assert info["provenance"]["splits"]["licenses"] == ["CC0", "CC-BY"]
    assert info["license"] == "Apache-2.0"


@pytest.mark.slow
def test_events_are_told_by_the_settings_of_a_file(tmp_path):
    settings = tmp_path / "events.toml"
    settings.write_text('on = 0.5\nhang_seconds = 1.0\ndeny = ["crow"]\n')
    asked = ("predict", SAMPLES / "recording.flac", "--model", "esc50", "--events", settings)
    shown = audiorep(*asked, "--view", "events", "--json")
    assert shown.returncode == 0, shown.stderr
    rows = json.loads(shown.stdout)["labels"]
    assert rows
    assert "crow" not in {row["label"] for row in rows}
    assert all(row["end"] > row["start"] for row in rows)
    settings.write_text('deny = ["dragon"]\n')
    for options, reason in [
        (["--events", settings], "dragon is no label of the model"),
        (["--events", settings, "--view", "windows"], "--events goes with --view events alone"),
        (["--events", settings, "--threshold", "0.5"], "leave --threshold out"),
        (["--events", tmp_path / "none.toml"], "cannot be read"),
    ]:
        refused = audiorep("predict", SAMPLES / "recording.flac", "--model", "esc50", *options)
        assert (refused.returncode, reason in refused.stderr) == (2, True), refused.stderr
