"""A search finds settings that are accurate and cheap, and goes on where it stopped."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import re
import signal
import subprocess
import time
from dataclasses import replace

import pytest
import tomlkit
import torch
from safetensors.torch import load_file
from support import processes
from support.commands import audiorep
from support.searches import RECIPE, job, run
from typer.testing import CliRunner

from audiorep import config, datasets, models
from audiorep.cli.main import app
from audiorep.errors import ConfigError, DataError
from audiorep.models import checkpoint
from audiorep.search import outcome, study
from audiorep.search.trial import Rules
from audiorep.training import workflow
from audiorep.training.recipe import configure

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def searched(tones, tmp_path_factory):
    """A finished search through the command line: its folder, its arguments and what it printed."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "base.toml").write_text(tomlkit.dumps(RECIPE))
    lines = ['"network.expansion" = [1, 2, 4]', '"optimizer.learning_rate" = { low = 1e-3, high = 1e-1, log = true }']
    (folder / "space.toml").write_text("\n".join(["[space]", *lines]))
    arguments = ["search", str(tones), "-o", str(folder / "out"), "--trials", "4"]
    arguments += ["--recipe", str(folder / "base.toml"), "--space", str(folder / "space.toml")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return folder, arguments, done


def test_a_search_leaves_table_record_picture_and_recipes(searched):
    folder, _, done = searched
    out = folder / "out"
    record = json.loads((out / "search.json").read_text())
    assert [row["number"] for row in record["trials"]] == [0, 1, 2, 3]
    assert record["trials"][0]["chosen"] == {"network.expansion": 4, "optimizer.learning_rate": 0.01}  # the recipe itself
    assert record["accuracy"] == "top-1 on the 6 validation clips"
    assert record["cost"].startswith("million multiply-accumulates")
    assert record["environment"]["packages"]["optuna"]
    assert record["settings"]["recipe"] == RECIPE
    done_rows = [row for row in record["trials"] if row["state"] == "complete"]
    assert all(0 <= row["accuracy"] <= 1 and row["cost"] > 0 and len(row["epochs"]) == 2 for row in done_rows)
    with (out / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == list("0123")
    assert {row["state"] for row in rows} <= {"complete", "stopped"}
    assert [row["on_front"] for row in rows].count("True") == len(record["best"]) >= 1
    assert (out / "pareto.png").read_bytes().startswith(b"\x89PNG")
    costs = [row["cost"] for row in record["best"]]
    accuracies = [row["accuracy"] for row in record["best"]]
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)
    assert done.stdout.splitlines()[0].split()[:5] == ["recipe", "trial", "top-1", "M", "MACs"]
    assert len(done.stdout.splitlines()) == 1 + len(record["best"])
    assert "24 clips to train on, 6 to judge by" in done.stderr


def test_the_cost_is_that_of_the_fused_network(searched):
    record = json.loads((searched[0] / "out" / "search.json").read_text())
    row = next(row for row in record["trials"] if row["state"] == "complete")
    model = checkpoint.load(searched[0] / "out" / "trials" / str(row["number"]))
    assert row["cost"] == models.cost(model.fuse().model, tuple(model.example().shape)).macs
    assert row["cost"] < models.cost(model.network, tuple(model.example().shape)).macs


def test_a_recipe_it_leaves_trains_the_same_network(searched, tones, tmp_path):
    out = searched[0] / "out"
    [row, *_] = json.loads((out / "search.json").read_text())["best"]
    text = (out / "best_1.toml").read_text()
    assert text.startswith(f"# Trial {row['number']} of a search: top-1 ")
    made = configure(config.read_toml(out / "best_1.toml"), "best_1.toml")
    assert made == configure(
        {
            **RECIPE,
            "network": {**RECIPE["network"], "expansion": row["chosen"]["network.expansion"]},
            "optimizer": {"learning_rate": row["chosen"]["optimizer.learning_rate"]},
        },
        "test",
    )
    evaluations = workflow.train(made, datasets.examples(tones), tones, tmp_path)
    first, again = (load_file(folder / checkpoint.WEIGHTS) for folder in (out / row["checkpoint"], tmp_path))
    assert all(torch.equal(first[name], again[name]) for name in first)
    valid = next(e for e in evaluations if "valid" in e.split)
    assert valid.heads["label"].summary["top1"] == row["accuracy"]


def test_the_same_command_goes_on_to_the_total(searched):
    folder, arguments, _ = searched
    before = json.loads((folder / "out" / "search.json").read_text())["trials"]
    more = ["5" if word == "4" else word for word in arguments]
    done = CliRunner().invoke(app, more)
    after = json.loads((folder / "out" / "search.json").read_text())["trials"]
    assert after[:4] == before
    assert len(after) == 5
    assert sum(line.startswith("Trial ") for line in done.stderr.splitlines()) == 1
    assert "Trial " not in CliRunner().invoke(app, arguments).stderr


@pytest.mark.full
def test_a_stopped_search_draws_what_an_unbroken_one_draws(tones, tmp_path):
    entries = {"network.expansion": [1, 2, 3, 4], "optimizer.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
    rules = Rules(max_cost=1.0)  # none is trained
    run(job(tones, tmp_path / "a", entries, rules), 4)
    for trials in (1, 3, 4):
        found = run(job(tones, tmp_path / "b", entries, rules), trials)
    whole = outcome.outcome(
        job(tones, tmp_path / "a", entries, rules), study.open_study(job(tones, tmp_path / "a", entries, rules))
    )
    assert [row.chosen for row in found.rows] == [row.chosen for row in whole.rows]
    assert len({row.chosen["optimizer.learning_rate"] for row in found.rows}) == 4
    assert {row.reason.partition(";")[2] for row in found.rows} == {" up to 1e-06 M MACs are allowed"}
    assert not (tmp_path / "a" / "trials").exists()


def test_other_settings_or_clips_in_the_same_folder_are_refused(tones, tmp_path):
    run(job(tones, tmp_path, rules=Rules(max_cost=1.0)), 1)
    with pytest.raises(ConfigError, match="max_cost, seed changed"):
        run(job(tones, tmp_path, rules=Rules(seed=1)), 2)
    with pytest.raises(ConfigError, match="space changed"):
        run(job(tones, tmp_path, {"network.expansion": [1]}, Rules(max_cost=1.0)), 2)
    with pytest.raises(ConfigError, match="recipe changed"):
        run(job(tones, tmp_path, rules=Rules(max_cost=1.0), batch_size=4), 2)
    other = job(tones, tmp_path, rules=Rules(max_cost=1.0))
    with pytest.raises(ConfigError, match="clips changed"):
        run(replace(other, clips=replace(other.clips, train=other.clips.train[1:])), 2)
    for wrong in ({"objective": "watts"}, {"sampler": "luck"}, {"epochs": 0}, {"max_cost": 0.0}, {"seed": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong)) if "seed" not in wrong else "negative"):
            Rules(**wrong)


@pytest.mark.full
def test_workers_share_one_storage_and_the_total(tones, tmp_path):
    found = run(job(tones, tmp_path, rules=Rules(epochs=1)), 3, workers=2)
    assert [row.state for row in found.rows] == ["complete"] * 3
    assert len({str(row.chosen) for row in found.rows}) == 3
    assert found.front


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.full)])  # which imports all again
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside other threads
def test_an_error_in_a_worker_ends_the_search_in_words(tones, tmp_path, monkeypatch, method):
    context = multiprocessing.get_context(method)
    monkeypatch.setattr(study.multiprocessing, "get_context", lambda name: context)
    made = job(tones, tmp_path)
    lost = replace(
        made, clips=replace(made.clips, train=tuple(replace(e, path=tmp_path / "none.wav") for e in made.clips.train))
    )
    with pytest.raises(DataError, match="24 training clips"):
        run(lost, 3, workers=2)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.full)])
