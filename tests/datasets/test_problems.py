"""Each kind of problem in a data set is found where it is and nowhere else."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiorep import datasets
from audiorep.datasets import Example
from audiorep.datasets.problems import KINDS, Problem, find_problems, write

RATE = 8000


def sound(seed: int, seconds: float = 0.5, level: float = 0.5) -> np.ndarray:
    """Noise that is another for each seed."""
    return np.random.default_rng(seed).uniform(-level, level, round(RATE * seconds)).astype(np.float32)


class Folder:
    """A data set in the making."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.examples: list[Example] = []

    def add(self, name: str, samples: np.ndarray | None, label: str = "dog", rate: int = RATE, **fields: object) -> Path:
        path = self.root / name
        if samples is not None:
            whole = np.isfinite(samples).all()
            # integers, because libsndfile rounds floats differently for WAV and FLAC
            soundfile.write(
                path, np.round(samples * 32767).astype(np.int16) if whole else samples, rate, None if whole else "FLOAT"
            )
        self.examples.append(Example(path, {"label": (label,)}, **{"split": "train", **fields}))
        return path

    def problems(self) -> dict[tuple[str, str], str]:
        """{(kind, file or class): detail}, each of which is there once."""
        found = find_problems(self.examples)
        named = {(problem.kind, Path(problem.subject).name): problem.detail for problem in found}
        assert len(named) == len(found)
        return named


@pytest.fixture
def data(tmp_path) -> Folder:
    """Ten clips without fault, among them a speaker's in one split and the same length of silence nowhere."""
    folder = Folder(tmp_path)
    for k in range(10):
        folder.add(f"good{k}.wav", sound(k), ["dog", "cat"][k % 2], group=f"speaker{k // 2}")
    return folder


def test_clean_data_has_no_problem(data):
    assert data.problems() == {}


def test_no_clips_have_no_problem():
    assert find_problems([]) == []


def test_every_kind_of_problem_is_found_once_where_it_is_and_the_good_clips_have_none(data):
    for k in range(10, 35):
        data.add(f"good{k}.wav", sound(k))
    data.add("missing.wav", None)
    data.add("text.wav", None).write_text("no sound")
    data.add("empty.wav", np.zeros(0, np.float32))
    truncated = data.add("truncated.wav", sound(101))
    truncated.write_bytes(truncated.read_bytes()[:3000])
    data.add("nan.wav", np.where(np.arange(4000) == 1234, np.nan, sound(102)))
    data.add("silent.wav", sound(103, level=5e-4))
    data.add("clipped.wav", np.clip(sound(104, level=1.1), -1, 1))
    data.add("flipped.wav", sound(109)[:, None] * [1, -1])
    data.add("short.wav", sound(105, seconds=0.05))
    data.add("odd.wav", sound(106), rate=11025)
    data.add("duplicate.flac", sound(2))
    data.add("leak.flac", sound(3), "cat", split="test")
    data.add("leaking_speaker.wav", sound(107), split="valid", group="speaker4")
    data.add("conflict.flac", sound(4), "cat")
    data.add("rare.wav", sound(108), "cow")
    for k in range(5):
        data.add(f"capital{k}.wav", sound(109 + k), "Cat")
    data.add("composed.wav", sound(120), "dog", spelled=(" dog",))
    found = data.problems()
    assert set(found) == {
        ("missing", "missing.wav"),
        ("unreadable", "text.wav"),
        ("empty", "empty.wav"),
        ("truncated", "truncated.wav"),
        ("non-finite", "nan.wav"),
        ("silent", "silent.wav"),
        ("clipped", "clipped.wav"),
        ("opposite phase", "flipped.wav"),
        ("too short", "short.wav"),
        ("odd rate", "odd.wav"),
        ("duplicate", "duplicate.flac"),
        ("leak", "leak.flac"),
        ("leak", "leaking_speaker.wav"),
        ("label conflict", "conflict.flac"),
        ("imbalance", "cow"),
        ("look-alike", "Cat"),
        ("spelling", "dog"),
    }
    assert {kind for kind, _ in found} == set(KINDS) - {"damaged shard"}  # of which tests/test_shards.py has every way
    assert "does not exist" in found["missing", "missing.wav"]
    assert "promises 0.50 s, 0.18 s can be read" in found["truncated", "truncated.wav"]
    assert found["silent", "silent.wav"] == "peak -66 dB"
    assert found["clipped", "clipped.wav"] == "8.9% of its samples are at full scale"
    assert found["opposite phase", "flipped.wav"].startswith(
        "its channels are in opposite phase and cancel each other out; chan"
    )
    assert found["too short", "short.wav"] == "0.050 s; 0.1 s are asked for"
    assert found["odd rate", "odd.wav"] == "11025 Hz; most have 8000 Hz"
    assert found["duplicate", "duplicate.flac"] == f"same sound as {data.root / 'good2.wav'}"
    assert found["leak", "leak.flac"] == f"same sound as {data.root / 'good3.wav'} (train and test)"
    assert found["leak", "leaking_speaker.wav"] == f"group speaker4, as {data.root / 'good8.wav'} (train and valid)"
    assert found["label conflict", "conflict.flac"] == f"same sound as {data.root / 'good4.wav'} (dog and cat)"
    assert found["look-alike", "Cat"] == "5 clips; looks like 'cat' (7 clips) and differs in letter case"
    assert found["spelling", "dog"].startswith("written in 2 ways, which are read as one class: ' dog' (1 clips), 'dog' (")
    assert found["imbalance", "cow"].startswith("1 clips; the largest class has ")


