"""Fine-tuning takes over what its start hears, and lets the trunk learn more slowly than the heads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.teaching import LABELS, changed
from support.training import quick

import audiorep
from audiorep.errors import CheckpointError, ConfigError
from audiorep.models import checkpoint
from audiorep.models.front_end import FRONT_ENDS
from audiorep.training.augment import AugmentConfig
from audiorep.training.module import Trainee
from audiorep.training.recipe import OptimizerConfig
from audiorep.training.settings import remarks, settings_of


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("epochs = 2\nnetwork = { dropout = 0.25 }\n[optimizer]\ntrunk_rate = 0.1\n")
    return path


@pytest.mark.slow
def test_network_front_end_and_windows_are_those_of_the_start(teacher, recipe):
    loaded = checkpoint.load(teacher)
    config = settings_of(recipe, {"start": teacher})
    assert config.front_end_config == loaded.front_end.config
    assert (config.window_seconds, config.hop_seconds) == (0.75, 0.75)
    assert (config.architecture, config.start) == (loaded.architecture, str(teacher))
    assert config.network["width"] == 12
    assert config.network["dropout"] == 0.25
    network = Trainee(config, LABELS, 4, {}).network
    assert not checkpoint.transfer(network, loaded, LABELS).new


@pytest.mark.slow
def test_what_settings_say_wins_over_the_start(teacher, recipe):
    config = settings_of(recipe, {"start": teacher, "window_seconds": 0.5, "hop_seconds": 0.25, "front_end": "light"})
    assert (config.window_seconds, config.front_end) == (0.5, "light")
    other = settings_of(recipe, {"start": teacher, "architecture": "arin_nano"})
    assert "width" not in other.network
    protocol = settings_of((), {"start": teacher, "protocol": "urbansound8k"})
    assert (protocol.window_seconds, protocol.front_end) == (4.16, "urbansound8k")


@pytest.mark.slow
def test_sizes_that_compression_left_are_taken_over(teacher, tmp_path):
    layers = {"stages.0.0.expand.conv": {"out_channels": 8}}
    folder = changed(teacher, tmp_path / "narrow", layers=layers)
    assert settings_of((), {"start": folder}).layers == layers


def test_none_starts_anew_whatever_the_recipe_says(tmp_path, recipe):
    recipe.write_text(f'start = "{tmp_path / "gone"}"\n')
    assert settings_of(recipe, {"start": "none"}).start == ""
    with pytest.raises(CheckpointError, match="gone"):
        settings_of(recipe, {})
    with pytest.raises(CheckpointError, match="nowhere"):
        settings_of((), {"start": tmp_path / "nowhere"})


def test_a_start_with_damaged_settings_is_refused(tmp_path):
    for content in ("{}", '{"network": 3}', '{"front_end": 7}'):
        (tmp_path / checkpoint.CONFIG).write_text(content)
        if content == "{}":
            assert settings_of((), {"start": tmp_path}).start == str(tmp_path)
        else:
            with pytest.raises((ConfigError, CheckpointError)):
                settings_of((), {"start": tmp_path})


def test_the_trunk_learns_at_its_own_rate_after_the_frozen_epochs():
    optimizer = {"learning_rate": 0.01, "trunk_rate": 0.1, "frozen_epochs": 2, "weight_decay": 0.3}
    trainee = Trainee(quick(optimizer=optimizer, schedule={"name": "step"}, epochs=4), LABELS, 5, {})
    made = trainee.configure_optimizers()
    groups = {group["name"]: group for group in made["optimizer"].param_groups}
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        "trunk weights": 0.3, "trunk biases": 0.0, "heads weights": 0.3, "heads biases": 0.0
    }  # fmt: skip
    assert [p.shape for p in groups["heads biases"]["params"]] == [torch.Size([3])]
    assert sum(len(group["params"]) for group in groups.values()) == len(list(trainee.network.parameters()))
    rates = []
    for _ in range(20):
        rates.append((groups["trunk weights"]["lr"], groups["heads weights"]["lr"]))
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates[:10] == [(0.0, 0.01)] * 10
    assert rates[10:] == [(pytest.approx(0.001), 0.01)] * 10


def test_impossible_rates_are_refused():
    for wrong in ({"trunk_rate": -1.0}, {"frozen_epochs": -1.0}, {"learning_rate": 0.0}):
        with pytest.raises(ConfigError):
            OptimizerConfig(**wrong)
    assert replace(OptimizerConfig(), trunk_rate=0.0).trunk_rate == 0


def test_without_a_recipe_training_goes_on_from_the_tagger_by_settings_for_little_data():
    config = settings_of((), {})
    assert (config.start, config.architecture, config.front_end_config) == ("nano", "arin_nano", FRONT_ENDS["yamnet"])
    assert (config.window_seconds, config.multi_label) == (0.975, False)
    assert config.fit_heads
    assert config.augment.speed > 0
    assert min(config.splits.valid_fraction, config.splits.test_fraction) > 0
    assert settings_of((), {"epochs": 3}).epochs == 3


@pytest.mark.parametrize(
    "choice", [{"start": "none"}, {"architecture": "arin_small"}, {"front_end": "light"}, {"network": {"dropout": 0.1}}]
)
def test_without_a_recipe_another_network_starts_from_random_weights(choice):
    config = settings_of((), choice)
    assert config.start == ""
    assert config.augment.speed > 0
    assert config.optimizer.trunk_rate == 1
    assert remarks(config, []) == ["Training starts from random weights."]


def test_a_recipe_stands_for_itself(recipe):
    assert settings_of(recipe, {}).start == ""
    assert settings_of(recipe, {}).augment == AugmentConfig()
    tuned = settings_of(recipe, {"start": "nano"})
    assert (tuned.window_seconds, tuned.augment) == (0.975, AugmentConfig())


def test_another_front_end_than_the_starts_and_clips_that_it_heard_are_told(teacher, recipe, examples):
    assert settings_of(recipe, {"start": "nano", "window_seconds": 1.95}).hop_seconds == pytest.approx(0.975)
    said = remarks(settings_of(recipe, {"start": teacher, "front_end": "yamnet", "window_seconds": 0.5}), [])
    assert len(said) == 1
    assert "another front end" in said[0]
    config = settings_of(recipe, {"start": teacher})
    assert remarks(config, [e for e in examples if e.split != "train"]) == []
    heard = [replace(e, split="test") for e in examples if e.split == "train"]
    assert f"{len(heard)} of the {len(heard)} test clips" in remarks(config, heard)[0]


@pytest.mark.slow
def test_a_newcomers_training_needs_no_recipe(tones, tmp_path):
    said = []
    tested = audiorep.train(tones, tmp_path / "run", epochs=2, say=said.append)
    assert any(line.startswith("From nano: ") for line in said), said
    assert tested[0].clips > 0
    made = checkpoint.load(tmp_path / "run")
    assert made.info.provenance["started_from"] == "nano"
    assert made.info.window_seconds == 0.975