def test_an_interrupted_search_says_so_and_goes_on_where_its_training_stood(tones, tmp_path, workers):
    (tmp_path / "base.toml").write_text(tomlkit.dumps({**RECIPE, "epochs": 20}))
    (tmp_path / "space.toml").write_text('[space]\n"network.expansion" = [4]')
    out = tmp_path / "out"
    words = ["search", tones, "-o", out, "--trials", 1, "--workers", workers]
    words += ["--recipe", tmp_path / "base.toml", "--space", tmp_path / "space.toml"]
    with processes.started(processes.audiorep(*words), stderr=subprocess.PIPE) as process:
        processes.wait_until((out / "trials" / "0" / "last.ckpt").exists, process)
        os.killpg(process.pid, signal.SIGINT)
        _, said = processes.ended(process, 60)
    assert process.returncode == 130
    assert str(out) in said
    assert "Traceback" not in said
    [row] = json.loads((out / "search.json").read_text())["trials"]
    assert row["state"] == "interrupted"
    assert 0 < len(row["epochs"]) < 20
    done = audiorep(*words)
    assert done.returncode == 0, done.stderr
    [again] = json.loads((out / "search.json").read_text())["trials"]
    assert (again["state"], again["number"], len(again["epochs"])) == ("complete", 1, 20)
    assert again["epochs"][: len(row["epochs"]) - 1] == row["epochs"][:-1]  # the last may have been cut off


def test_two_searches_in_one_folder_are_refused(tones, tmp_path):
    with study._alone(tmp_path), pytest.raises(ConfigError, match=re.escape(str(tmp_path))):
        run(job(tones, tmp_path), 1)


def test_a_journal_that_was_cut_off_is_mended(tones, tmp_path):
    made = job(tones, tmp_path, rules=Rules(max_cost=1.0))
    run(made, 1)
    with (tmp_path / study.JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    (tmp_path / (study.JOURNAL + ".lock")).touch()
    began = time.monotonic()
    assert len(run(made, 2).rows) == 2
    assert time.monotonic() - began < 25  # a lock that no one holds would be waited for
