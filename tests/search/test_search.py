"""A search finds settings that are accurate and cheap, goes on where it stopped, and never hears a test clip."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import torch
from safetensors.torch import load_file
from support import ROOT, processes
from support.training import QUICK, folded
from typer.testing import CliRunner

from audiorep import config, datasets, models
from audiorep.cli.main import app
from audiorep.datasets import Splits
from audiorep.errors import ConfigError, DataError
from audiorep.evaluation.evaluate import evaluate
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.runtimes.torch import TorchSession
from audiorep.search import clips, outcome, space, study, trial
from audiorep.search.study import Budget
from audiorep.search.trial import Rules, behind
from audiorep.training import workflow
from audiorep.training.recipe import TrainConfig, configure

RECIPE = {**QUICK, "network": {"depths": [1], "time_kernels": [3], "frequency_kernels": [3]}, "epochs": 2, "augment": {}}
RECIPES = ROOT / "recipes"
SPACE = {"network.expansion": [1, 2], "optimizer.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}


def read(entries: dict[str, Any], **changes: Any) -> space.Space:
    return space.read({"space": entries}, {**RECIPE, **changes}, "space.toml")


def job(
    root: Path, folder: Path, entries: dict[str, Any] | None = None, rules: Rules | None = None, **changes: Any
) -> trial.Job:
    found = clips.search_clips(datasets.examples(root), Splits(), root.name)
    return trial.Job(read(entries or SPACE, **changes), rules or Rules(), found, folder)


def run(made: trial.Job, trials: int, workers: int = 1) -> outcome.Outcome:
    said: list[str] = []
    return outcome.outcome(made, study.search(made, Budget(trials, workers=workers), said.append))


# ------------------------------------------------------------------ the space


def test_a_list_is_a_choice_and_a_table_a_range():
    found = read(
        {
            "network.depths": [[1, 1], [1, 2, 2]],
            "front_end": ["light", "speech_light"],
            "epochs": {"low": 2, "high": 8, "step": 2},
            "optimizer.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
            "augment": {"mixup": {"low": 0, "high": 0.75, "step": 0.25}},
        }
    )
    kinds = {entry.field: entry for entry in found.entries}
    assert kinds["network.depths"].values == ([1, 1], [1, 2, 2])
    assert kinds["epochs"] == space.Range("epochs", 2, 8, step=2, whole=True)
    assert kinds["optimizer.learning_rate"] == space.Range("optimizer.learning_rate", 1e-3, 1e-2, log=True)
    assert not kinds["augment.mixup"].whole
    drawn = found.chosen(
        {
            "network.depths": "[1, 2, 2]",
            "front_end": '"light"',
            "epochs": 4,
            "optimizer.learning_rate": 0.002,
            "augment.mixup": 0.5,
        }
    )
    made = found.config(drawn)
    assert (made.network["depths"], made.front_end, made.epochs, made.augment.mixup) == ([1, 2, 2], "light", 4, 0.5)
    assert made.network["time_kernels"] == [3]


def test_a_field_of_a_preset_front_end_spells_the_preset_out():
    found = space.read(
        {"space": {"front_end.mels": [32, 40]}}, {"architecture": "arin_pico", "front_end": "light"}, "space.toml"
    )
    made = found.config({"front_end.mels": 40})
    assert made.front_end == replace(TrainConfig().front_end_config, mels=40)
    paper = space.read(
        {"space": {"front_end.mels": [32]}}, {"protocol": "urbansound8k", "architecture": "arin_pico"}, "space.toml"
    )
    assert paper.config({"front_end.mels": 32}).front_end_config.window_ms == 20
    both = space.read({"space": {"front_end.mels": [32], "front_end": ["speech_light"]}}, {}, "space.toml")
    assert both.config({"front_end.mels": 32, "front_end": "speech_light"}).front_end_config.window_ms == 25


WRONG = {
    "network.widht": [8],
    "front_end.bands": [8],
    "nothing": [1],
    "network.width": [],
    "augment.mixup": {"low": 0.8, "high": 0.2},
    "optimizer.learning_rate": {"low": 0.0, "high": 1.0, "log": True},
    "epochs": {"low": 1.5, "high": 3},
    "batch_size": {"low": 8, "high": 33, "step": 8},
    "network.depths": [[1, 1], "deep"],
    "network.expansion": [2, 2],
    "network.time_kernels": {"low": 3, "high": 5},
    "ema_decay": {"low": 0.9},
    "label_smoothing": {"low": 0, "high": 0.1, "steps": 2},
    "front_end": ["loud"],
    "splits.valid_fraction": [0.1, 0.2],
    "seed": 3,
}


def test_every_wrong_entry_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        read(WRONG)
    text = str(caught.value)
    for part in [
        "space.toml: network.widht is not a setting of arin_pico",
        "front_end.bands is not a setting",
        "nothing is not a setting",
        "network.width has no choices",
        "augment.mixup: low 0.8 must be below high 0.2",
        "optimizer.learning_rate: low is 0.0; a logarithmic range starts above 0",
        "epochs has {'low': 1.5, 'high': 3}; whole numbers are needed",
        "batch_size: step 8 must divide the range 8 to 33",
        'network.depths has the choice "deep": input should be a valid tuple',
        "network.expansion names 2 twice",
        "network.time_kernels is no number, so it takes choices, not a range",
        "ema_decay needs low and high",
        "label_smoothing has the unknown key steps",
        "front_end has the choice 'loud'; there are vggsound",
        "splits.valid_fraction must not vary: trials would be judged on different clips",
        "seed is 3; a list of choices or { low = …, high = … } is needed",
    ]:
        assert part in text, part
    with pytest.raises(ConfigError, match=r"needs one table \[space\]"):
        space.read({"network.width": [8]}, RECIPE, "space.toml")
    with pytest.raises(ConfigError, match=r"none of 200 drawn settings is possible; the first: .*kernels"):
        read({"network.time_kernels": [[2], [4]]})


def test_several_architectures_bring_their_own_fields():
    found = space.read(
        {"space": {"architecture": ["arin_pico", "mobilenetv3"], "network.multiplier": [0.4, 1.0]}}, {}, "space.toml"
    )
    assert found.config({"architecture": "mobilenetv3", "network.multiplier": 0.4}).network == {"multiplier": 0.4}
    with pytest.raises(ConfigError, match="multiplier is not a setting"):
        found.config({"architecture": "arin_pico", "network.multiplier": 0.4})


def test_the_recipe_is_found_in_its_space_or_not():
    assert read(
        {"network.depths": [[1], [2]], "front_end.mels": [16, 32], "network.expansion": [2, 4]}
    ).recipe_parameters() == {
        "network.depths": "[1]",
        "front_end.mels": "16",
        "network.expansion": "4",
    }
    assert read({"network.depths": [[2], [3]]}).recipe_parameters() is None
    assert read({"optimizer.learning_rate": {"low": 0.02, "high": 0.1}}).recipe_parameters() is None
    assert read({"epochs": {"low": 2, "high": 6, "step": 2}}).recipe_parameters() == {"epochs": 2}
    assert read({"epochs": {"low": 1, "high": 5, "step": 2}}).recipe_parameters() is None


@pytest.mark.parametrize("path", sorted(RECIPES.glob("search/*.toml")), ids=lambda path: path.stem)
def test_every_space_that_comes_along_fits_its_recipe(path):
    recipe = config.read_toml(RECIPES / f"speech_{path.stem}.toml")
    found = space.read(config.read_toml(path), recipe, path.name)
    assert len(found.entries) >= 10


# ------------------------------------------------------------------ the clips


@pytest.mark.slow
def test_no_trial_is_given_a_test_clip(tones, tmp_path):
    examples = datasets.examples(tones)
    found = clips.search_clips(examples, Splits(), "tones")
    assert {e.split for e in found.both} == {"train", "valid"}
    assert not found.held_out
    tested = {e.path for e in examples if e.split == "test"}
    assert len(tested) == 6
    assert not tested & {e.path for e in found.both}
    made = job(tones, tmp_path)
    run(made, 1)
    record = json.loads((tmp_path / "trials" / "0" / "train.json").read_text())
    assert record["clips"] == {"train": 24, "valid": 6, "test": 0, "digest": record["clips"]["digest"]}


def test_validation_clips_come_from_those_to_train_on_where_the_data_has_none(tones, tmp_path):
    data = folded(tones, tmp_path / "clips.csv", 3)
    examples = datasets.examples(data, splits=Splits(test_folds=(3,)))
    found = clips.search_clips(examples, Splits(test_folds=(3,)), "tones")
    assert found.held_out
    assert (len(found.train), len(found.valid)) == (21, 3)
    assert {e.fold for e in found.both} == {1, 2}
    assert {e.labels["label"] for e in found.valid} == {("high",), ("low",), ("middle",)}
    grouped = [replace(e, group=f"{e.labels} {int(e.path.stem) // 6}") for e in examples]
    apart = clips.search_clips(grouped, Splits(valid_fraction=0.5), "tones")
    assert not {e.group for e in apart.train} & {e.group for e in apart.valid}


def test_data_without_clips_to_judge_by_is_refused(tones, tmp_path):
    data = folded(tones, tmp_path / "clips.csv", 3)
    with pytest.raises(DataError, match="has official folds"):
        clips.search_clips(datasets.examples(data), Splits(), "tones")
    none = Splits(test_folds=(3,), valid_fraction=0.0)
    with pytest.raises(
        DataError, match=r"24 clips to train on and 0 to validate on; .*--valid-fold, or set splits.valid_fraction"
    ):
        clips.search_clips(datasets.examples(data, splits=none), none, "tones")


# ------------------------------------------------------------------ the median rule


def test_a_trial_is_behind_where_its_best_epoch_is_below_the_median_of_trials_that_cost_no_more():
    peers = [(1.0, [0.2, 0.5, 0.9]), (2.0, [0.3, 0.6]), (3.0, [0.4, 0.7]), (9.0, [0.9, 0.9])]
    assert behind([0.1, 0.4], 3.0, peers, startup=3) == 0.6
    assert behind([0.1, 0.7], 3.0, peers, startup=3) is None
    assert behind([0.65, 0.1], 3.0, peers, startup=3) is None  # its best so far counts
    assert behind([0.1, 0.4], 2.0, peers, startup=3) is None  # too few cost no more
    assert behind([0.1, 0.4, 0.8], 3.0, peers, startup=1) == 0.9  # only one has come as far
    assert behind([0.1], 3.0, [], startup=0) is None


# ------------------------------------------------------------------ searches


@pytest.fixture(scope="module")
def searched(tones, tmp_path_factory):
    """A finished search through the command line: its folder, its arguments and what it printed."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "base.toml").write_text(tomlkit.dumps(RECIPE))
    lines = ['"network.expansion" = [1, 2, 4]', '"optimizer.learning_rate" = { low = 1e-3, high = 1e-1, log = true }']
    (folder / "space.toml").write_text("\n".join(["[space]", *lines]))
    arguments = ["search", str(tones), "-o", str(folder / "out"), "--trials", "5"]
    arguments += ["--recipe", str(folder / "base.toml"), "--space", str(folder / "space.toml")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return folder, arguments, done


def test_a_search_leaves_table_record_picture_and_recipes(searched):
    folder, _, done = searched
    out = folder / "out"
    record = json.loads((out / "search.json").read_text())
    assert [row["number"] for row in record["trials"]] == [0, 1, 2, 3, 4]
    assert record["trials"][0]["chosen"] == {"network.expansion": 4, "optimizer.learning_rate": 0.01}  # the recipe itself
    assert record["accuracy"] == "top-1 on the 6 validation clips"
    assert record["cost"].startswith("million multiply-accumulates")
    assert record["environment"]["packages"]["optuna"]
    assert record["settings"]["recipe"] == RECIPE
    done_rows = [row for row in record["trials"] if row["state"] == "complete"]
    assert all(0 <= row["accuracy"] <= 1 and row["cost"] > 0 and len(row["epochs"]) == 2 for row in done_rows)
    with (out / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == list("01234")
    assert {row["state"] for row in rows} <= {"complete", "stopped"}
    assert [row["on_front"] for row in rows].count("True") == len(record["best"]) >= 1
    assert (out / "pareto.png").read_bytes().startswith(b"\x89PNG")
    costs = [row["cost"] for row in record["best"]]
    accuracies = [row["accuracy"] for row in record["best"]]
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)
    assert done.stdout.splitlines()[0].split()[:5] == ["recipe", "trial", "top-1", "M", "MACs"]
    assert len(done.stdout.splitlines()) == 1 + len(record["best"])
    assert "24 clips to train on, 6 to judge by; those to test on are not used." in done.stderr


def test_the_cost_is_that_of_the_fused_network(searched):
    record = json.loads((searched[0] / "out" / "search.json").read_text())
    row = next(row for row in record["trials"] if row["state"] == "complete")
    model = checkpoint.load(searched[0] / "out" / "trials" / str(row["number"]))
    assert row["cost"] == models.cost(model.fuse().model, tuple(model.example().shape)).macs
    assert row["cost"] < models.cost(model.network, tuple(model.example().shape)).macs


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_same_command_goes_on_to_the_total(searched):
    folder, arguments, _ = searched
    before = json.loads((folder / "out" / "search.json").read_text())["trials"]
    more = ["7" if word == "5" else word for word in arguments]
    done = CliRunner().invoke(app, more)
    after = json.loads((folder / "out" / "search.json").read_text())["trials"]
    assert after[:5] == before
    assert len(after) == 7
    assert sum(line.startswith("Trial ") for line in done.stderr.splitlines()) == 2
    assert "Trial " not in CliRunner().invoke(app, arguments).stderr


@pytest.mark.slow
def test_a_stopped_search_draws_what_an_unbroken_one_draws(tones, tmp_path):
    entries = {"network.expansion": [1, 2, 3, 4], "optimizer.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
    rules = Rules(max_cost=1.0)  # none is trained
    run(job(tones, tmp_path / "a", entries, rules), 6)
    for trials in (2, 3, 6):
        found = run(job(tones, tmp_path / "b", entries, rules), trials)
    whole = outcome.outcome(
        job(tones, tmp_path / "a", entries, rules), study.open_study(job(tones, tmp_path / "a", entries, rules))
    )
    assert [row.chosen for row in found.rows] == [row.chosen for row in whole.rows]
    assert len({row.chosen["optimizer.learning_rate"] for row in found.rows}) == 6
    assert {row.reason.partition(";")[2] for row in found.rows} == {" up to 1e-06 M MACs are allowed"}
    assert not (tmp_path / "a" / "trials").exists()


@pytest.mark.slow
def test_other_settings_or_clips_in_the_same_folder_are_refused(tones, tmp_path):
    run(job(tones, tmp_path, rules=Rules(max_cost=1.0)), 1)
    with pytest.raises(ConfigError, match=r"holds a search with other settings \(max_cost, seed changed\)"):
        run(job(tones, tmp_path, rules=Rules(seed=1)), 2)
    with pytest.raises(ConfigError, match=r"\(space changed\)"):
        run(job(tones, tmp_path, {"network.expansion": [1]}, Rules(max_cost=1.0)), 2)
    with pytest.raises(ConfigError, match=r"\(recipe changed\)"):
        run(job(tones, tmp_path, rules=Rules(max_cost=1.0), batch_size=4), 2)
    other = job(tones, tmp_path, rules=Rules(max_cost=1.0))
    with pytest.raises(ConfigError, match=r"\(clips changed\)"):
        run(replace(other, clips=replace(other.clips, train=other.clips.train[1:])), 2)
    for wrong in ({"objective": "watts"}, {"sampler": "luck"}, {"epochs": 0}, {"max_cost": 0.0}, {"seed": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong)) if "seed" not in wrong else "negative"):
            Rules(**wrong)


@pytest.mark.slow
def test_settings_seen_before_are_not_trained_again(tones, tmp_path):
    found = run(job(tones, tmp_path, {"network.expansion": [4, 2]}, Rules(startup_trials=99)), 6)
    first = {row.chosen["network.expansion"]: row for row in reversed(found.rows)}
    repeated = [row for row in found.rows if row.same_as is not None]
    assert len(repeated) == 6 - len(first) >= 4
    for row in repeated:
        original = first[row.chosen["network.expansion"]]
        assert (row.same_as, row.accuracy, row.cost) == (original.number, original.accuracy, original.cost)
        assert row.seconds == 0
    assert not {row.number for row in repeated} & {row.number for row in found.front}
    assert sorted(path.name for path in (tmp_path / "trials").iterdir()) == sorted(str(row.number) for row in first.values())


@pytest.mark.slow
def test_a_trial_that_falls_behind_is_stopped_and_marked(tones, tmp_path):
    entries = {"optimizer.learning_rate": [0.01, 1e-6, 2e-6, 0.02, 0.03]}
    rules = Rules(epochs=8, warmup_epochs=2, startup_trials=1)
    found = run(job(tones, tmp_path, entries, rules, ema_decay=0.0), 12)
    slow = [row for row in found.rows if row.chosen["optimizer.learning_rate"] < 1e-5 and row.same_as is None and row.number]
    assert slow
    for row in slow:
        assert (row.state, row.accuracy) == ("stopped", None)
        assert 3 <= len(row.epochs) < 8
        assert "median of trials that cost no more" in row.reason
        assert not (tmp_path / "trials" / str(row.number)).exists()
    assert found.rows[0].state == "complete"
    outcome.write(job(tones, tmp_path, entries, rules, ema_decay=0.0), found, "audiorep search")
    with (tmp_path / "trials.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == [row.state for row in found.rows]


@pytest.mark.slow
def test_settings_that_cannot_be_or_diverge_are_stopped_with_their_reason(tones, tmp_path):
    entries = {"network.time_kernels": [[3], [4]], "optimizer.learning_rate": [0.01, 1e30]}
    found = run(job(tones, tmp_path, entries, gradient_clip=0.0, ema_decay=0.0), 10)
    reasons = {
        (tuple(row.chosen["network.time_kernels"]), row.chosen["optimizer.learning_rate"]): row.reason for row in found.rows
    }
    assert reasons[(3,), 0.01] == ""
    assert "must be odd" in reasons[(4,), 0.01]
    assert reasons[(3,), 1e30] == "training diverged in epoch 1: its loss is no number"
    assert not [row for row in found.rows if row.chosen["network.time_kernels"] == [4] and row.epochs]


@pytest.mark.slow
def test_workers_share_one_storage_and_the_total(tones, tmp_path):
    found = run(job(tones, tmp_path), 5, workers=2)
    assert [row.state for row in found.rows] == ["complete"] * 5
    assert len({str(row.chosen) for row in found.rows}) == 5
    assert found.front


@pytest.mark.slow
def test_an_error_in_a_worker_ends_the_search_in_words(tones, tmp_path):
    made = job(tones, tmp_path)
    lost = replace(
        made, clips=replace(made.clips, train=tuple(replace(e, path=tmp_path / "none.wav") for e in made.clips.train))
    )
    with pytest.raises(DataError, match="None of the 24 training clips can be read"):
        run(lost, 3, workers=2)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [pytest.param("latency", marks=pytest.mark.slow), "parameters"])
def test_other_costs_can_be_kept_small(tones, tmp_path, objective):
    found = run(job(tones, tmp_path, {"network.width": [8, 64]}, Rules(objective, epochs=1)), 4)
    costs = {row.chosen["network.width"]: row.cost for row in found.rows}
    assert costs[8] < costs[64]
    if objective == "latency":
        record = json.loads((tmp_path / "reference.json").read_text())
        assert record["threads"] == 1
        assert costs[8] == pytest.approx(record["milliseconds"], rel=0.5)  # the reference is this network


@pytest.mark.slow
def test_several_labels_are_judged_by_mean_average_precision(tones, tmp_path):
    made = job(tones, tmp_path, {"network.expansion": [4]}, multi_label=True)
    found = run(made, 1)
    model = checkpoint.load(tmp_path / "trials" / "0")
    scored = evaluate(Classifier(TorchSession(model)), made.clips.valid, "valid")
    assert found.metric == "mean average precision"
    assert found.rows[0].accuracy == scored.heads["label"].summary["mean_average_precision"]
    assert all(value < 0 for value in found.rows[0].epochs)  # trials are compared by their loss


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.full)])
def test_an_interrupted_search_says_so_and_goes_on_where_its_training_stood(tones, tmp_path, workers):
    (tmp_path / "base.toml").write_text(tomlkit.dumps({**RECIPE, "epochs": 60}))
    (tmp_path / "space.toml").write_text('[space]\n"network.expansion" = [4]')
    out = tmp_path / "out"
    command = processes.audiorep("search", tones, "-o", out, "--trials", 1, "--workers", workers)
    command += ["--recipe", str(tmp_path / "base.toml"), "--space", str(tmp_path / "space.toml")]
    with processes.started(command, stderr=subprocess.PIPE) as process:
        processes.wait_until((out / "trials" / "0" / "last.ckpt").exists, process)
        os.killpg(process.pid, signal.SIGINT)
        _, said = processes.ended(process, 60)
    assert process.returncode == 130
    assert f"Stopped. The same command goes on in {out}" in said
    assert "Traceback" not in said
    [row] = json.loads((out / "search.json").read_text())["trials"]
    assert row["state"] == "interrupted"
    assert 0 < len(row["epochs"]) < 60
    done = processes.run(command)
    assert done.returncode == 0, done.stderr
    [again] = json.loads((out / "search.json").read_text())["trials"]
    assert (again["state"], again["number"], len(again["epochs"])) == ("complete", 1, 60)
    assert again["epochs"][: len(row["epochs"]) - 1] == row["epochs"][:-1]  # the last may have been cut off


