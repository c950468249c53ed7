"""Which places are worth a label next, and copies in a collection."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors import safe_open
from support import SAMPLES, processes

import audiorep
from audiorep.audio.decode import Stretch
from audiorep.embeddings.duplicates import duplicates
from audiorep.embeddings.index import Index
from audiorep.embeddings.suggest import _unlike, labelled, suggest
from audiorep.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An index of the samples, and a model that was taught two of them, one after the other."""
    folder = tmp_path_factory.mktemp("suggest")
    audiorep.embed([SAMPLES], folder / "index")
    audiorep.teach("nano", {"my rooster": SAMPLES / "rooster.flac"}, folder / "one.onnx")
    audiorep.teach(folder / "one.onnx", {"my crow": SAMPLES / "crow.flac"}, folder / "mine.onnx")
    return folder


@pytest.mark.parametrize("label", ["my rooster", "my crow"])
def test_scores_are_those_that_the_model_gives(place, label):
    mine = audiorep.load(place / "mine.onnx")
    number = mine.info.labels["label"].index(label)
    with Index(place / "index") as index:
        found = suggest(index, place / "mine.onnx", label, 5)
    assert len({row.path for row in found}) == 5
    chosen = {row.path.name: row for row in found}
    for row in found:
        heard = mine(row.path)
        window = int(np.abs(heard.starts - row.start).argmin())
        assert row.score == pytest.approx(float(heard.scores["label"][window, number]), abs=0.01)
    scores = {path: mine(path).scores["label"][:, number] for path in SAMPLES.glob("*.flac")}
    best = max(scores, key=lambda path: scores[path].max())
    assert chosen[best.name].score == pytest.approx(float(scores[best].max()), abs=0.01)
    for row in found[2:]:  # after those that score high
        doubt = np.abs(scores[SAMPLES / row.path.name] - 0.5)
        assert abs(row.score - 0.5) == pytest.approx(float(doubt.min()), abs=0.01)


def test_places_that_have_a_label_are_left_out(place):
    with Index(place / "index") as index:
        before = suggest(index, place / "mine.onnx", "my crow", 3)
        known = [Stretch(row.path, row.start, row.end) for row in before]
        after = suggest(index, place / "mine.onnx", "my crow", 3, known)
        assert len(after) == 3
        for row in after:
            assert all(row.path != old.path or row.end <= old.start - 5 or row.start >= old.end + 5 for old in known)
        whole = [Stretch(path) for path in index.paths()]
        assert suggest(index, place / "mine.onnx", "my crow", 3, whole) == []
        assert [row.path for row in suggest(index, place / "mine.onnx", "my crow", 3, whole[1:])] == [whole[0].path]


def test_each_is_unlike_those_before_and_those_that_are_known():
    units = np.eye(4)[[0, 0, 1, 1, 2, 3]]
    assert _unlike(units, 4, units[:0]) == [0, 2, 4, 5]
    assert _unlike(units, 2, units[[0, 2]]) == [4, 5]
    assert _unlike(units[:0], 3, units) == []
    assert sorted(_unlike(units, 10, units[:0])) == list(range(6))


@pytest.mark.parametrize(("model", "label"), [("mine.onnx", "Siren"), ("mine.onnx", "dragon"), ("nano", "Siren")])
def test_a_class_that_was_not_taught_is_refused(place, model, label):
    with Index(place / "index") as index, pytest.raises(ConfigError, match="was not taught"):
        suggest(index, place / model if "." in model else model, label)


