"""A student learns from its teachers what they know, leaves them as they are, and refuses those that would mislead it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomlkit
import torch
from safetensors.torch import load_file
from support import processes
from support.commands import audiorep
from support.training import QUICK, RATE, epoch_of, quick, weights

from audiorep import audio, config, datasets
from audiorep.datasets.clips import Clips
from audiorep.errors import BundleError, CheckpointError, ConfigError, DataError
from audiorep.export import onnx as onnx_export
from audiorep.info import model_info
from audiorep.models import checkpoint
from audiorep.training import augment, distil, fit, teachers, workflow
from audiorep.training.module import Trainee
from audiorep.training.recipe import DistilConfig, TrainConfig

SIZES = {"depths": [1, 2], "time_kernels": [3], "frequency_kernels": [3]}
LABELS = {"label": ["high", "low", "middle"]}
WHOLE = {"augment": {}, "ema_decay": 0.0, "padding": "edge", "window_seconds": 1.0, "cut_seconds": 0.0}
"""Settings under which a training cut is the whole clip, as it is."""


def taught(folder: Path | str, *others: Path | str, **changes) -> TrainConfig:
    settings = {key: changes.pop(key) for key in list(changes) if key in DistilConfig.__dataclass_fields__}
    return quick(**changes, distil={"teachers": [str(folder), *map(str, others)], **settings})


@pytest.fixture(scope="module")
def examples(tones):
    return datasets.examples(tones)


@pytest.fixture(scope="module")
def teacher(tones, examples, tmp_path_factory) -> Path:
    """A checkpoint that knows the tones, wider and with a longer window than the students."""
    output = tmp_path_factory.mktemp("teachers") / "wide"
    settings = quick(epochs=20, augment={}, network={**SIZES, "width": 12}, window_seconds=0.75, cut_seconds=0.0)
    workflow.train(settings, examples, tones, output)
    return output


@pytest.fixture(scope="module")
def other(examples, tmp_path_factory) -> Path:
    """A teacher with another front end and network, that has hardly learned."""
    output = tmp_path_factory.mktemp("teachers") / "other"
    front_end = {"sample_rate": RATE, "window_ms": 64, "hop_ms": 32, "n_fft": 256, "mels": 24}
    fit.fit(quick(epochs=1, front_end=front_end, seed=1), examples, output)
    return output


def changed(folder: Path, output: Path, **values) -> Path:
    """A copy of a checkpoint whose configuration says otherwise."""
    output.mkdir()
    (output / checkpoint.WEIGHTS).write_bytes((folder / checkpoint.WEIGHTS).read_bytes())
    (output / checkpoint.CONFIG).write_text(json.dumps({**json.loads((folder / checkpoint.CONFIG).read_text()), **values}))
    return output


def test_the_soft_loss_is_the_formulas_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    scores = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    q = math.e / (math.e + 1)  # the first clip's softmax of (1, 0), at a temperature of 2
    first = 0.5 * math.log(0.5 / q) + 0.5 * math.log(0.5 / (1 - q))
    second = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert distil.soft_target_loss(logits, scores, 2.0, False).item() == pytest.approx(4 * (first + second) / 2, rel=1e-6)
    binary = [0.5 * math.log(0.5 / q) + 0.5 * math.log(0.5 / (1 - q)), 0.0, second, 0.1 * math.log(0.2) + 0.9 * math.log(1.8)]
    assert distil.soft_target_loss(logits, scores, 2.0, True).item() == pytest.approx(4 * sum(binary) / 4, rel=1e-6)


def test_a_teacher_that_is_certain_gives_the_labels_loss():
    logits, certain = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.eye(4)[[0, 3, 1, 1, 2]]
    expected = torch.nn.functional.cross_entropy(logits, certain)
    assert distil.soft_target_loss(logits, certain, 1.0, False).item() == pytest.approx(expected.item(), rel=1e-6)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, certain)
    assert distil.soft_target_loss(logits, certain, 1.0, True).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_at_equality_the_soft_loss_and_its_gradient_are_zero(multi_label, temperature):
    given = 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    logits = given.clone().requires_grad_()
    loss = distil.soft_target_loss(logits, distil.soften(given, temperature, multi_label), temperature, multi_label)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad.abs().max() < 1e-6
    worse = distil.soft_target_loss(given.roll(1, 0), distil.soften(given, temperature, multi_label), temperature, multi_label)
    assert worse > 0.01


def test_the_gradient_keeps_its_size_at_high_temperatures():
    generator = torch.Generator().manual_seed(0)
    student, theirs = (torch.randn(8, 5, generator=generator) for _ in range(2))
    centered = [values - values.mean(1, keepdim=True) for values in (student, theirs)]
    logits = student.clone().requires_grad_()
    distil.soft_target_loss(logits, distil.soften(theirs, 1000.0, False), 1000.0, False).backward()
    assert torch.allclose(logits.grad, (centered[0] - centered[1]) / (5 * 8), atol=1e-3)  # arXiv 1503.02531, equation 4


def test_an_ensemble_is_the_weighted_mean_of_each_head():
    first, second = (
        {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.2]])},
        {
            "a": torch.tensor([[0.5, 0.5]]),
            "b": torch.tensor([[0.6]]),
        },
    )
    assert distil.ensemble([first, second])["a"].tolist() == [[0.75, 0.25]]
    assert distil.ensemble([first, second])["b"].tolist() == [[pytest.approx(0.4)]]
    assert distil.ensemble([first, second], [3.0, 1.0])["a"].tolist() == [[0.875, 0.125]]
    assert distil.shares([], 4) == [0.25] * 4


def test_maps_of_other_sizes_are_matched_on_the_smaller_one():
    match = distil.FeatureMatch(3, 5)
    torch.nn.init.zeros_(match.projection.weight)
    torch.nn.init.zeros_(match.projection.bias)
    student, theirs = torch.randn(2, 3, 4, 7), torch.randn(2, 5, 8, 2)
    assert match(student, theirs).item() == pytest.approx(1.0)
    match = distil.FeatureMatch(3, 3)
    torch.nn.init.dirac_(match.projection.weight)
    torch.nn.init.zeros_(match.projection.bias)
    wide = torch.randn(2, 3, 8, 4)
    assert match(torch.nn.functional.avg_pool2d(wide, 2), wide).item() == pytest.approx(0, abs=1e-6)
    assert match(torch.zeros(2, 3, 8, 4), torch.zeros(2, 3, 8, 4)).item() == 0


def test_the_last_map_comes_beside_the_same_logits():
    network = Trainee(quick(), LABELS, 10, {}).eval().network
    spectrogram = torch.randn(2, 1, 20, 16)
    logits, last = distil.WithMap(network)(spectrogram)
    assert torch.equal(logits["label"], network(spectrogram)["label"])
    assert torch.equal(last, network.forward_features(spectrogram))


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
    batch = fit.clips_of(settings, examples, LABELS, "train").__getitems__([0, 1, 2, 3])
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
    batch = fit.clips_of(settings, examples, LABELS, "train").__getitems__([0, 5, 9, 13])
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
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_deployed_file_teaches_what_its_checkpoint_does(tones, examples, teacher, tmp_path, multi_label):
    folder = changed(teacher, tmp_path / "folder", activation="sigmoid" if multi_label else "softmax")
    file = tmp_path / "teacher.onnx"
    clips = [np.resize(audio.read(example.path, RATE), 2999) for example in examples[:90:30]]
    onnx_export.export(checkpoint.load(folder), file, clips)
    settings = {"window_seconds": 0.75, "cut_seconds": 0.0, "temperature": 0.25, "multi_label": multi_label}
    waveform, sound = torch.from_numpy(np.stack(clips)), torch.full((3,), 2999)
    by_folder, by_file = (teachers.load(taught(of, **settings), LABELS, examples)(waveform, sound) for of in (folder, file))
    torch.testing.assert_close(by_file.scores["label"], by_folder.scores["label"], atol=1e-4, rtol=1e-3)
    assert by_folder.scores["label"].std() > 0.02
    workflow.train(taught(file, epochs=1, **settings), examples, tones, tmp_path / "run")
    told = checkpoint.load(tmp_path / "run").info.provenance["teachers"]
    assert [(t["name"], t["architecture"], t["source"]) for t in told] == [("arin_pico", ".onnx", str(file))]
    swapped = [replace(e, split={"train": "test", "test": "train"}.get(e.split, e.split)) for e in examples]
    with pytest.raises(DataError, match=r"teacher\.onnx was trained on 24 of the 24 test clips"):
        teachers.load(taught(file, **settings), LABELS, swapped)
    with pytest.raises(
        ConfigError, match=r"hears 0\.75 s at once, and the student's cuts are of 0\.5 s: set cut_seconds=0\.75"
    ):
        teachers.load(taught(file, **{**settings, "cut_seconds": 0.5}), LABELS, examples)
    with pytest.raises(ConfigError, match="has no last map to match: give its checkpoint, or set features=0"):
        teachers.load(taught(file, **settings, features=0.1), LABELS, examples)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(BundleError, match=r"teacher\.onnx"):
        teachers.load(taught(file, **settings), LABELS, examples)


@pytest.mark.slow
def test_what_a_student_hears_and_sees_does_not_depend_on_its_teachers(examples, teacher):
    batches = []
    for settings in (quick(), taught(teacher)):
        trainee = Trainee(settings, LABELS, 4, {})
        trainee.seed_epoch(3)
        batch = fit.clips_of(settings, examples, LABELS, "train").__getitems__([0, 5, 9, 13])
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
def test_mixing_mixes_kept_scores_as_it_mixes_targets(examples, teacher, tmp_path):
    settings = taught(teacher, cache=True, **{**WHOLE, "augment": {"mixup": 1.0}})
    clips = fit.clips_of(settings, examples, LABELS, "train")
    scores = teachers.load(settings, LABELS, examples).remember(clips, tmp_path / teachers.KEPT)
    batch = teachers.TaughtClips(clips, scores).__getitems__([0, 8, 16])
    assert torch.equal(batch[3]["label"], scores["label"][[0, 8, 16]])
    trainee = Trainee(settings, LABELS, 4, {})
    trainee.seed_epoch(0)
    _, _, _, mixed = trainee.augmented_waveforms(*batch)
    trainee.seed_epoch(0)
    torch.rand((), generator=trainee._generator)
    ratio, partner = augment.draw_mixup(3, 1.0, trainee._generator)
    assert torch.equal(mixed["label"], augment.mix_targets(batch[3]["label"], ratio, partner))
    assert trainee._lesson(batch[0], batch[2], batch[3]).scores["label"] is batch[3]["label"]


@pytest.mark.slow
def test_scores_are_kept_until_the_teachers_or_the_sound_change(examples, teacher, other, tmp_path, monkeypatch):
    asked: list[int] = []
    original = teachers.Teachers.__call__
    monkeypatch.setattr(
        teachers.Teachers, "__call__", lambda self, wave, sound: asked.append(len(wave)) or original(self, wave, sound)
    )
    path = tmp_path / teachers.KEPT

    def remember(settings: TrainConfig, chosen=examples) -> dict[str, torch.Tensor]:
        asked.clear()
        clips = fit.clips_of(settings, chosen, LABELS, "train")
        return teachers.load(settings, LABELS, examples).remember(clips, path)

    first = remember(taught(teacher, cache=True, **WHOLE))
    assert asked == [8, 8, 8]
    again = remember(taught(teacher, cache=True, **WHOLE), list(reversed(examples)))
    assert asked == []
    assert torch.equal(again["label"], first["label"].flip(0))
    remember(taught(other, cache=True, **WHOLE))
    assert asked == [8, 8, 8]
    remember(taught(other, cache=True, temperature=3.0, **WHOLE))
    assert asked == [8, 8, 8]
    moved = [replace(e, start=0.1) if e == next(x for x in examples if x.split == "train") else e for e in examples]
    remember(taught(other, cache=True, temperature=3.0, **WHOLE), moved)
    assert asked == [8]
    path.write_bytes(path.read_bytes()[:100])
    remember(taught(other, cache=True, temperature=3.0, **WHOLE), moved)
    assert asked == [8, 8, 8]


@pytest.mark.slow
def test_one_score_for_long_clips_is_refused(examples, teacher, tmp_path):
    short = taught(teacher, cache=True, window_seconds=0.2, cut_seconds=0.2)
    with pytest.raises(DataError, match=r"of the 24 training clips are longer than 2\.5 training cuts of 0\.2 s.*cache=false"):
        fit.fit(short, examples, tmp_path / "run")
    assert not (tmp_path / "run" / fit.CONFIG).exists()


@pytest.mark.slow
def test_a_multi_label_student_learns_of_a_multi_label_teacher(examples, teacher, tmp_path):
    several = [
        replace(e, labels={"label": ("low",) if e.labels["label"] == ("low",) else ("low", *e.labels["label"])})
        for e in examples
    ]
    fit.fit(quick(epochs=2, multi_label=True), several, tmp_path / "teacher")
    fit.fit(taught(tmp_path / "teacher", epochs=1, multi_label=True, features=0.1), several, tmp_path / "student")
    assert checkpoint.load(tmp_path / "student").info.activation == "sigmoid"
    with pytest.raises(CheckpointError, match="is single-label, the student multi-label"):
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
def test_teachers_that_would_mislead_are_refused_in_words(examples, teacher, tmp_path):
    labels = json.loads((teacher / checkpoint.CONFIG).read_text())["labels"]["label"]
    fewer = [e for e in examples if e.labels["label"] != ("low",)]
    renamed = [replace(e, labels={"pitch": e.labels["label"]}) for e in examples]
    turned = changed(teacher, tmp_path / "turned", labels={"label": labels[::-1]})
    front_end = {**QUICK["front_end"], "sample_rate": 8000, "n_fft": 256}
    cases = [
        (taught(tmp_path / "none"), examples, "none does not exist; a checkpoint folder or an exported file is needed"),
        (taught(teacher), renamed, "has no head 'pitch'; it has label"),
        (taught(turned), examples, "knows other labels than the student: they come in another order"),
        (taught(teacher), fewer, "knows other labels than the student: it knows low too"),
        (taught(teacher, front_end=front_end), examples, "hears 4000 Hz, the student 8000 Hz"),
    ]
    for settings, chosen, text in cases:
        with pytest.raises(CheckpointError, match=text):
            fit.fit(settings, chosen, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert teachers._difference(["a"], ["a", "b"]) == "it lacks b"


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "valid"])
def test_a_teacher_that_was_trained_on_the_clips_to_measure_on_is_refused(examples, teacher, tmp_path, split):
    swapped = {"train": split, split: "train"}
    mine = [replace(e, split=swapped.get(e.split, e.split)) for e in examples]
    with pytest.raises(DataError, match=rf"was trained on 24 of the 24 {split} clips"):
        fit.fit(taught(teacher), mine, tmp_path / "run")
    about = checkpoint.load(teacher).info.provenance
    grandchild = changed(teacher, tmp_path / "grandchild", provenance={"seen": {}, "teachers": [{"seen": about["seen"]}]})
    with pytest.raises(DataError, match=rf"was trained on 24 of the 24 {split} clips"):
        fit.fit(taught(grandchild), mine, tmp_path / "run")
    silent = changed(teacher, tmp_path / "silent", provenance={})
    said: list[str] = []
    fit.fit(taught(silent, epochs=1), mine, tmp_path / "run", say=said.append)
    assert sum("silent does not tell which clips it was trained on" in line for line in said) == 1


def test_wrong_settings_are_all_named_in_one_error():
    with pytest.raises(ConfigError, match=r"1 weights are given for 2 teachers.*temperature is 0.*soft is 2.*features is -1"):
        DistilConfig(teachers=("a", "b"), weights=(1.0,), temperature=0, soft=2, features=-1)
    for wrong, text in [
        ({"weights": (1.0, -1.0)}, "weights must be above 0"),
        ({"weights": (1.0, float("nan"))}, "weights must be above 0"),
        ({"teachers": ("",)}, "one is empty"),
        ({"temperature": float("nan")}, "temperature"),
        ({"soft": 0.0}, "the teachers teach nothing"),
        ({"cache": True, "features": 0.1}, "set features=0 or cache=false"),
    ]:
        with pytest.raises(ConfigError, match=text):
            DistilConfig(**{"teachers": ("a", "b"), **wrong})
    with pytest.raises(ConfigError, match="distil: 2 weights are given for 0 teachers"):
        quick(distil={"weights": [1, 2]})


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
def test_a_run_goes_on_only_with_the_teachers_it_had(examples, teacher, tmp_path):
    mine = changed(teacher, tmp_path / "mine")
    fit.fit(taught(mine, epochs=1), examples, tmp_path / "run")
    fit.fit(taught(mine, epochs=1), examples, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"other settings \(distil changed\)"):
        fit.fit(taught(teacher, epochs=1), examples, tmp_path / "run")
    tensors = {name: value + 1 if value.is_floating_point() else value for name, value in weights(mine).items()}
    checkpoint.save(mine, _with(checkpoint.load(mine).network, tensors), checkpoint.load(mine).info, "arin_pico")
    with pytest.raises(ConfigError, match=r"other settings \(its teachers' weights changed\)"):
        fit.fit(taught(mine, epochs=1), examples, tmp_path / "run")


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
    with processes.started([*command, "-o", str(killed)], stderr=subprocess.DEVNULL) as process:
        processes.wait_until((killed / fit.LAST).exists, process)
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
    assert not (killed / checkpoint.WEIGHTS).exists()
    assert epoch_of(killed / fit.LAST) < 39
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
    assert "Error: A training on every fold takes each in turn, and a teacher was trained on all folds but one." in done.stderr
    assert "Traceback" not in done.stderr
    assert audiorep("distil", *shared).returncode == 2


def _with(network: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    network.load_state_dict(tensors)
    return network


def _accuracy(folder: Path, examples) -> float:
    """Of a checkpoint on the beginnings of clips."""
    loaded = checkpoint.load(folder)
    clips = Clips(examples, loaded.info.labels, RATE, loaded.info.window_samples, random_cuts=False)
    waveform, targets, _ = clips.__getitems__(range(len(clips)))
    with torch.no_grad():
        logits = loaded.network(loaded.front_end(waveform))["label"]
    return (logits.argmax(1) == targets["label"].argmax(1)).float().mean().item()
