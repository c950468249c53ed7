"""What other programs read of our results is what was found, complete also when the run was not."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from support.info import make_info

from audiorep.errors import AudioError, ConfigError
from audiorep.predict.output import COLUMNS, RAVEN_COLUMNS, Outputs, as_dict
from audiorep.predict.results import Detection, Failure, Recording

FOUND = [
    Detection(0.0, 1.0, "label", 'dog, "big"', 0.98765),
    Detection(1.5, 2.25, "label", "größe 音", 0.5),
]


def recording(path: Path, complete: bool = True) -> Recording:
    scores = {"label": np.zeros((1, 3))}
    return Recording(path, make_info(), 2.25, np.zeros(1), scores, complete)


def failure(path: Path) -> Failure:
    return Failure(path, AudioError(f"{path} is empty (0 bytes).\nRe-export, or re-copy.", "empty"))


def leftovers(folder: Path) -> list[str]:
    """Files under a temporary name."""
    return [path.name for path in folder.rglob("*") if ".part" in path.name]


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_for_each_label_and_one_for_each_failure(tmp_path):
    good, bad = tmp_path / "a,b.wav", tmp_path / "bad.wav"
    with Outputs([tmp_path / "out.csv"], None, [good, bad]) as outputs:
        outputs.write(recording(good), FOUND)
        outputs.write(failure(bad), [])
        outputs.write(recording(good), [])
    rows = csv_rows(tmp_path / "out.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [tuple(row.values()) for row in rows] == [
        (str(good), "0.000", "1.000", "label", 'dog, "big"', "0.9877", ""),
        (str(good), "1.500", "2.250", "label", "größe 音", "0.5000", ""),
        (str(bad), "", "", "", "", "", f"{bad} is empty (0 bytes).\nRe-export, or re-copy."),
    ]
    assert leftovers(tmp_path) == []


def test_json_lines_have_an_object_for_each_file(tmp_path):
    good, bad = tmp_path / "a.wav", tmp_path / "bad.wav"
    with Outputs([tmp_path / "out.jsonl"], None, [good, bad]) as outputs:
        outputs.write(recording(good, complete=False), FOUND)
        outputs.write(failure(bad), [])
    text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert "größe 音" in text
    assert [json.loads(line) for line in text.splitlines()] == [
        {
            "path": str(good),
            "seconds": 2.25,
            "complete": False,
            "labels": [
                {"start": 0.0, "end": 1.0, "head": "label", "label": 'dog, "big"', "score": 0.9877},
                {"start": 1.5, "end": 2.25, "head": "label", "label": "größe 音", "score": 0.5},
            ],
        },
        {"path": str(bad), "error": f"{bad} is empty (0 bytes).\nRe-export, or re-copy."},
    ]


def test_object_of_a_file_is_plain_values(tmp_path):
    values = as_dict(recording(tmp_path / "a.wav"), FOUND[:1])
    assert json.loads(json.dumps(values)) == values


def test_audacity_labels_are_start_end_and_name(tmp_path):
    with Outputs([tmp_path / "labels"], "audacity", [tmp_path / "a.wav"]) as outputs:
        outputs.write(recording(tmp_path / "a.wav"), FOUND)
    lines = (tmp_path / "labels" / "a.wav.audacity.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    assert [(float(start), float(end), text) for start, end, text in rows] == [
        (0.0, 1.0, 'dog, "big" 0.99'),
        (1.5, 2.25, "größe 音 0.50"),
    ]


def test_raven_table_has_its_columns_and_numbered_selections(tmp_path):
    with Outputs([tmp_path / "labels"], "raven", [tmp_path / "a.wav"]) as outputs:
        outputs.write(recording(tmp_path / "a.wav"), FOUND)
    header, *lines = (tmp_path / "labels" / "a.wav.raven.txt").read_text(encoding="utf-8").splitlines()
    assert tuple(header.split("\t")) == RAVEN_COLUMNS
    assert [line.split("\t") for line in lines] == [
        ["1", "Spectrogram 1", "1", "0.000000", "1.000000", "0.0", "500.0", 'dog, "big"', "0.9877"],
        ["2", "Spectrogram 1", "1", "1.500000", "2.250000", "0.0", "500.0", "größe 音", "0.5000"],
    ]


@pytest.mark.parametrize("format", ["audacity", "raven"])
def test_files_of_the_same_name_in_different_folders_do_not_collide(tmp_path, format):
    paths = [tmp_path / "in" / name for name in ("x/a.wav", "y/a.wav", "y/a.flac", "y/z/a.wav")]
    with Outputs([tmp_path / "out"], format, paths) as outputs:
        for number, path in enumerate(paths):
            outputs.write(recording(path), [Detection(number, number + 1.0, "label", "dog", 1.0)])
    suffix = f".{format}.txt"
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt"))
    assert written == sorted(name + suffix for name in ("x/a.wav", "y/a.wav", "y/a.flac", "y/z/a.wav"))
    assert "3.000000\t4.000000" in (tmp_path / "out" / f"y/z/a.wav{suffix}").read_text()
    assert leftovers(tmp_path) == []


def test_recordings_of_one_folder_need_no_folder_inside_the_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [Path("a.wav"), tmp_path / "b.wav"]  # named in two ways
    with Outputs([Path("out")], "raven", paths) as outputs:
        for path in paths:
            outputs.write(recording(path), [])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav.raven.txt", "b.wav.raven.txt"]


def test_failure_has_no_label_file(tmp_path):
    with Outputs([tmp_path / "out"], "audacity", [tmp_path / "bad.wav"]) as outputs:
        outputs.write(failure(tmp_path / "bad.wav"), [])
    assert not (tmp_path / "out").exists()


def test_recording_without_labels_has_an_empty_label_file(tmp_path):
    with Outputs([tmp_path / "out"], "audacity", [tmp_path / "a.wav"]) as outputs:
        outputs.write(recording(tmp_path / "a.wav"), [])
    assert (tmp_path / "out" / "a.wav.audacity.txt").read_text() == ""


def test_files_are_complete_when_the_user_stops_the_run(tmp_path):
    paths = [tmp_path / "out.csv", tmp_path / "out.jsonl"]

    def run() -> None:
        with Outputs(paths, None, [tmp_path / "a.wav"]) as outputs:
            outputs.write(recording(tmp_path / "a.wav"), FOUND)
            assert sorted(leftovers(tmp_path)) == [".out.part.csv", ".out.part.jsonl"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(csv_rows(paths[0])) == 2
    assert len(paths[1].read_text().splitlines()) == 1
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [AudioError, RuntimeError, BrokenPipeError, OSError, MemoryError, SystemExit, GeneratorExit])
def test_a_run_that_breaks_off_leaves_no_table_that_looks_complete(tmp_path, error):
    (tmp_path / "old.csv").write_text("older")

    def run() -> None:
        with Outputs([tmp_path / "old.csv", tmp_path / "new.jsonl"], None, [tmp_path / "a.wav"]) as outputs:
            outputs.write(recording(tmp_path / "a.wav"), FOUND)
            raise error("stop")

    with pytest.raises(error):
        run()
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "older"


def test_file_has_its_name_only_when_it_is_complete(tmp_path):
    (tmp_path / "out.csv").write_text("older")
    with Outputs([tmp_path / "out.csv"], None, []):
        assert (tmp_path / "out.csv").read_text() == "older"
    assert csv_rows(tmp_path / "out.csv") == []


def test_folders_that_are_missing_are_made(tmp_path):
    with Outputs([tmp_path / "x" / "y" / "out.csv"], None, []):
        pass
    assert (tmp_path / "x" / "y" / "out.csv").read_text().strip() == ",".join(COLUMNS)


@pytest.mark.parametrize("name", ["out.CSV", "out.txt"])
def test_format_that_is_given_wins_over_the_suffix_and_its_case(tmp_path, name):
    with Outputs([tmp_path / name], None if name == "out.CSV" else "csv", []):
        pass
    assert (tmp_path / name).read_text().startswith("path,")


def test_recording_whose_name_is_not_utf_8_costs_the_others_nothing(tmp_path):
    odd = tmp_path / os.fsdecode(b"\xff.wav")
    paths = [tmp_path / "out.csv", tmp_path / "out.jsonl"]
    with Outputs(paths, None, [odd]) as outputs:
        outputs.write(recording(odd), FOUND)
        outputs.write(recording(tmp_path / "b.wav"), FOUND)
    assert [Path(row["path"]).name for row in csv_rows(paths[0])] == ["\\udcff.wav"] * 2 + ["b.wav"] * 2
    lines = [json.loads(line) for line in paths[1].read_text(encoding="utf-8").splitlines()]
    assert lines[0]["path"] == str(odd)
    assert lines[1]["path"] == str(tmp_path / "b.wav")


# ---------------------------------------------------------------- refusals


def refusal(paths: list[Path], format: str | None = None) -> str:
    """What the outputs are refused with, before anything is heard; the text names the file."""
    with pytest.raises(ConfigError) as caught:
        Outputs(paths, format, [])
    assert str(paths[-1]) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "problem"), [("out.xlsx", "the format 'xlsx' is not known"), ("out", "no format is given")])
def test_unknown_format_is_refused_with_those_there_are(tmp_path, name, problem):
    assert f"{problem}; --format takes csv, jsonl, audacity, raven." in refusal([tmp_path / name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["audacity", "raven"])
def test_file_in_place_of_the_folder_is_refused(tmp_path, format):
    (tmp_path / "out").touch()
    assert "is a file" in refusal([tmp_path / "out"], format)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_folder_in_place_of_the_file_is_refused_before_the_work_is_done(tmp_path, format):
    (tmp_path / "out").mkdir()
    assert "is a folder; this format writes one file" in refusal([tmp_path / "out"], format)
    assert leftovers(tmp_path) == []


def test_path_below_a_file_is_refused_with_the_reason(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written: " in refusal([tmp_path / "file" / "out.csv"])


def test_refused_output_leaves_the_others_as_they_were(tmp_path):
    (tmp_path / "good.csv").write_text("older")
    refusal([tmp_path / "good.csv", tmp_path / "new.jsonl", tmp_path / "bad.xlsx"])
    assert [path.name for path in tmp_path.iterdir()] == ["good.csv"]
    assert (tmp_path / "good.csv").read_text() == "older"