@pytest.mark.slow
def test_a_table_goes_back_in(place, tmp_path):
    words = ["suggest", place / "index", "--model", place / "mine.onnx", "--class", "my crow", "-n", 4]
    done = processes.run(processes.audiorep(*words, "-o", tmp_path / "next.csv", "-o", tmp_path / "next.html"))
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert len(shown) == 4
    assert (tmp_path / "next.html").read_text().count("<audio") == 4
    assert b"\r" not in (tmp_path / "next.csv").read_bytes()
    rows = list(csv.DictReader((tmp_path / "next.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == [""] * 4
    for row, label in zip(rows, ["my crow", "none", "", "my owl"], strict=True):
        row["label"] = label
    with (tmp_path / "filled.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    found = labelled(tmp_path / "filled.csv")
    assert {name: len(places) for name, places in found.items()} == {"my crow": 1, "none": 1, "my owl": 1}
    assert found["my crow"][0] == Stretch(Path(rows[0]["path"]), float(rows[0]["start"]), float(rows[0]["end"]))
    words = [
        "teach",
        "nano",
        f"my crow={SAMPLES / 'crow.flac'}",
        "--labels",
        tmp_path / "filled.csv",
        "-o",
        tmp_path / "new.onnx",
    ]
    told = processes.run(processes.audiorep(*words, "-o", tmp_path / "new.onnx", "--json"))
    assert told.returncode == 0, told.stderr
    assert [(row["name"], row["clips"]) for row in json.loads(told.stdout)["classes"]] == [("my crow", 2), ("my owl", 1)]
    words = ["suggest", place / "index", "--model", place / "mine.onnx", "--class", "my crow", "-n", 2]
    done = processes.run(processes.audiorep(*words, "--labels", tmp_path / "filled.csv"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert not {*done.stdout.splitlines()} & {*shown[:2]}


@pytest.mark.slow
def test_the_layer_can_be_taken_elsewhere(place, tmp_path):
    done = processes.run(processes.audiorep("head", "export", place / "mine.onnx", "-o", tmp_path / "a.safetensors"))
    assert done.returncode == 0, done.stderr
    assert "my rooster, my crow" in done.stderr
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert json.loads(file.metadata()["labels"]) == ["my rooster", "my crow"]
        weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
    mine = audiorep.load(place / "mine.onnx")
    scores = mine.uncalibrated()(SAMPLES / "crow.flac").scores["label"][:, -2:]
    logits = mine.embed(SAMPLES / "crow.flac").vectors @ weight.T + bias
    assert scores == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-4)
    done = processes.run(processes.audiorep("head", "export", "nano", "-o", tmp_path / "b.safetensors"))
    assert done.returncode == 2
    assert "was taught nothing; audiorep teach makes one" in done.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("path,start\na.wav,1\n", "columns path, start, end, score, label are needed"),
        ("path,start,end,score,label\na.wav,one,2,0.5,x\n", "columns path"),
        ("path,start,end,score,label\na.wav,1,2,0.5,\n", "holds no labels"),
        ("", "holds no labels"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, content, reason):
    (tmp_path / "next.csv").write_text(content)
    with pytest.raises(DataError, match=reason):
        labelled(tmp_path / "next.csv")
    with pytest.raises(DataError, match=r"none\.csv is no table of labels: No such file"):
        labelled(tmp_path / "none.csv")


def test_copies_are_found_and_other_sounds_are_not(tmp_path):
    for name in ("siren", "crow", "rain", "fireworks"):
        samples, rate = soundfile.read(SAMPLES / f"{name}.flac")
        soundfile.write(tmp_path / f"{name}.wav", samples, rate)
    samples, rate = soundfile.read(SAMPLES / "siren.flac")
    soundfile.write(tmp_path / "again.ogg", 0.5 * samples[rate // 2 : 3 * rate], rate)
    audiorep.embed([tmp_path], tmp_path / "index")
    with Index(tmp_path / "index") as index:
        [pair] = duplicates(index, 0.97)
        assert {pair.first.name, pair.second.name} == {"again.ogg", "siren.wav"}
        assert 0.97 < pair.score <= 1.0
        assert len(duplicates(index, 0.0)) == 10
    done = processes.run(processes.audiorep("duplicates", tmp_path / "index", "--above", 0.97))
    assert done.returncode == 0, done.stderr
    assert "again.ogg" in done.stdout
    assert "1 pair of sounds" in done.stderr


def test_an_empty_collection_has_no_copies(tmp_path):
    with Index.create(tmp_path / "index", audiorep.load("nano")) as index:
        assert duplicates(index) == []
