"""A run that was killed goes on where it was, with the same result as one that was not, and refuses to mix two runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes

import audiorep
from audiorep.errors import ConfigError
from audiorep.predict.batch import Batch
from audiorep.predict.journal import Journal
from audiorep.shipped import SHIPPED


@pytest.fixture
def sounds(tmp_path) -> Path:
    """Four sounds, one of which cannot be read."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("crow", "rain", "siren"):
        shutil.copy(SAMPLES / f"{name}.flac", folder)
    (folder / "bad.wav").write_text("no sound")
    return folder


def predict(*words: object, **options):
    return processes.run(processes.audiorep("predict", *words), **options)


def batch_of(files: list[Path], model: str = "esc50", **settings) -> Batch:
    return Batch(audiorep.load(model), SHIPPED[model].file, files, **settings)


def heard(batch: Batch, place: Path) -> list[str]:
    """The names of the files that are heard with a journal."""
    with Journal(place, batch.run(), batch.classifier.info) as journal:
        waiting = [file for file in batch.files if not journal.state(file)]
        for result, detections in batch.hear(waiting):
            journal.add(result, detections)
    return [file.name for file in waiting]


def test_what_was_heard_is_not_heard_again(sounds, tmp_path):
    batch = batch_of(sorted(sounds.iterdir()))
    place = tmp_path / "out.csv.journal"
    assert heard(batch, place) == ["bad.wav", "crow.flac", "rain.flac", "siren.flac"]
    assert heard(batch, place) == []
    with Journal(place, batch.run(), batch.classifier.info) as journal:
        assert [journal.state(file) for file in batch.files] == ["failed", "done", "done", "done"]
        found = [(result.path.name, [each.label for each in detections]) for result, detections in journal.results(batch.files)]
    assert found == [("bad.wav", []), ("crow.flac", ["crow"]), ("rain.flac", ["rain"]), ("siren.flac", ["siren"])]


def test_a_file_that_changed_is_heard_again(sounds, tmp_path):
    batch = batch_of(sorted(sounds.iterdir()))
    heard(batch, tmp_path / "journal")
    shutil.copy(SAMPLES / "siren.flac", sounds / "crow.flac")
    os.utime(sounds / "rain.flac", (1, 1))
    assert heard(batch, tmp_path / "journal") == ["crow.flac", "rain.flac"]


def test_channels_of_a_file_are_kept_together(tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(0).uniform(-0.1, 0.1, (16_000, 2)), 16_000)
    batch = batch_of([tmp_path / "a.wav", tmp_path / "b.wav"], channel="each")
    place = tmp_path / "journal"
    results = list(batch.hear(batch.files))
    with pytest.raises(ZeroDivisionError), Journal(place, batch.run(), batch.classifier.info) as journal:  # noqa: PT012
        for result, detections in results[:3]:
            journal.add(result, detections)
        raise ZeroDivisionError
    assert heard(batch, place) == ["b.wav"]
    with Journal(place, batch.run(), batch.classifier.info) as journal:
        assert [(result.path.name, result.channel) for result, _ in journal.results(batch.files)] == [
            ("a.wav", 1), ("a.wav", 2), ("b.wav", 1), ("b.wav", 2)
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"top": 2}, "top"), ({"threshold": 0.4}, "threshold"), ({"view": "windows"}, "view"), ({"channel": "left"}, "channel")],
)
def test_a_run_with_other_settings_is_refused(sounds, tmp_path, settings, what):
    files = sorted(sounds.iterdir())
    heard(batch_of(files), tmp_path / "journal")
    with pytest.raises(ConfigError, match=f"of a run with another {what}"):
        heard(batch_of(files, **settings), tmp_path / "journal")
    with pytest.raises(ConfigError, match="of a run with another model"):
        heard(batch_of(files, "nano"), tmp_path / "journal")


def test_two_processes_do_not_write_one_journal(tmp_path):
    batch = batch_of([])
    with (
        Journal(tmp_path / "journal", batch.run(), batch.classifier.info),
        pytest.raises(ConfigError, match="in use: another run"),
    ):
        Journal(tmp_path / "journal", batch.run(), batch.classifier.info)


