"""Every recipe loads, says what the paper says, and takes a step on made-up data in its set's own layout."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from support import ROOT
from support.layouts import MAKERS, PAPER

from audiorep import config, datasets, models
from audiorep.errors import ConfigError
from audiorep.evaluation import pictures
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.training import fit, workflow
from audiorep.training.recipe import PROTOCOLS, TrainConfig, configure

RECIPES = ROOT / "recipes"
NARROW = {"width": 8, "depths": [1, 1]}


def load(*names: str, **changes: object) -> TrainConfig:
    values: dict = {}
    for name in names:
        values = config.merged(values, config.read_toml(RECIPES / f"{name}.toml"))
    if values.get("freeze_norms"):
        values.setdefault("start", "somewhere")
    return configure(config.merged(values, changes), names[0])


FOLDS = {"urbansound8k": (10,), "esc50": (5,)}


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A checkpoint of other classes to fine-tune, as narrow as the networks here."""
    folder = tmp_path_factory.mktemp("start")
    settings = load("vggsound", network=NARROW)
    network = models.build("arin_base", {"label": 5}, NARROW)
    info = ModelInfo("start", {"label": list("abcde")}, 16_000, 1.0, 1.0, asdict(settings.front_end_config))
    checkpoint.save(folder, network, info, "arin_base")
    return folder


STEPS = [name if name == "epic_kitchens" else pytest.param(name, marks=pytest.mark.full) for name in PAPER]


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_recipe_takes_a_step_on_its_sets_own_layout(name, start, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "confusion", lambda *given: None)  # drawn of as many classes in tests of its own
    root = tmp_path / name
    MAKERS[name](root)
    assert datasets.detect(root) == name
    settings = load(
        name, network=NARROW, epochs=1, batch_size=2, start="" if name == "vggsound" else str(start), precise_norms=1
    )
    splits = replace(settings.splits, test_folds=FOLDS.get(name, ()))
    examples = datasets.examples(root, splits=splits)
    output = tmp_path / "run"
    said: list[str] = []
    workflow.train(replace(settings, splits=splits), examples, root, output, say=said.append, classes=datasets.labels(root))
    assert not [line for line in said if line.startswith("Left out")]
    info = checkpoint.load(output).info
    if name in PROTOCOLS:
        assert {head: len(names) for head, names in info.labels.items()} == PROTOCOLS[name].heads
        assert (info.views, info.padding) == (PROTOCOLS[name].views, PROTOCOLS[name].padding)
    measured = json.loads((output / "metrics.json").read_text())
    assert measured
    assert all(values["views"] == info.views for values in measured.values())
    assert ("joint" in next(iter(measured.values()))) == (name == "epic_kitchens")


PAPER_TABLE = {  # sample rate, window, hop in ms, frames, views
    "vggsound": (16_000, 20, 10, 512, 2),
    "epic_kitchens": (24_000, 10, 5, 416, 10),
    "epic_sounds": (24_000, 10, 5, 416, 5),
    "speech_commands": (16_000, 5, 2, 512, 1),
    "urbansound8k": (16_000, 20, 10, 416, 2),
    "nsynth": (16_000, 20, 10, 416, 1),
}


@pytest.mark.parametrize("name", PAPER)
def test_recipe_has_the_papers_numbers(name):
    settings = load(name)
    front, scratch = settings.front_end_config, name == "vggsound"
    frames = front.frames(front.samples(settings.window_seconds))
    if name in PAPER_TABLE:
        assert (front.sample_rate, front.window_ms, front.hop_ms, frames, settings.views) == PAPER_TABLE[name]
    assert settings.architecture == "arin_base"
    assert (front.mels, front.n_fft, settings.network, settings.batch_size) == (128, 2048, {}, 32)
    optimizer = settings.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (optimizer.learning_rate, settings.epochs) == ((0.01, 50) if scratch else (0.001, 30))
    stones = (30, 40) if scratch else (20, 25)
    assert settings.schedule.name == "step"
    assert (settings.schedule.milestones, settings.schedule.factors) == (stones, (0.1, 0.01))
    assert (settings.freeze_norms, settings.precise_norms, settings.keep) == (not scratch, 200, "last")
    masks = settings.augment
    assert (masks.time_warp, masks.frequency_masks, masks.time_masks) == (5, 2, 2)
    assert masks.frequency_mask * front.mels == pytest.approx(27)
    assert masks.time_mask * frames == pytest.approx(25, abs=1e-3)
    assert not any((masks.mixup, masks.speed, masks.gain_db, masks.noise, settings.ema_decay, settings.label_smoothing))


@pytest.mark.slow
def test_every_recipe_loads_alone_and_the_modern_one_on_top_of_each():
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    assert set(PAPER) <= set(names)
    for name in names:
        load(name)
    for name in PAPER:
        modern = load(name, "modern", "small")
        assert (modern.optimizer.name, modern.architecture, modern.freeze_norms) == ("adamw", "arin_nano", False)
        assert modern.views == load(name).views


def test_unknown_protocol_and_frozen_norms_of_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"'epic'.*vggsound, epic_kitchens"):
        configure({"protocol": "epic"}, "mine.toml")
    with pytest.raises(ConfigError, match="start"):
        configure({"freeze_norms": True}, "mine.toml")


def test_learning_rate_falls_at_the_start_of_an_epoch():
    settings = load("vggsound", epochs=50)
    factors = [settings.schedule.factor((step + 1) / 10, 50) for step in range(500)]
    assert factors[299] == 1
    assert factors[300] == 0.1
    assert factors[399] == 0.1
    assert factors[400] == 0.01


def test_masks_and_momentum_reach_the_optimizer(tmp_path):
    optimizer = fit.Trainee(load("vggsound", network=NARROW), {"label": ["a", "b"]}, 10, {}).configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.SGD)
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in optimizer.param_groups)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0, 1e-4}
