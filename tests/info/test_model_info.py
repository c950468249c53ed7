"""A model's description survives the trip through a file, and a damaged one is refused with its path."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from audiorep.errors import BundleError
from audiorep.info.model_info import FORMAT_VERSION, PREFIX, ModelInfo

PATH = Path("models/bird.onnx")


def make(**changes: Any) -> ModelInfo:
    values: dict[str, Any] = {
        "name": "arin_pico",
        "labels": {"verb": ["cut", "wash"], "noun": ["knife", "pan", "größe 音"]},
        "sample_rate": 16000,
        "window_seconds": 5.12,
        "hop_seconds": 2.56,
        "front_end": {"mels": 64, "f_min": 0.0, "f_max": None},
        "activation": "sigmoid",
        "thresholds": {"verb": [0.25, 0.75]},
        "license": "CC-BY-4.0",
        "provenance": {"data": "made up", "accuracy": {"top-1": 0.5}},
    }
    return ModelInfo(**{**values, **changes})


def test_description_survives_the_trip_through_metadata():
    info = make()
    metadata = info.to_metadata()
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in metadata.items())
    assert ModelInfo.from_metadata(metadata, PATH) == info


def test_metadata_of_others_beside_ours_is_left_alone():
    metadata = {"producer": "torch", "date": "{not json", **make().to_metadata()}
    assert ModelInfo.from_metadata(metadata, PATH) == make()


def test_silence_is_written_where_the_model_tells_it():
    assert "silence" not in make().as_dict()
    told = make(unknown="unknown", silence=0.001)
    assert ModelInfo.from_metadata(told.to_metadata(), PATH).silence == 0.001


def test_description_survives_the_trip_through_a_dictionary():
    values = json.loads(json.dumps(dataclasses.asdict(make())))
    assert ModelInfo.from_dict(values, PATH) == make()


def test_fields_with_defaults_may_be_left_out():
    values = dataclasses.asdict(make())
    for name in ("activation", "thresholds", "license", "provenance"):
        del values[name]
    info = ModelInfo.from_dict(values, PATH)
    assert (info.activation, info.thresholds, info.license, info.provenance) == ("softmax", {}, "unknown", {})


@pytest.mark.parametrize(("activation", "task"), [("softmax", "single-label"), ("sigmoid", "multi-label")])
def test_task_follows_from_the_activation_and_is_told_in_the_metadata(activation, task):
    info = make(activation=activation)
    assert info.task == task
    assert json.loads(info.to_metadata()[f"{PREFIX}task"]) == task


@pytest.mark.parametrize(("seconds", "rate", "samples"), [(5.12, 16000, 81919), (1.0, 8000, 7999), (0.96, 44100, 42335)])
def test_window_is_one_sample_short(seconds, rate, samples):
    assert make(window_seconds=seconds, hop_seconds=seconds, sample_rate=rate).window_samples == samples


@pytest.mark.parametrize(("activation", "default"), [("softmax", 0.0), ("sigmoid", 0.5)])
def test_head_without_thresholds_reports_from_the_activations_default(activation, default):
    info = make(activation=activation)
    assert info.threshold("verb") == [0.25, 0.75]
    assert info.threshold("noun") == [default] * 3


# ---------------------------------------------------------------- refusals


def refusal(metadata: dict[str, str]) -> str:
    """What the metadata is refused with; the text names the file."""
    with pytest.raises(BundleError) as caught:
        ModelInfo.from_metadata(metadata, PATH)
    assert str(PATH) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("metadata", [{}, {"producer": "torch", "labels": '["a"]'}])
def test_model_of_others_is_refused_with_how_to_make_one(metadata):
    text = refusal(metadata)
    assert "is not an audiorep model" in text
    assert "audiorep export" in text


def test_newer_version_is_refused_with_what_this_one_reads():
    text = refusal({**make().to_metadata(), f"{PREFIX}format_version": str(FORMAT_VERSION + 1)})
    assert f"format version {FORMAT_VERSION + 1}; this audiorep reads up to {FORMAT_VERSION}. Upgrade audiorep." in text


@pytest.mark.parametrize("version", ['"1"', "null", "1.5", None])
def test_version_that_is_no_number_is_refused(version):
    metadata = make().to_metadata()
    del metadata[f"{PREFIX}format_version"]
    assert "has format version" in refusal(metadata if version is None else {**metadata, f"{PREFIX}format_version": version})


def test_missing_fields_are_refused_by_name():
    metadata = make().to_metadata()
    del metadata[f"{PREFIX}labels"], metadata[f"{PREFIX}window_seconds"]
    assert "lacks labels, window_seconds. Export the model again." in refusal(metadata)


def test_metadata_that_is_not_json_is_refused_with_its_key():
    assert "its metadata audiorep.labels is not JSON" in refusal({**make().to_metadata(), f"{PREFIX}labels": '{"label": ['})


@pytest.mark.parametrize(
    ("field", "text"), [("labels", "[1, 2]"), ("sample_rate", '"fast"'), ("thresholds", "null"), ("window_seconds", "null")]
)
def test_fields_of_another_type_are_refused_as_damaged(field, text):
    assert "its settings are damaged" in refusal({**make().to_metadata(), f"{PREFIX}{field}": text})


@pytest.mark.parametrize("thresholds", [{"verb": [0.5]}, {"verb": []}, {"verb": [0.5] * 3}, {"adverb": [0.5]}])
def test_thresholds_that_do_not_match_the_labels_are_refused(thresholds):
    metadata = {**make().to_metadata(), f"{PREFIX}thresholds": json.dumps(thresholds)}
    assert "model arin_pico: thresholds must be numbers" in refusal(metadata)


def test_all_problems_are_named_in_one_error():
    with pytest.raises(BundleError) as caught:
        make(labels={"label": []}, sample_rate=0, window_seconds=-1.0, activation="relu", thresholds={})
    text = str(caught.value)
    for problem in ("labels {'label': 0}", "sample_rate is 0 Hz", "window -1 s", "activation is 'relu'; allowed are softmax"):
        assert problem in text
    assert text.startswith("model arin_pico: ")


def test_model_without_heads_is_refused():
    with pytest.raises(BundleError, match="class"):
        make(labels={}, thresholds={})