def test_corrupt_file_hides_nothing_that_is_wrong_with_the_others(data):
    broken = data.add("broken.flac", sound(50))
    broken.write_bytes(broken.read_bytes()[:200] + bytes(500))
    data.add("long" + "g" * 300 + ".wav", None)
    data.add("after.wav", sound(0), split="test")
    found = data.problems()
    assert {(kind, name) for kind, name in found if kind not in ("unreadable", "truncated")} == {("leak", "after.wav")}
    assert {name for kind, name in found if kind in ("unreadable", "truncated")} == {
        "broken.flac",
        "long" + "g" * 300 + ".wav",
    }


def test_leak_between_labels_tells_both(data):
    data.add("leak.wav", sound(0), "cat", split="test")
    assert data.problems()["leak", "leak.wav"] == f"same sound as {data.root / 'good0.wav'} (train and test; dog and cat)"


def test_stretches_of_one_file_are_not_duplicates_unless_they_are_the_same(tmp_path):
    soundfile.write(tmp_path / "long.wav", sound(0, 3), RATE)
    clips = [Example(tmp_path / "long.wav", {"label": ("dog",)}, float(k), k + 1.0, "train") for k in range(3)]
    assert find_problems(clips) == []
    [problem] = find_problems([*clips, clips[1]])
    assert problem.kind == "duplicate"


def test_stretch_outside_its_file_is_a_problem(data):
    data.add("late.wav", sound(77), start=2.0, end=3.0)
    assert "lasts 0.50 s; the stretch from 2 s to 3 s is not inside it" in data.problems()["unreadable", "late.wav"]


def test_silences_are_silent_rather_than_duplicates_of_each_other(data):
    for k in range(2):
        data.add(f"zero{k}.wav", np.zeros(4000))
    assert set(data.problems()) == {("silent", "zero0.wav"), ("silent", "zero1.wav")}


def test_class_of_exactly_a_tenth_is_no_imbalance(tmp_path):
    folder = Folder(tmp_path)
    for k in range(20):
        folder.add(f"{k}.wav", sound(k, 0.2))
    folder.add("a.wav", sound(21, 0.2), "cat")
    folder.add("b.wav", sound(22, 0.2), "cat")
    assert folder.problems() == {}
    folder.examples.pop()
    assert set(folder.problems()) == {("imbalance", "cat")}


def test_shortest_length_is_what_is_asked_for(data):
    assert find_problems(data.examples, shortest_seconds=0.5) == []
    assert {problem.kind for problem in find_problems(data.examples, shortest_seconds=0.51)} == {"too short"}


def test_progress_is_told_for_every_clip_also_for_bad_ones(data):
    data.add("missing.wav", None)
    told: list[int] = []
    find_problems(data.examples, on_progress=told.append)
    assert sum(told) == 11


def test_data_set_from_disk_is_checked_as_it_was_split(tmp_path):
    for split, seed in (("train", 0), ("test", 0)):
        (tmp_path / split / "dog").mkdir(parents=True)
        soundfile.write(tmp_path / split / "dog" / f"{split}.flac", sound(seed), RATE)
    assert [problem.kind for problem in find_problems(datasets.examples(tmp_path))] == ["leak"]


PROBLEMS = [
    Problem("missing", "a, b.wav", 'no file "a, b.wav"'),
    Problem("imbalance", "größe 音", "1 clips"),
    Problem("missing", os.fsdecode(b"\xff.wav"), "x"),
]


def test_problems_survive_the_trip_through_csv(tmp_path):
    write(PROBLEMS[:2], tmp_path / "new" / "problems.csv")
    with (tmp_path / "new" / "problems.csv").open(newline="", encoding="utf-8") as file:
        assert [Problem(**row) for row in csv.DictReader(file)] == PROBLEMS[:2]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["problems.csv"]


def test_problems_survive_the_trip_through_json(tmp_path):
    write(PROBLEMS, tmp_path / "problems.json")
    assert [Problem(**row) for row in json.loads((tmp_path / "problems.json").read_text(encoding="utf-8"))] == PROBLEMS


def test_name_that_is_not_utf_8_is_written_so_that_it_can_be_read(tmp_path):
    write(PROBLEMS, tmp_path / "problems.csv")
    assert "\\udcff.wav" in (tmp_path / "problems.csv").read_text(encoding="utf-8")


def test_no_problems_are_a_header_alone(tmp_path):
    write([], tmp_path / "problems.csv")
    assert (tmp_path / "problems.csv").read_text().strip() == "kind,subject,detail"
