"""What happens to the copying into shards is noticed and mended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import processes
from support.commands import Done, audiorep
from support.shards import RATE, digests, folder

from audiorep import datasets
from audiorep.datasets import Example, shards
from audiorep.datasets.prepare import prepare
from audiorep.errors import ConfigError, DataError


def cli(*words: object) -> list[str]:
    return processes.audiorep("data", *words)


def run(*words: object) -> Done:
    return audiorep("data", *words)


def wait_for_a_shard(output: Path, process: subprocess.Popen[str]) -> None:
    processes.wait_until(lambda: list(output.glob("*-*.json")), process)


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte_and_a_second_run_writes_nothing(tmp_path, processes_of_its_own):
    sources = datasets.listed_examples(folder(tmp_path / "data"))
    counts: list[int] = []
    first = prepare(sources, None, tmp_path / "one", RATE, 3, 1, counts.append)
    prepare(sources, None, tmp_path / "three", RATE, 3, 3)
    assert digests(tmp_path / "one") == digests(tmp_path / "three")
    assert sum(counts) == 10
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").glob("all-*")}
    assert prepare(sources, None, tmp_path / "one", RATE, 3, 2, counts.append) == first
    assert sum(counts) == 20
    assert {path: path.stat().st_mtime_ns for path in written} == written


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    data = folder(tmp_path / "data", 120, 44_100, 100_000)
    words = ["prepare", data, "--shard-clips", 4, "--workers", 2, "-o"]
    assert run(*words, tmp_path / "whole").returncode == 0
    output = tmp_path / "killed"
    with processes.started(cli(*words, output)) as process:
        wait_for_a_shard(output, process)
        process.kill()
        process.wait(timeout=30)
        kept = {path: path.stat().st_mtime_ns for path in output.glob("all-*.json") if path.with_suffix(".tar").exists()}
        assert 0 < len(kept) < 30
        with pytest.raises(DataError, match=f"data prepare .* -o {output}"):
            datasets.examples(output)
        assert run("check", output).returncode == 2
        time.sleep(0.5)  # the workers end with the run they belong to
        left = digests(output)
        time.sleep(0.5)
        assert digests(output) == left
    done = run(*words, output)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("120 clips in 30 shards, ")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert digests(output) == digests(tmp_path / "whole")  # so nothing temporary is left either


@pytest.mark.slow
def test_ctrl_c_stops_the_workers_and_leaves_whole_shards(tmp_path):
    data, output = folder(tmp_path / "data", 120, 44_100, 100_000), tmp_path / "out"
    command = cli("prepare", data, "-o", output, "--shard-clips", 4, "--workers", 2)
    with processes.started(command, stderr=subprocess.PIPE) as process:
        wait_for_a_shard(output, process)
        os.killpg(process.pid, signal.SIGINT)
        _, said = processes.ended(process, 60)
    assert process.returncode == 130
    assert said.startswith("Stopped")
    assert said.count("\n") == 1
    names = {path.name for path in output.iterdir()}
    assert "unfinished.json" in names
    assert not [name for name in names if name.startswith(".")]
    assert all(name.replace(".tar", ".json") in names for name in names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-512]), "were written"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"fLaC", b"fLaX", 1)), "is not the bytes that were written"),
    ],
    ids=["cut off", "missing", "changed"],
)
def test_a_damaged_shard_is_found_and_made_again(tmp_path, damage, says):
    data, output = folder(tmp_path / "data"), tmp_path / "out"
    assert run("prepare", data, "-o", output, "--shard-clips", 4, "--sample-rate", RATE).returncode == 0
    whole = digests(output)
    assert shards.verify(output) == {}
    assert run("check", output).stdout == "10 clips, 0 problems\n"
    damaged = output / "all-000001.tar"
    damage(damaged)
    assert list(shards.verify(output)) == [damaged]
    assert says in shards.verify(output)[damaged]
    checked = run("check", output, "--json")
    found = [problem for problem in json.loads(checked.stdout) if problem["kind"] == "damaged shard"]
    assert checked.returncode == 1
    assert [problem["subject"] for problem in found] == [str(damaged)]
    if "bytes that" in says:  # only reading all of it shows this, and so does the end of the next run
        again = run("prepare", data, "-o", output, "--shard-clips", 4, "--sample-rate", RATE)
        assert again.returncode == 1
        assert f"{damaged} is not the bytes that were written" in again.stderr
        damaged.unlink()
    else:
        with pytest.raises(DataError, match=r"all-000001\.tar"):
            datasets.examples(output)
    assert run("prepare", data, "-o", output, "--shard-clips", 4, "--sample-rate", RATE).returncode == 0
    assert digests(output) == whole


def test_a_lost_list_of_clips_is_found_and_made_again(tmp_path):
    sources, output = datasets.listed_examples(folder(tmp_path / "data")), tmp_path / "out"
    prepare(sources, None, output, RATE, 4, 1)
    whole = digests(output)
    (output / "all-000000.json").write_text('{"plan": ')
    assert "has no list of its clips" in shards.verify(output)[output / "all-000000.tar"]
    with pytest.raises(DataError, match=r"all-000000\.json"):
        datasets.examples(output)
    prepare(sources, None, output, RATE, 4, 1)
    assert digests(output) == whole


@pytest.mark.parametrize("changed", ["rate", "size", "data", "labels", "unfinished"])
def test_shards_of_another_plan_are_refused(tmp_path, changed):
    sources, output = datasets.listed_examples(folder(tmp_path / "data")), tmp_path / "out"
    prepare(sources, None, output, RATE, 4, 1)
    if changed == "unfinished":
        (output / "index.json").rename(tmp_path / "index.json")
        (output / "unfinished.json").write_text('{"format": "audiorep shards", "version": 1, "plan": "another"}')
    before = digests(output)
    labels = {"label": ["dog", "cat"]} if changed == "labels" else None
    rate, size = 4000 if changed == "rate" else RATE, 5 if changed == "size" else 4
    with pytest.raises(DataError, match=str(output)):
        prepare(sources[:9] if changed == "data" else sources, labels, output, rate, size, 1)
    assert digests(output) == before


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    sources, output = datasets.listed_examples(folder(tmp_path / "data")), tmp_path / "out"
    output.mkdir()
    (output / "all-000000.tar").write_text("someone's")
    with pytest.raises(DataError, match="is not empty"):
        prepare(sources, None, output, RATE)
    assert (output / "all-000000.tar").read_text() == "someone's"
    with pytest.raises(ConfigError, match="sample_rate 700000"):
        prepare(sources, None, tmp_path / "new", 700_000)
    with pytest.raises(DataError, match="no clips"):
        prepare([], None, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_unreadable_clips_are_recorded_and_stop_nothing(tmp_path):
    data, output = folder(tmp_path / "data", 20), tmp_path / "out"
    for k in range(6):
        (data / ["cat", "dog"][k % 2] / f"{k:03d}.wav").write_bytes(b"" if k else b"no sound at all")
    done = run("prepare", data, "-o", output, "--shard-clips", 8, "--workers", 1, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "clips": 14, "shards": 3, "bytes": sum(path.stat().st_size for path in output.glob("*.tar")), "failed": 6
    }  # fmt: skip
    assert done.stderr.count("Error: ") == 5
    assert f"Error: {data / 'cat' / '000.wav'} cannot be read as audio" in done.stderr
    assert f"6 of 20 clips could not be read; {output / 'index.json'} lists them." in done.stderr
    index = json.loads((output / "index.json").read_text())
    assert [failure["path"] for failure in index["failures"]] == sorted(
        str(data / ["cat", "dog"][k % 2] / f"{k:03d}.wav") for k in range(6)
    )
    beside = [json.loads(path.read_text())["failures"] for path in output.glob("all-*.json")]
    assert sorted((f for failures in beside for f in failures), key=lambda f: f["key"]) == index["failures"]
    assert len(datasets.examples(output)) == 14
    assert run("prepare", data, "-o", output, "--shard-clips", 8).returncode == 1


def test_where_nothing_can_be_read_nothing_is_left(tmp_path):
    examples = [Example(tmp_path / f"{k}.wav", {"label": ("x",)}) for k in range(3)]
    with pytest.raises(DataError, match=r"0\.wav"):
        prepare(examples, None, tmp_path / "out", RATE, 2, 1)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_an_error_that_is_no_clips_fault_stops_the_run(tmp_path, processes_of_its_own):
    sources, output = datasets.listed_examples(folder(tmp_path / "data")), tmp_path / "out"
    (output / "all-000001.tar" / "in the way").mkdir(parents=True)
    prepare(sources, None, tmp_path / "good", RATE, 4, 1)
    marker = {key: json.loads((tmp_path / "good" / "index.json").read_text())[key] for key in ("format", "version", "plan")}
    (output / "unfinished.json").write_text(json.dumps(marker))
    with pytest.raises(ConfigError, match=r"all-000001\.tar"):
        prepare(sources, None, output, RATE, 4, 2)
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
