"""Int8 is chosen by its accuracy on clips that are neither calibrated on nor tested, and steps leave their history."""

from __future__ import annotations

import dataclasses

import pytest

from audiorep import datasets
from audiorep.compress import int8, steps
from audiorep.datasets import Splits
from audiorep.errors import ConfigError, DataError
from audiorep.models import checkpoint
from audiorep.runtimes import open_session

pytestmark = pytest.mark.slow


def test_clips_that_int8_is_chosen_by_are_neither_calibrated_on_nor_tested(loaded, tones, examples):
    info = loaded.info
    sounds = int8.sounds_of(examples, info)
    assert sounds.origin == "validation clips"
    assert {example.split for example in sounds.choice} == {"valid"}
    assert all(window.shape == (info.window_samples,) for window in sounds.calibration)
    only = datasets.examples(tones, splits=Splits(valid_fraction=0.0))
    with pytest.raises(DataError, match="to be chosen by"):
        int8.sounds_of([e for e in only if e.split == "train"], info)  # so few that all are calibrated on
    with pytest.raises(DataError, match="training clips"):
        int8.sounds_of([e for e in examples if e.split == "test"], info)


def test_sounds_of_a_lower_rate_than_the_model_hears_are_told_of(loaded, examples):
    info = loaded.info
    said: list[str] = []
    int8.sounds_of(examples, info, said.append)
    assert not said
    front_end = {**info.front_end, **{key: 2 * info.front_end[key] for key in ("sample_rate", "n_fft")}}
    higher = dataclasses.replace(info, sample_rate=2 * info.sample_rate, front_end=front_end)
    int8.sounds_of(examples, higher, said.append)
    assert len(said) == 1
    assert f"of a lower rate (down to {info.sample_rate} Hz) than the model's {2 * info.sample_rate} Hz" in said[0]


@pytest.mark.full
def test_openvinos_int8_is_judged_and_a_wrong_label_refused(loaded, examples, tmp_path):
    model = loaded
    sounds = int8.sounds_of(examples, model.info)
    assert int8.write_openvino(model, sounds, tmp_path / "q.xml", 0.2) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"q.xml", "q.bin"}
    provenance = open_session(tmp_path / "q.xml").info.provenance
    assert provenance["precision"] == "int8"
    assert "measured_in_float32" in provenance
    assert "measured" not in provenance
    wrong = [dataclasses.replace(sounds.choice[0], labels={"label": ("zebra",)}), *sounds.choice[1:]]
    with pytest.raises(DataError, match="zebra"):
        int8.write_openvino(model, dataclasses.replace(sounds, choice=wrong), tmp_path / "w.xml")


def test_layers_that_cost_most_stay_in_float32_where_int8_loses_too_much(loaded, examples):
    model = loaded
    sounds = int8.sounds_of(examples, model.info)
    made = int8.quantize(model, sounds, loss=1.0, left=("heads.label",), sensitivity=True)
    assert made.setting.left == ("heads.label",)
    assert len(made.tried) == 6
    assert made.speed > 0
    costs = [row.change for row in made.sensitivities]
    assert costs == sorted(costs, reverse=True)
    assert {row.layer for row in made.sensitivities} >= {"stem.conv", "heads.label"}
    with pytest.raises(ConfigError, match=r"\d+ of \d+ layers in float32: accuracy falls"):
        int8.quantize(model, sounds, loss=-2.0)


def test_steps_leave_their_history(run, loaded, tones, examples, tmp_path):
    model = loaded
    work = steps.Work(model, run, run, examples, tones, tmp_path / "thin")
    made = checkpoint.load(steps.LowRank(energy=0.5).run(work))
    assert made.info.provenance["compressed"] == ["low rank with 50.000% of the energy"]
    assert "measured" not in made.info.provenance
    assert made.info.provenance["seen"] == model.info.provenance["seen"]
