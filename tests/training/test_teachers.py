"""Teachers that would mislead a student are refused, and what they said is kept for as long as it is true."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import save as serialize
from support.info import make_info
from support.teaching import LABELS, WHOLE, changed, taught
from support.training import QUICK, RATE, quick, weights

from audiorep import audio
from audiorep.errors import BundleError, CheckpointError, ConfigError, DataError
from audiorep.export import onnx as onnx_export
from audiorep.models import checkpoint
from audiorep.training import augment, fit, loaders, teachers
from audiorep.training.module import Trainee
from audiorep.training.recipe import DistilConfig, TrainConfig

pytestmark = pytest.mark.usefixtures("merged_once")


DEPLOYED = {"window_seconds": 0.75, "cut_seconds": 0.0, "temperature": 0.25}
"""Settings of a student of the teacher's file."""


def exported(folder: Path, file: Path, examples) -> list[np.ndarray]:
    """Writes a checkpoint as a file; returns the clips on which it was checked."""
    clips = [np.resize(audio.read(example.path, RATE), 2999) for example in examples[:90:30]]
    onnx_export.export(checkpoint.load(folder), file, clips)
    return clips


def assert_same_lesson(folder: Path, file: Path, clips: list[np.ndarray], examples, **settings) -> None:
    waveform, sound = torch.from_numpy(np.stack(clips)), torch.full((3,), 2999)
    by_folder, by_file = (
        teachers.load(taught(of, **DEPLOYED, **settings), LABELS, examples)(waveform, sound) for of in (folder, file)
    )
    torch.testing.assert_close(by_file.scores["label"], by_folder.scores["label"], atol=1e-4, rtol=1e-3)
    assert by_folder.scores["label"].std() > 0.02


@pytest.mark.full
@pytest.mark.slow
def test_a_deployed_file_teaches_what_its_checkpoint_does(tones, examples, teacher, tmp_path):
    file = tmp_path / "teacher.onnx"
    clips = exported(teacher, file, examples)
    assert_same_lesson(teacher, file, clips, examples)
    fit.fit(taught(file, epochs=1, **DEPLOYED), examples, tmp_path / "run")
    told = checkpoint.load(tmp_path / "run").info.provenance["teachers"]
    assert [(t["name"], t["architecture"], t["source"]) for t in told] == [("arin_pico", ".onnx", str(file))]
    swapped = [replace(e, split={"train": "test", "test": "train"}.get(e.split, e.split)) for e in examples]
    with pytest.raises(DataError, match=r"teacher\.onnx .* 24 of the 24 test clips"):
        teachers.load(taught(file, **DEPLOYED), LABELS, swapped)
    with pytest.raises(ConfigError, match=r"cut_seconds=0\.75"):
        teachers.load(taught(file, **{**DEPLOYED, "cut_seconds": 0.5}), LABELS, examples)
    with pytest.raises(ConfigError, match="features=0"):
        teachers.load(taught(file, **DEPLOYED, features=0.1), LABELS, examples)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(BundleError, match=r"teacher\.onnx"):
        teachers.load(taught(file, **DEPLOYED), LABELS, examples)


