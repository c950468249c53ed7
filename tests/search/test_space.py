"""A space of settings is read with all its faults at once, and trials are judged on clips that are not for tests."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support import ROOT
from support.searches import RECIPE, read
from support.training import folded

from audiorep import config, datasets
from audiorep.datasets import Splits
from audiorep.errors import ConfigError, DataError
from audiorep.search import clips, outcome, space
from audiorep.search.trial import behind
from audiorep.training.recipe import TrainConfig

RECIPES = ROOT / "recipes"


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


@pytest.mark.slow
def test_every_wrong_entry_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        read(WRONG)
    text = str(caught.value)
    for part in [
        r"space\.toml: network\.widht .*arin_pico",
        r"front_end\.bands ",
        "nothing ",
        r"network\.width ",
        r"augment\.mixup.* 0\.8 .* 0\.2",
        r"optimizer\.learning_rate: low is 0\.0",
        r"epochs .*1\.5",
        "batch_size: step 8 .* 8 to 33",
        r"network\.depths .*deep",
        r"network\.expansion .* 2 ",
        r"network\.time_kernels .*choices",
        "ema_decay .*low and high",
        "label_smoothing .*steps",
        "front_end .*'loud'.* vggsound",
        r"splits\.valid_fraction .*vary",
        "seed is 3.*low.*high",
    ]:
        assert re.search(part, text), part
    with pytest.raises(ConfigError, match=r"\[space\]"):
        space.read({"network.width": [8]}, RECIPE, "space.toml")
    with pytest.raises(ConfigError, match="kernels"):
        read({"network.time_kernels": [[2], [4]]})


def test_several_architectures_bring_their_own_fields():
    found = space.read(
        {"space": {"architecture": ["arin_pico", "mobilenetv3"], "network.multiplier": [0.4, 1.0]}}, {}, "space.toml"
    )
    assert found.config({"architecture": "mobilenetv3", "network.multiplier": 0.4}).network == {"multiplier": 0.4}
    with pytest.raises(ConfigError, match="multiplier"):
        found.config({"architecture": "arin_pico", "network.multiplier": 0.4})


@pytest.mark.slow
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
    with pytest.raises(DataError, match="folds"):
        clips.search_clips(datasets.examples(data), Splits(), "tones")
    none = Splits(test_folds=(3,), valid_fraction=0.0)
    with pytest.raises(DataError, match=r"24 .* 0 .*--valid-fold.*splits\.valid_fraction"):
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


# ------------------------------------------------------------------ the outcome


def row(number: int, accuracy: float, price: float) -> outcome.Row:
    return outcome.Row(number, "complete", accuracy, price, {}, [accuracy], 1.0, None, "")


def test_the_front_holds_what_none_beats_in_both_ends():
    rows = [row(0, 0.9, 5.0), row(1, 0.8, 2.0), row(2, 0.7, 3.0), row(3, 0.95, 9.0), row(4, 0.9, 6.0), row(5, 0.8, 2.0)]
    assert [found.number for found in outcome.pareto_front(rows)] == [1, 0, 3]
    assert outcome.pareto_front([]) == []