@pytest.mark.slow
def test_validation_clips_that_cannot_be_read_are_refused(tones, tmp_path):
    made = job(tones, tmp_path)
    lost = tuple(replace(e, path=tmp_path / f"{n}.wav") for n, e in enumerate(made.clips.valid))
    with pytest.raises(DataError, match="None of the validation clips can be read"):
        run(replace(made, clips=replace(made.clips, valid=lost)), 1)


@pytest.mark.slow
def test_the_other_sampler_draws_too(tones, tmp_path):
    found = run(job(tones, tmp_path, rules=Rules(sampler="nsga2", max_cost=1.0)), 4)
    assert len({str(row.chosen) for row in found.rows}) == 4


@pytest.mark.slow
def test_two_searches_in_one_folder_are_refused(tones, tmp_path):
    with study._alone(tmp_path), pytest.raises(ConfigError, match="Another search is running in"):
        run(job(tones, tmp_path), 1)


@pytest.mark.slow
def test_a_journal_that_was_cut_off_is_mended(tones, tmp_path):
    made = job(tones, tmp_path, rules=Rules(max_cost=1.0))
    run(made, 1)
    with (tmp_path / study.JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    (tmp_path / (study.JOURNAL + ".lock")).touch()
    began = time.monotonic()
    assert len(run(made, 2).rows) == 2
    assert time.monotonic() - began < 25  # a lock that no one holds would be waited for


# ------------------------------------------------------------------ the outcome


def row(number: int, accuracy: float, price: float) -> outcome.Row:
    return outcome.Row(number, "complete", accuracy, price, {}, [accuracy], 1.0, None, "")


def test_the_front_holds_what_none_beats_in_both_ends():
    rows = [row(0, 0.9, 5.0), row(1, 0.8, 2.0), row(2, 0.7, 3.0), row(3, 0.95, 9.0), row(4, 0.9, 6.0), row(5, 0.8, 2.0)]
    assert [found.number for found in outcome.pareto_front(rows)] == [1, 0, 3]
    assert outcome.pareto_front([]) == []