@pytest.mark.full
def test_a_deployed_multi_label_file_teaches_what_its_checkpoint_does(examples, teacher, tmp_path):
    folder = changed(teacher, tmp_path / "folder", activation="sigmoid")
    clips = exported(folder, tmp_path / "teacher.onnx", examples)
    assert_same_lesson(folder, tmp_path / "teacher.onnx", clips, examples, multi_label=True)
    fit.fit(taught(tmp_path / "teacher.onnx", epochs=1, multi_label=True, **DEPLOYED), examples, tmp_path / "run")


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_scores_of_a_deployed_file_are_taken_back_to_logits(activation):
    given = torch.tensor([[2.0, -1.0, 0.5], [90.0, -90.0, 0.0]])
    scores = given.softmax(1) if activation == "softmax" else given.sigmoid()
    session = mock.Mock(return_value={"label": scores.numpy()})
    session.info = make_info(activation=activation)
    logits = teachers.Deployed(session)(torch.zeros(2, 10))["label"]
    assert logits.isfinite().all()
    again = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
    torch.testing.assert_close(again, scores, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_mixing_mixes_kept_scores_as_it_mixes_targets(examples, teacher, tmp_path):
    settings = taught(teacher, cache=True, **{**WHOLE, "augment": {"mixup": 1.0}})
    clips = loaders.clips_of(settings, examples, LABELS, "train")
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
        clips = loaders.clips_of(settings, chosen, LABELS, "train")
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
    with pytest.raises(DataError, match=r"of the 24 .* 0\.2 s.*cache=false"):
        fit.fit(short, examples, tmp_path / "run")
    assert not (tmp_path / "run" / fit.CONFIG).exists()


@pytest.mark.slow
def test_teachers_that_would_mislead_are_refused_in_words(examples, teacher, tmp_path):
    labels = json.loads((teacher / checkpoint.CONFIG).read_text())["labels"]["label"]
    fewer = [e for e in examples if e.labels["label"] != ("low",)]
    renamed = [replace(e, labels={"pitch": e.labels["label"]}) for e in examples]
    turned = changed(teacher, tmp_path / "turned", labels={"label": labels[::-1]})
    front_end = {**QUICK["front_end"], "sample_rate": 8000, "n_fft": 256}
    cases = [
        (taught(tmp_path / "none"), examples, "none does not exist"),
        (taught(teacher), renamed, "no head 'pitch'"),
        (taught(turned), examples, "another order"),
        (taught(teacher), fewer, "it knows low too"),
        (taught(teacher, front_end=front_end), examples, "4000 Hz, .* 8000 Hz"),
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
    with pytest.raises(DataError, match=f"24 of the 24 {split} clips"):
        fit.fit(taught(teacher), mine, tmp_path / "run")
    about = checkpoint.load(teacher).info.provenance
    grandchild = changed(teacher, tmp_path / "grandchild", provenance={"seen": {}, "teachers": [{"seen": about["seen"]}]})
    with pytest.raises(DataError, match=f"24 of the 24 {split} clips"):
        fit.fit(taught(grandchild), mine, tmp_path / "run")


@pytest.mark.slow
def test_a_teacher_that_does_not_tell_its_clips_is_said_to(examples, teacher, tmp_path):
    silent = changed(teacher, tmp_path / "silent", provenance={})
    said: list[str] = []
    teachers.load(taught(silent), LABELS, examples, said.append)
    assert sum("silent" in line for line in said) == len(said) == 1


def test_wrong_settings_are_all_named_in_one_error():
    with pytest.raises(ConfigError, match=r"1 weights .* 2 teachers.*temperature is 0.*soft is 2.*features is -1"):
        DistilConfig(teachers=("a", "b"), weights=(1.0,), temperature=0, soft=2, features=-1)
    for wrong, text in [
        ({"weights": (1.0, -1.0)}, "weights"),
        ({"weights": (1.0, float("nan"))}, "weights"),
        ({"teachers": ("",)}, "empty"),
        ({"temperature": float("nan")}, "temperature"),
        ({"soft": 0.0}, "teach nothing"),
        ({"cache": True, "features": 0.1}, "features=0 .* cache=false"),
    ]:
        with pytest.raises(ConfigError, match=text):
            DistilConfig(**{"teachers": ("a", "b"), **wrong})
    with pytest.raises(ConfigError, match=r"distil: 2 weights .* 0 teachers"):
        quick(distil={"weights": [1, 2]})


@pytest.mark.slow
def test_a_run_goes_on_only_with_the_teachers_it_had(examples, teacher, tmp_path):
    mine = changed(teacher, tmp_path / "mine")
    fit.fit(taught(mine, epochs=1), examples, tmp_path / "run")
    fit.fit(taught(mine, epochs=1), examples, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"\(distil changed\)"):
        fit.fit(taught(teacher, epochs=1), examples, tmp_path / "run")
    tensors = {name: value + 1 if value.is_floating_point() else value for name, value in weights(mine).items()}
    (mine / checkpoint.WEIGHTS).write_bytes(serialize(tensors))
    with pytest.raises(ConfigError, match=r"\(its teachers' weights changed\)"):
        fit.fit(taught(mine, epochs=1), examples, tmp_path / "run")
