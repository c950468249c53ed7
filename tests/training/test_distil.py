"""A student learns from its teachers what they know, and leaves them as they are."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tomlkit
import torch
from safetensors.torch import load_file
from support.commands import audiorep
from support.teaching import LABELS, WHOLE, taught
from support.training import QUICK, RATE, kill_within, quick, weights

from audiorep import config
from audiorep.datasets.clips import Clips
from audiorep.errors import CheckpointError
from audiorep.info import model_info
from audiorep.models import checkpoint
from audiorep.training import fit, loaders, teachers, workflow
from audiorep.training.module import Trainee
from audiorep.training.recipe import TrainConfig

pytestmark = pytest.mark.usefixtures("merged_once")


@pytest.mark.slow
def test_a_network_of_two_streams_is_taught_by_features_too(examples, teacher, tmp_path):
    network = {"width": 4, "fast_width": 2, "depths": [1, 1], "slow_kernels": [1, 3], "fast_kernels": [3, 3]}
    config = taught(teacher, epochs=1, features=1.0, architecture="slowfast", network=network)
    fit.fit(config, examples, tmp_path / "run")
    (logged,) = (tmp_path / "run" / checkpoint.LOGS).glob("part_1/metrics.csv")
    assert "features_loss" in logged.read_text()


@pytest.mark.slow
def test_a_student_learns_from_soft_targets_alone_though_the_labels_are_wrong(examples, teacher, tmp_path):
    wrong = {"high": "low", "low": "middle", "middle": "high"}
    lied = [
        replace(e, labels={"label": (wrong[e.labels["label"][0]],)}) if e.split == "train" else e
        for e in examples
        if e.split != "valid"
    ]
    settings = taught(teacher, epochs=25, soft=1.0, augment={}, keep="last")
    fit.fit(settings, lied, tmp_path / "student")
    test = [e for e in lied if e.split == "test"]
    assert _accuracy(tmp_path / "student", test) == 1.0
    fit.fit(quick(epochs=25, augment={}, keep="last"), lied, tmp_path / "alone")
    assert _accuracy(tmp_path / "alone", test) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("features", [0.0, 0.5])
def test_teachers_stay_as_they_are_and_are_no_part_of_the_student(examples, teacher, other, tmp_path, features):
    before = {path: path.read_bytes() for path in teacher.iterdir() if path.is_file()}
    settings = taught(teacher, other, weights=(2, 1), epochs=2, features=features, precise_norms=2)
    examples = [e for e in examples if e.split != "valid"]
    loaded = teachers.load(settings, LABELS, examples)
    states = [{k: v.clone() for k, v in t.network.state_dict().items()} for t in loaded.teachers]
    trainee = Trainee(settings, LABELS, 4, {})
    trainee.learn_from(loaded)
    trainee.train()
    batch = loaders.clips_of(settings, examples, LABELS, "train").__getitems__([0, 1, 2, 3])
    trainee.log = trainee.log_dict = lambda *given, **named: None
    trainee.optimizers = lambda: trainee.configure_optimizers()["optimizer"]
    trainee.training_step(batch, 0).backward()
    for state, one in zip(states, loaded.teachers, strict=True):
        assert not any(module.training for module in one.network.modules())
        assert all(torch.equal(value, state[name]) for name, value in one.network.state_dict().items())
        assert not any(p.requires_grad or p.grad is not None for p in one.network.parameters())
    assert all(p.grad is not None for p in trainee.parameters())
    fit.fit(settings, examples, tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    plain = Trainee(quick(), LABELS, 4, {}).network.state_dict()
    assert {name: value.shape for name, value in weights(tmp_path).items()} == {k: v.shape for k, v in plain.items()}
    kept = torch.load(tmp_path / fit.LAST, weights_only=True)["state_dict"]
    further = {name for name in kept if not name.startswith("network.")}
    assert further == ({f"matches.{n}.projection.{kind}" for n in (0, 1) for kind in ("weight", "bias")} if features else set())


@pytest.mark.slow
def test_feature_matching_brings_the_maps_together(examples, teacher, tmp_path):
    said: list[str] = []
    fit.fit(taught(teacher, features=1.0, soft=0.5, augment={}, epochs=12), examples, tmp_path, say=said.append)
    losses = [float(line.split("features loss ")[1].split(",")[0]) for line in said if "features loss" in line]
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_teachers_hear_the_students_augmented_and_mixed_waveform_without_its_masks(examples, teacher, other):
    settings = taught(teacher, other, weights=(3, 1), augment={**QUICK["augment"], "mixup": 1.0, "time_masks": 4})
    trainee = Trainee(settings, LABELS, 4, {})
    trainee.learn_from(teachers.load(settings, LABELS, examples))
    trainee.seed_epoch(0)
    batch = loaders.clips_of(settings, examples, LABELS, "train").__getitems__([0, 5, 9, 13])
    waveform, targets, sound, _ = trainee.augmented_waveforms(*batch)
    assert waveform.shape == (4, 999)
    assert not torch.equal(targets["label"], batch[1]["label"])
    told = trainee._lesson(waveform, sound, {}).scores["label"]
    expected = torch.zeros(4, 3)
    for share, folder in ((0.75, teacher), (0.25, other)):
        loaded = checkpoint.load(folder)
        with torch.no_grad():
            expected += share * (loaded.network(loaded.front_end(waveform))["label"] / 2).softmax(1)
    assert torch.allclose(told, expected, atol=1e-4)
    assert told.sum(1).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.slow
def test_what_a_student_hears_and_sees_does_not_depend_on_its_teachers(examples, teacher):
    batches = []
    for settings in (quick(), taught(teacher)):
        trainee = Trainee(settings, LABELS, 4, {})
        trainee.seed_epoch(3)
        batch = loaders.clips_of(settings, examples, LABELS, "train").__getitems__([0, 5, 9, 13])
        batches.append(trainee.prepare(*batch))
    assert torch.equal(batches[0][0], batches[1][0])
    assert torch.equal(batches[0][1]["label"], batches[1][1]["label"])


@pytest.mark.slow
def test_kept_scores_are_those_of_asking_at_every_step_where_nothing_is_augmented(examples, teacher, other, tmp_path):
    for name, cache in (("asked", False), ("kept", True)):
        fit.fit(taught(teacher, other, cache=cache, **WHOLE), examples, tmp_path / name)
    asked, kept = weights(tmp_path / "asked"), weights(tmp_path / "kept")
    assert all(torch.allclose(asked[name], kept[name], atol=1e-3) for name in asked)
    assert not (tmp_path / "asked" / teachers.KEPT).exists()
    found = load_file(tmp_path / "kept" / teachers.KEPT)
    assert found["label of teachers"].shape == (24, 3)
    assert found["label of teachers"].sum(1).tolist() == pytest.approx([1.0] * 24)


@pytest.mark.slow
def test_a_multi_label_student_learns_of_a_multi_label_teacher(examples, teacher, tmp_path):
    several = [
        replace(e, labels={"label": ("low",) if e.labels["label"] == ("low",) else ("low", *e.labels["label"])})
        for e in examples
    ]
    fit.fit(quick(epochs=2, multi_label=True), several, tmp_path / "teacher")
    fit.fit(taught(tmp_path / "teacher", epochs=1, multi_label=True, features=0.1), several, tmp_path / "student")
    assert checkpoint.load(tmp_path / "student").info.activation == "sigmoid"
    with pytest.raises(CheckpointError, match=r"single-label.* multi-label"):
        fit.fit(taught(teacher, multi_label=True), several, tmp_path / "other")


@pytest.mark.slow
def test_two_heads_are_both_taught(examples, tmp_path):
    double = [
        replace(e, labels={"pitch": e.labels["label"], "parity": (("even", "odd")[int(e.path.stem) % 2],)}) for e in examples
    ]
    fit.fit(quick(epochs=1), double, tmp_path / "teacher")
    fit.fit(taught(tmp_path / "teacher", epochs=1, cache=True, **WHOLE), double, tmp_path / "student")
    assert set(load_file(tmp_path / "student" / teachers.KEPT)) == {"clips", "pitch of teachers", "parity of teachers"}
    one = [replace(e, labels={"pitch": e.labels["label"]}) for e in examples]
    fit.fit(taught(tmp_path / "teacher", epochs=1), one, tmp_path / "narrower")
    assert set(checkpoint.load(tmp_path / "narrower").info.labels) == {"pitch"}


@pytest.mark.slow
def test_the_checkpoint_is_an_ordinary_one_that_names_its_teachers(tones, examples, teacher, other, tmp_path):
    workflow.train(taught(teacher, other, epochs=1, features=0.1), examples, tones, tmp_path)
    told = checkpoint.load(tmp_path).info.provenance["teachers"]
    assert [(t["name"], t["architecture"], t["source"]) for t in told] == [
        ("arin_pico", "arin_pico", str(f)) for f in (teacher, other)
    ]
    assert told[0]["measured"] == checkpoint.load(teacher).info.provenance["measured"]
    assert told[0]["weights"] != told[1]["weights"]
    card = (tmp_path / checkpoint.CARD).read_text()
    assert "- Distilled from `arin_pico` (top1 100.0%, " in card
    assert "- Distilled from `arin_pico`\n" in card
    assert json.loads((tmp_path / fit.CONFIG).read_text())["teachers"] == [t["weights"] for t in told]
    assert (
        model_info.ModelInfo.from_metadata(checkpoint.load(tmp_path).info.to_metadata(), tmp_path).provenance["teachers"]
        == told
    )


@pytest.mark.slow
def test_a_run_that_is_older_than_distillation_goes_on(examples, tmp_path):
    fit.fit(quick(epochs=1), examples, tmp_path)
    record = json.loads((tmp_path / fit.CONFIG).read_text())
    assert "teachers" not in record
    del record["config"]["distil"]
    (tmp_path / fit.CONFIG).write_text(json.dumps(record))
    fit.fit(quick(epochs=1), examples, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("lessons", [{"features": 0.5}, {"cache": True, "cut_seconds": 0.5}])
def test_a_killed_distillation_goes_on_as_if_it_had_not_been(tones, examples, teacher, tmp_path, lessons):
    values = {**QUICK, "epochs": 40, **{k: v for k, v in lessons.items() if k == "cut_seconds"}}
    distil_values = {k: v for k, v in lessons.items() if k != "cut_seconds"}
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(tomlkit.dumps({**values, "distil": distil_values}))
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "audiorep.cli", "distil", str(tones), "--teacher", str(teacher), "--recipe", str(recipe)]
    kill_within([*command, "-o", str(killed)], killed, epochs=40)
    settings = config.load(TrainConfig, {**values, "distil": {"teachers": [str(teacher)], **distil_values}}, "test")
    for folder in (killed, tmp_path / "unbroken"):
        fit.fit(settings, examples, folder)
    resumed, unbroken = weights(killed), weights(tmp_path / "unbroken")
    assert all(torch.allclose(resumed[name], unbroken[name], atol=1e-6) for name in unbroken)
    last = [
        torch.load(folder / fit.LAST, weights_only=True)["current_model_state"] for folder in (killed, tmp_path / "unbroken")
    ]
    assert all(torch.allclose(last[0][name], last[1][name], atol=1e-6) for name in last[1])


@pytest.mark.slow
def test_the_command_puts_teachers_in_the_settings_and_refuses_every_fold(tones, teacher, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(tomlkit.dumps({**QUICK, "epochs": 1, "distil": {"teachers": ["elsewhere"], "soft": 0.5}}))
    shared = [str(tones), "--recipe", str(recipe), "-o", str(tmp_path / "run")]
    done = audiorep("distil", "--teacher", str(teacher), "--set", "distil.temperature=3", *shared)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "run" / fit.CONFIG).read_text())["config"]["distil"]
    assert (told["teachers"], told["soft"], told["temperature"]) == ([str(teacher)], 0.5, 3.0)
    done = audiorep("train", "--every-fold", *shared)
    assert done.returncode == 2
    assert "every fold" in done.stderr
    assert "Traceback" not in done.stderr
    assert audiorep("distil", *shared).returncode == 2


def _accuracy(folder: Path, examples) -> float:
    """Of a checkpoint on the beginnings of clips."""
    loaded = checkpoint.load(folder)
    clips = Clips(examples, loaded.info.labels, RATE, loaded.info.window_samples, random_cuts=False)
    waveform, targets, _ = clips.__getitems__(range(len(clips)))
    with torch.no_grad():
        logits = loaded.network(loaded.front_end(waveform))["label"]
    return (logits.argmax(1) == targets["label"].argmax(1)).float().mean().item()