@pytest.mark.parametrize("content", [b"path,start\n" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "journal").write_bytes(content)
    batch = batch_of([])
    with pytest.raises(ConfigError, match=r"is no journal|cannot be written"):
        Journal(tmp_path / "journal", batch.run(), batch.classifier.info)
    assert (tmp_path / "journal").read_bytes() == content


@pytest.mark.slow
def test_the_command_goes_on_and_writes_every_format_from_what_it_heard(sounds, tmp_path):
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    assert predict(sounds, "-o", whole).returncode == 1
    first = predict(sounds, "-o", out, "--resume")
    assert first.returncode == 1
    assert out.read_bytes() == whole.read_bytes()
    again = predict(sounds, "-o", out, "-o", tmp_path / "out.jsonl")
    assert again.returncode == 1
    assert "4 of 4 files were heard before, 1 in vain (--retry-failed)" in again.stderr
    assert again.stdout == ""
    assert out.read_bytes() == whole.read_bytes()
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4
    shutil.copy(SAMPLES / "crow.flac", sounds / "bad.wav")
    os.utime(sounds / "bad.wav", (1, 1))
    last = predict(sounds, "-o", out, "--json")
    assert last.returncode == 0
    assert json.loads(last.stdout)["path"].endswith("bad.wav")
    assert not (tmp_path / "out.csv.journal").exists()


@pytest.mark.slow
def test_failures_are_tried_again_where_that_is_asked_for(sounds, tmp_path):
    out = tmp_path / "out.csv"
    predict(sounds, "-o", out, "--resume")
    again = predict(sounds, "-o", out, "--retry-failed")
    assert again.returncode == 1
    assert "3 of 4 files were heard before." in again.stderr
    assert "bad.wav cannot be read as audio" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_was_ended_goes_on_to_the_same_table(tmp_path, number):
    folder = tmp_path / "sounds"
    folder.mkdir()
    names = sorted(path for path in SAMPLES.glob("*.flac") if path.name != "recording.flac")
    for place in range(600):
        (folder / f"{place:04}.flac").symlink_to(names[place % len(names)])
    out, journal = tmp_path / "out.csv", tmp_path / "out.csv.journal"
    ends = [0.4, 1.0] if number == signal.SIGKILL else [0.6]
    for after in ends:
        with processes.started(processes.audiorep("predict", folder, "-o", out), stdout=-3, stderr=-3) as process:
            processes.wait_until(journal.exists, process)
            time.sleep(after)
            process.send_signal(number)
            process.wait(60)
    if number == signal.SIGKILL:
        assert not out.exists()
    else:
        assert 2 < len(out.read_text().splitlines()) < 600
    last = predict(folder, "-o", out)
    assert last.returncode == 0, last.stderr
    whole = predict(folder, "-o", tmp_path / "whole.csv", "--no-resume")
    assert whole.returncode == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not journal.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--resume"], "--resume needs a file or folder"),
        (["--retry-failed"], "--retry-failed goes with --resume and --output"),
        (["--resume", "-o", "/dev/stdout", "--format", "csv"], "--resume needs a file or folder"),
    ],
)
def test_a_journal_needs_a_place(sounds, words, sentence):
    done = predict(sounds, *words)
    assert done.returncode == 2
    assert sentence in done.stderr


@pytest.mark.slow
def test_a_journal_of_another_run_is_left_unless_that_is_asked_for(sounds, tmp_path):
    out = tmp_path / "out.csv"
    predict(sounds, "-o", out, "--resume")
    before = out.read_bytes()
    refused = predict(sounds, "-o", out, "--model", "esc50")
    assert refused.returncode == 2
    assert "of a run with another model" in refused.stderr
    assert out.read_bytes() == before
    assert predict(sounds, "-o", out, "--model", "esc50", "--no-resume").returncode == 1
    assert not (tmp_path / "out.csv.journal").exists()


def test_what_is_kept_survives_the_process(sounds, tmp_path):
    """Half of it is on the disk before the end; the rest is lost with the process, and heard again."""
    batch = batch_of(sorted(sounds.iterdir()))
    place = tmp_path / "journal"
    journal = Journal(place, batch.run(), batch.classifier.info)
    for number, (result, detections) in enumerate(batch.hear(batch.files)):
        journal._synced = -np.inf if number < 2 else np.inf  # as if the last write were long ago, or just now
        journal.add(result, detections)
    shutil.copy(place, tmp_path / "copy")
    journal._table.close()
    assert heard(batch, tmp_path / "copy") == ["rain.flac", "siren.flac"]
    assert sqlite3.connect(tmp_path / "copy").execute("SELECT COUNT(*) FROM files").fetchone() == (4,)
