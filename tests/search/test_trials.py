"""A trial costs what its merged network does, is stopped where it is of no use, and hears no clip that is for tests."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from support.searches import job, run

from audiorep import datasets
from audiorep.datasets import Splits
from audiorep.errors import DataError
from audiorep.evaluation.evaluate import evaluate
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.runtimes.torch import TorchSession
from audiorep.search import clips, outcome
from audiorep.search.trial import Rules

pytestmark = pytest.mark.slow


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


def test_settings_seen_before_are_not_trained_again(tones, tmp_path):
    found = run(job(tones, tmp_path, {"network.expansion": [4, 2]}, Rules(startup_trials=99, epochs=1)), 5)
    first = {row.chosen["network.expansion"]: row for row in reversed(found.rows)}
    repeated = [row for row in found.rows if row.same_as is not None]
    assert len(repeated) == 5 - len(first) >= 3
    for row in repeated:
        original = first[row.chosen["network.expansion"]]
        assert (row.same_as, row.accuracy, row.cost) == (original.number, original.accuracy, original.cost)
        assert row.seconds == 0
    assert not {row.number for row in repeated} & {row.number for row in found.front}
    assert sorted(path.name for path in (tmp_path / "trials").iterdir()) == sorted(str(row.number) for row in first.values())


@pytest.mark.full
def test_a_trial_that_falls_behind_is_stopped_and_marked(tones, tmp_path):
    entries = {"optimizer.learning_rate": [0.01, 1e-6, 2e-6, 0.02, 0.03]}
    rules = Rules(epochs=6, warmup_epochs=2, startup_trials=1)
    found = run(job(tones, tmp_path, entries, rules, ema_decay=0.0), 8)
    slow = [row for row in found.rows if row.chosen["optimizer.learning_rate"] < 1e-5 and row.same_as is None and row.number]
    assert slow
    for row in slow:
        assert (row.state, row.accuracy) == ("stopped", None)
        assert 3 <= len(row.epochs) < 6
        assert "median of trials that cost no more" in row.reason
        assert not (tmp_path / "trials" / str(row.number)).exists()
    assert found.rows[0].state == "complete"
    outcome.write(job(tones, tmp_path, entries, rules, ema_decay=0.0), found, "audiorep search")
    with (tmp_path / "trials.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == [row.state for row in found.rows]


def test_settings_that_cannot_be_or_diverge_are_stopped_with_their_reason(tones, tmp_path):
    entries = {"network.time_kernels": [[3], [4]], "optimizer.learning_rate": [0.01, 1e30]}
    found = run(job(tones, tmp_path, entries, gradient_clip=0.0, ema_decay=0.0), 8)
    reasons = {
        (tuple(row.chosen["network.time_kernels"]), row.chosen["optimizer.learning_rate"]): row.reason for row in found.rows
    }
    assert reasons[(3,), 0.01] == ""
    assert "must be odd" in reasons[(4,), 0.01]
    assert reasons[(3,), 1e30].startswith("training diverged in epoch 1")
    assert not [row for row in found.rows if row.chosen["network.time_kernels"] == [4] and row.epochs]


@pytest.mark.parametrize("objective", [pytest.param("latency", marks=pytest.mark.full), "parameters"])
def test_other_costs_can_be_kept_small(tones, tmp_path, objective):
    found = run(job(tones, tmp_path, {"network.width": [8, 64]}, Rules(objective, max_cost=1e-9)), 4)  # none is trained
    costs = {row.chosen["network.width"]: row.cost for row in found.rows}
    assert costs[8] < costs[64]
    if objective == "latency":
        record = json.loads((tmp_path / "reference.json").read_text())
        assert record["threads"] == 1
        assert costs[8] == pytest.approx(record["milliseconds"], rel=0.5)  # the reference is this network


def test_several_labels_are_judged_by_mean_average_precision(tones, tmp_path):
    made = job(tones, tmp_path, {"network.expansion": [4]}, multi_label=True)
    found = run(made, 1)
    model = checkpoint.load(tmp_path / "trials" / "0")
    scored = evaluate(Classifier(TorchSession(model)), made.clips.valid, "valid")
    assert found.metric == "mean average precision"
    assert found.rows[0].accuracy == scored.heads["label"].summary["mean_average_precision"]
    assert all(value < 0 for value in found.rows[0].epochs)  # trials are compared by their loss


def test_validation_clips_that_cannot_be_read_are_refused(tones, tmp_path):
    made = job(tones, tmp_path)
    lost = tuple(replace(e, path=tmp_path / f"{n}.wav") for n, e in enumerate(made.clips.valid))
    with pytest.raises(DataError, match="validation clips"):
        run(replace(made, clips=replace(made.clips, valid=lost)), 1)


@pytest.mark.full
def test_the_other_sampler_draws_too(tones, tmp_path):
    found = run(job(tones, tmp_path, rules=Rules(sampler="nsga2", max_cost=1.0)), 4)
    assert len({str(row.chosen) for row in found.rows}) == 4
