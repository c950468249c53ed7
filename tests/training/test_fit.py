"""Training learns, repeats and resumes, and keeps what the settings say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.training import QUICK, folded, quick, weights

from audiorep import datasets
from audiorep.errors import CheckpointError, DataError
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.training import fit, loaders, workflow
from audiorep.training.module import Trainee
from audiorep.training.recipe import ScheduleConfig


@pytest.mark.slow
def test_training_learns_and_says_so_of_clips_it_never_saw(trained):
    output, evaluations = trained
    test = evaluations[0]
    assert test.title == f"{test.split} (6 clips)"
    assert test.split.startswith("random test split of tones")
    assert test.heads["label"].summary["top1"] == 1.0
    values = json.loads((output / "metrics.json").read_text())
    assert values["test"]["heads"]["label"]["top1"] == 1.0
    assert values["test"]["clips"] == 6


@pytest.mark.slow
def test_a_run_leaves_checkpoint_card_pictures_logs_and_its_clips(trained):
    output, _ = trained
    names = {path.name for path in output.iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "README.md",
        "metrics.json",
        "curves.png",
        "confusion.png",
        "reliability.png",
        "clips.csv",
    } <= names
    assert {"last.ckpt", "best.ckpt", "train.json", "logs"} <= names
    assert not [name for name in names if ".part" in name]
    parts = [path.name for path in (output / "logs" / "part_1").iterdir()]
    assert "metrics.csv" in parts
    assert any(name.startswith("events.out.tfevents") for name in parts)
    card = (output / "README.md").read_text()
    assert "test split" in card
    assert "Weakest classes" in card
    assert "expected calibration error" in card
    assert all((output / name).read_bytes().startswith(b"\x89PNG") for name in ("curves.png", "confusion.png"))
    assert len(datasets.examples(output / "clips.csv", "train")) == 24


@pytest.mark.slow
def test_the_checkpoint_is_the_classifier(trained, tones):
    classifier = Classifier.load(trained[0])
    assert classifier.file(tones / "high" / "0.wav").label == "high"
    assert classifier.info.labels == {"label": ["high", "low", "middle"]}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_does_not(tones, tmp_path):
    examples = datasets.examples(tones)
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        fit.fit(quick(seed=seed), examples, tmp_path / name)
    first, again, other = (weights(tmp_path / name) for name in ("first", "again", "other"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])


@pytest.mark.slow
def test_workers_change_nothing(tones, tmp_path):
    examples = datasets.examples(tones)
    for workers in (0, 2):
        fit.fit(quick(workers=workers), examples, tmp_path / str(workers))
    alone, helped = weights(tmp_path / "0"), weights(tmp_path / "2")
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


@pytest.mark.slow
@pytest.mark.parametrize("fractions", [{"valid_fraction": 0.0}, {}])
def test_a_finished_run_run_again_keeps_its_averaged_weights(tones, tmp_path, fractions):
    settings = quick(ema_decay=0.99, splits=fractions)
    examples = datasets.examples(tones, splits=settings.splits)
    fit.fit(settings, examples, tmp_path)
    first = weights(tmp_path)
    raw = torch.load(tmp_path / fit.LAST, weights_only=True)["current_model_state"]
    fit.fit(settings, examples, tmp_path)
    again = weights(tmp_path)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.conv.weight"], raw["network.stem.conv.weight"])


@pytest.mark.slow
def test_unreadable_clips_are_left_out_and_named(tones, tmp_path):
    broken = tones.parent / "broken.wav"
    broken.write_bytes(b"no audio")
    examples = [*datasets.examples(tones), datasets.Example(broken, {"label": ("low",)}, split="train")]
    said: list[str] = []
    fit.fit(quick(epochs=1), examples, tmp_path, say=said.append)
    assert sum(line.startswith("Left out:") and "broken.wav" in line for line in said) == 1
    assert any(line.startswith("epoch 1/1: ") and "train loss" in line for line in said)


@pytest.mark.slow
def test_multi_label_clips_train_with_sigmoids(tones, tmp_path):
    examples = [
        datasets.Example(
            e.path, {"label": ("sound",) if e.labels["label"] == ("low",) else ("sound", *e.labels["label"])}, split=e.split
        )
        for e in datasets.examples(tones)
    ]
    evaluations = workflow.train(quick(multi_label=True, balance="weights"), examples, tones, tmp_path)
    assert evaluations[0].heads["label"].confusion is None
    info = checkpoint.load(tmp_path).info
    assert (info.task, info.labels["label"]) == ("multi-label", ["high", "middle", "sound"])
    recording = Classifier.load(tmp_path).file(examples[0].path)
    assert recording.mean().sum() != pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_two_heads_train_and_are_measured_together(tones, tmp_path):
    examples = [
        replace(e, labels={"pitch": e.labels["label"], "parity": (("even", "odd")[int(e.path.stem) % 2],)})
        for e in datasets.examples(tones)
    ]
    evaluations = workflow.train(quick(epochs=1), examples, tones, tmp_path)
    assert set(evaluations[0].heads) == {"pitch", "parity"}
    assert set(Classifier.load(tmp_path).file(examples[0].path).scores) == {"pitch", "parity"}
    assert {"confusion_pitch.png", "confusion_parity.png", "best.ckpt"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"balance": "weights"}, {"balance": "sampling"}, {"label_smoothing": 0.1}, {"ema_decay": 0.0}]
)
@pytest.mark.parametrize("optimizer", [{"name": "sgd", "learning_rate": 0.01, "weight_decay": 1e-4}])
def test_other_settings_train_too(tones, tmp_path, changes, optimizer):
    fit.fit(quick(epochs=1, optimizer=optimizer, **changes), datasets.examples(tones), tmp_path)
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())


@pytest.mark.slow
def test_noise_is_taken_from_recordings(tones, tmp_path):
    augment = {"noise": 1.0, "noise_folder": str(tones / "low")}
    fit.fit(quick(epochs=1, augment=augment), datasets.examples(tones), tmp_path)
    assert (tmp_path / checkpoint.WEIGHTS).exists()


def test_weight_decay_spares_norms_and_biases():
    trainee = Trainee(quick(), {"label": ["a", "b"]}, 10, {})
    groups = trainee.configure_optimizers()["optimizer"].param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decays == {id(p): 0.05 if p.ndim > 1 else 0 for p in trainee.network.parameters()}


def test_cosine_and_step_schedules_follow_their_numbers():
    cosine = ScheduleConfig("cosine", warmup_epochs=2)
    assert [cosine.factor(e, 10) for e in (0, 1, 5, 10)] == pytest.approx([0, 0.5 * 0.9755283, 0.5, 0], abs=1e-6)
    step = ScheduleConfig("step", milestones=(30, 40), factors=(0.1, 0.01))
    assert [step.factor(e, 50) for e in (0.1, 30, 30.1, 40.1, 49)] == pytest.approx([1, 1, 0.1, 0.01, 0.01])


@pytest.mark.slow
def test_frozen_norms_keep_their_statistics_and_still_learn(tones, trained, tmp_path):
    start, _ = trained
    output = fit.fit(
        quick(start=str(start), freeze_norms=True, keep="last", ema_decay=0, epochs=2), datasets.examples(tones), tmp_path / "f"
    )
    before, after = weights(start), weights(output)
    for name in before:
        moved = not torch.equal(before[name], after[name])
        if "running_" in name:
            assert moved == name.startswith("stem."), name
        elif name.endswith(("conv.weight", "bn.weight")):
            assert moved, name


@pytest.mark.slow
def test_norms_measured_at_the_end_hold_the_statistics_of_the_data(tones, tmp_path):
    output = fit.fit(
        quick(epochs=1, precise_norms=2, keep="last", augment={}, ema_decay=0), datasets.examples(tones), tmp_path / "p"
    )
    found = weights(output)
    config_ = quick(epochs=1, augment={})
    model = checkpoint.load(output)
    clips = loaders.clips_of(config_, datasets.examples(tones), model.info.labels, "train")
    with torch.no_grad():
        batch = model.network.stem.conv(model.front_end(torch.stack([clips[i][0] for i in range(len(clips))])))
    assert torch.allclose(found["stem.bn.running_mean"], batch.mean((0, 2, 3)), rtol=0.15, atol=0.05)
    assert int(found["stem.bn.num_batches_tracked"]) == 2


@pytest.mark.slow
def test_fine_tuning_takes_all_but_new_heads_and_says_so(tones, trained, tmp_path):
    start, _ = trained
    examples = [e for e in datasets.examples(tones) if e.labels["label"] != ("low",)]
    said: list[str] = []
    fit.fit(quick(start=str(start), epochs=1), examples, tmp_path / "two", say=said.append)
    [line] = [text for text in said if text.startswith("From ")]
    assert "heads.label.weight (2 × 16)" in line
    with pytest.raises(CheckpointError, match="another network"):
        fit.fit(quick(start=str(start), network={**QUICK["network"], "width": 4}), examples, tmp_path / "other")


@pytest.mark.slow
def test_official_classes_keep_their_order_and_may_be_without_clips(tones, tmp_path):
    classes = {"label": ["middle", "never", "low", "high"]}
    output = fit.fit(quick(epochs=1), datasets.examples(tones), tmp_path / "a", classes=classes)
    assert checkpoint.load(output).info.labels == classes
    with pytest.raises(DataError, match="low"):
        fit.fit(quick(epochs=1), datasets.examples(tones), tmp_path / "b", classes={"label": ["middle", "high"]})


@pytest.mark.slow
def test_every_fold_gives_mean_and_deviation(tones, tmp_path):
    data = folded(tones, tmp_path / "clips.csv", 2)
    summary = workflow.train_every_fold(quick(epochs=1), data, tmp_path / "folds")
    found = summary["heads"]["label"]["top1"]
    each = [json.loads((tmp_path / f"folds/fold_{k}/metrics.json").read_text()) for k in (1, 2)]
    assert found["folds"] == [values["test"]["heads"]["label"]["top1"] for values in each]
    assert found["mean"] == pytest.approx(np.mean(found["folds"]))
    assert found["deviation"] == pytest.approx(np.std(found["folds"], ddof=1))
    assert json.loads((tmp_path / "folds/folds.json").read_text()) == summary
    assert summary["clips"] == [18, 18]
