"""Calibrated scores are probabilities in the same order, and a model says how they are made."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.info import make_info

from audiorep.errors import BundleError
from audiorep.info.calibration import calibrated, logits
from audiorep.info.model_info import PREFIX, ModelInfo

PATH = Path("models/bird.onnx")
NONE = {"temperature": 1.0, "bias": 0.0}
BOTH = {"window": {"temperature": 2.0}, "file": {"temperature": 0.5}}


def test_a_temperature_divides_the_logits_of_a_softmax():
    values = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    powers = np.exp(values) ** 2
    found = calibrated(np.exp(values).astype(np.float32), {"temperature": 0.5}, "softmax")
    assert found == pytest.approx(powers / powers.sum(1, keepdims=True), abs=1e-6)
    assert found.dtype == np.float32


def test_a_temperature_and_a_bias_change_the_logit_of_a_sigmoid():
    scores = np.array([0.5, 0.9, 0.01])
    expected = 1 / (1 + np.exp(-(np.log(scores / (1 - scores)) / 2 + 0.3)))
    assert calibrated(scores, {"temperature": 2.0, "bias": 0.3}, "sigmoid") == pytest.approx(expected)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 100.0])
def test_calibrated_scores_are_scores_also_at_the_ends(activation, temperature):
    scores = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1e-30], [0.4, 0.35, 0.25]], np.float32)
    found = calibrated(scores, {"temperature": temperature, "bias": -100.0}, activation)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found[2]) <= 0).all()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_temperature_of_one_changes_nothing(activation):
    scores = np.array([[0.7, 0.2, 0.1]], np.float32)
    assert calibrated(scores, NONE, activation) == pytest.approx(scores, abs=1e-6)
    assert logits(scores, activation).dtype == np.float64


def test_windows_and_files_have_their_own_calibration():
    info = make_info(calibration={"label": BOTH})
    scores = np.array([0.6, 0.3, 0.1], np.float32)
    assert info.calibrated("label", scores, "file")[0] > scores[0] > info.calibrated("label", scores, "window")[0]
    assert make_info().calibrated("label", scores, "file") is scores


def test_a_calibration_survives_the_trip_through_a_file_and_models_without_one_say_nothing_of_it():
    info = make_info(calibration={"label": BOTH})
    assert ModelInfo.from_metadata(info.to_metadata(), PATH).calibration == {"label": BOTH}
    assert f"{PREFIX}calibration" not in make_info().to_metadata()
    assert "calibration" not in make_info().as_dict()


@pytest.mark.parametrize(
    "value",
    [
        {"verb": BOTH}, {"label": {}}, {"label": 3}, {"label": {"window": NONE}}, {"label": {**BOTH, "clip": NONE}},
        {"label": {**BOTH, "file": {}}}, {"label": {**BOTH, "file": {"temperature": 0.0}}},
        {"label": {**BOTH, "file": {"temperature": math.nan}}}, {"label": {**BOTH, "file": {"temperature": "1"}}},
        {"label": {**BOTH, "file": {"temperature": 1e9}}}, {"label": {**BOTH, "file": {"temperature": True}}},
        {"label": {**BOTH, "file": {"temperature": 1.0, "bias": 1e6}}}, {"label": {**BOTH, "file": {"bias": 0.0}}},
        {"label": {**BOTH, "file": {"temperature": 1.0, "slope": 2.0}}}, [], "label", {"label": [BOTH]},
    ],
)  # fmt: skip
def test_a_calibration_that_is_none_is_refused(value: Any):
    metadata = {**make_info().to_metadata(), f"{PREFIX}calibration": json.dumps(value)}
    with pytest.raises(BundleError, match=r"bird\.onnx.* calibration is"):
        ModelInfo.from_metadata(metadata, PATH)


@pytest.mark.parametrize("name", ["seen", "tested", "calibrated"])
def test_filters_of_clips_claim_no_more_memory_than_they_have(name):
    with pytest.raises(BundleError, match=f"provenance.{name} is damaged"):
        make_info(provenance={name: {"bits": 10**12, "filter": "abc"}})
