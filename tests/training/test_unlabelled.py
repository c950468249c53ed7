"""A student of unlabelled sounds learns its teacher's classes and embedding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.commands import audiorep
from support.teaching import LABELS, changed, taught
from support.training import QUICK, quick

from audiorep import datasets
from audiorep.datasets.location import Data
from audiorep.errors import ConfigError, DataError
from audiorep.models import checkpoint
from audiorep.training import distil, fit, loaders, teachers
from audiorep.training.recipe import DistilConfig

pytestmark = pytest.mark.usefixtures("merged_once")
UNLABELLED = {"classes": "teacher", "soft": 1.0, "temperature": 1.0, "multi_label": True, "keep": "last"}


@pytest.fixture
def tagger(teacher, tmp_path) -> Path:
    """The teacher of the tones as one of any number of labels."""
    return changed(teacher, tmp_path / "tagger", activation="sigmoid")


@pytest.fixture
def flat(examples, tmp_path) -> Path:
    """The training clips in a folder without classes."""
    folder = tmp_path / "flat" / "deep"
    folder.mkdir(parents=True)
    for number, example in enumerate(e for e in examples if e.split == "train"):
        shutil.copy(example.path, folder / f"{number}.wav")
    return folder.parent


@pytest.mark.slow
def test_a_folder_of_any_sounds_teaches_the_teachers_classes(flat, examples, tagger, tmp_path):
    settings = {**QUICK, "epochs": 30, "augment": {}, "multi_label": True, "keep": "last", "cuts": 2}
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("\n".join(f"{key} = {toml(value)}" for key, value in settings.items()))
    values = ("distil.classes=teacher", "distil.soft=1.0", "distil.temperature=1.0", "distil.embedding=1.0")
    sets = [part for value in values for part in ("--set", value)]
    done = audiorep("distil", flat, "--teacher", tagger, "-o", tmp_path / "run", "--recipe", recipe, *sets)
    assert done.returncode == 0, done.stderr
    made = checkpoint.load(tmp_path / "run")
    assert made.info.labels == LABELS
    assert made.info.activation == "sigmoid"
    batch = loaders.clips_of(quick(), [e for e in examples if e.split == "test"], LABELS, "test").__getitems__(range(12))
    with torch.no_grad():
        scores = made.network(made.front_end(batch[0]))["label"]
    assert (scores.argmax(1) == batch[1]["label"].argmax(1)).float().mean() >= 0.9


@pytest.mark.slow
def test_the_embedding_comes_near_the_teachers(examples, tagger, tmp_path):
    said: list[str] = []
    fit.fit(taught(tagger, embedding=1.0, epochs=12, augment={}, **UNLABELLED), examples, tmp_path / "run", say=said.append)
    losses = [float(line.split("embedding loss ")[1].split(",")[0]) for line in said if "embedding loss" in line]
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]
    kept = torch.load(tmp_path / "run" / fit.LAST, weights_only=True)["state_dict"]
    assert {name for name in kept if not name.startswith("network.")} == {
        f"embedding_matches.0.projection.{kind}" for kind in ("weight", "bias")
    }


def test_an_embedding_that_is_linear_in_the_teachers_logarithm_costs_nothing():
    match = distil.EmbeddingMatch(6, 6)
    with torch.no_grad():
        match.projection.weight.copy_(torch.eye(6))
        match.projection.bias.zero_()
    teacher = torch.rand(4, 6, 3, 2)
    student = teacher.mean((2, 3), keepdim=True).log1p().expand(4, 6, 5, 1)
    assert match(student, teacher).item() == pytest.approx(0, abs=1e-12)
    assert match(student + 0.5, teacher).item() == pytest.approx(0.25)


def test_any_layout_is_read_without_its_labels(tones, flat, tmp_path):
    found = Data(tones / "clips.csv" if (tones / "clips.csv").exists() else tones).sounds(datasets.Splits(), print)
    assert {example.labels["label"] for example in found} == {()}
    listed = Data(flat).sounds(datasets.Splits(), print)
    assert {example.split for example in listed} == {"train"}
    assert len(listed) == len(list(flat.rglob("*.wav")))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError):
        Data(tmp_path / "none").sounds(datasets.Splits(), print)


@pytest.mark.parametrize(
    "settings",
    [
        {"classes": "teacher", "soft": 0.9, "teachers": ("a",)},
        {"embedding": -1.0},
        {"embedding": 1.0, "cache": True, "teachers": ("a",)},
        {"soft": 0.0, "teachers": ("a",)},
    ],
)
def test_settings_that_teach_nothing_are_refused(settings):
    with pytest.raises(ConfigError):
        DistilConfig(**settings)


def test_the_teachers_classes_are_for_taggers():
    with pytest.raises(ConfigError, match="multi_label"):
        quick(distil={"classes": "teacher", "soft": 1.0, "teachers": ["a"]})


def test_without_a_teacher_there_are_no_classes(examples, tmp_path):
    with pytest.raises(ConfigError, match="--teacher"):
        fit.fit(quick(distil={"classes": "teacher", "soft": 1.0}, multi_label=True), examples, tmp_path / "run")


def test_a_file_has_no_embedding_to_match(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match="embedding"):
        teachers.classes_of(taught(tmp_path / "model.onnx", embedding=1.0))


def toml(value) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)
