"""A classifier called with a file, an array of any rate, a list, a folder or a pattern."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES
from support.sounds import sine

import audiorep
from audiorep.audio.decode import Stretch, Waveform
from audiorep.errors import AudioError, BundleError, ConfigError
from audiorep.predict.results import Failure, Recording, Results


@pytest.fixture(scope="module")
def classifier():
    return audiorep.load("esc50", threads=1)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_array_is_heard_as_the_file_that_holds_it(classifier, tmp_path, rate, channels):
    samples = np.stack([sine(700, 11.3, rate, level) for level in (0.5, 0.2)[:channels]], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, rate, "FLOAT")
    file, array = classifier(tmp_path / "a.wav"), classifier(samples, rate)
    assert np.array_equal(file.scores["label"], array.scores["label"])
    assert np.array_equal(file.starts, array.starts)
    assert file.seconds == array.seconds
    assert array.path == Path("waveform")


def test_one_channel_may_leave_its_axis_out(classifier):
    samples = sine(700, 2.0, 16_000)
    assert np.array_equal(classifier(samples, 16_000).mean(), classifier(samples[:, None].astype(np.float64), 16_000).mean())


def test_channels_of_an_array_that_cancel_each_other_out_are_noted(classifier):
    samples = sine(700, 2.0, 16_000)
    assert "opposite phase" in classifier(np.stack([samples, -samples], axis=1), 16_000).notes[0]


@pytest.mark.parametrize(
    ("samples", "rate", "fault"),
    [
        (np.zeros(100, np.int16), 16_000, "int16"),
        (np.zeros((2, 100)), 16_000, "Transpose"),
        (np.zeros((1, 2, 3)), 16_000, "shape"),
        (np.zeros(0), 16_000, "shape"),
        (np.full(100, np.nan), 16_000, "NaN"),
        (np.full(100, 3e4), 16_000, "-1..1"),
        (np.zeros(100), 0, "0 Hz"),
        (np.zeros(100), float("nan"), "nan Hz"),
        (np.zeros(100), 16_000.5, "16000.5 Hz"),
    ],
)
def test_an_array_that_is_no_sound_is_refused(classifier, samples, rate, fault):
    with pytest.raises(AudioError, match=fault):
        classifier(samples, rate)


def test_an_array_needs_its_rate_and_a_file_has_its_own(classifier):
    with pytest.raises(ConfigError, match="sample rate"):
        classifier(np.zeros(100))
    with pytest.raises(ConfigError, match="sample_rate"):
        classifier(SAMPLES / "siren.flac", 16_000)


def test_one_file_that_cannot_be_used_is_an_error(classifier, tmp_path):
    with pytest.raises(AudioError, match=r"nothing\.wav"):
        classifier(tmp_path / "nothing.wav")


def test_of_several_a_bad_one_costs_the_others_nothing(classifier, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    results = classifier([SAMPLES / "siren.flac", tmp_path / "bad.wav", str(SAMPLES / "crow.flac")])
    assert [type(result) for result in results] == [Recording, Failure, Recording]
    assert [recording.label for recording in results.recordings] == ["siren", "crow"]
    assert [failure.path.name for failure in results.failures] == ["bad.wav"]


@pytest.mark.slow
@pytest.mark.parametrize("given", [str(SAMPLES), SAMPLES, [SAMPLES], str(SAMPLES / "*.flac")])
def test_folders_and_patterns_are_searched(classifier, given):
    results = classifier(given)
    assert isinstance(results, Results)
    assert len(results.recordings) == len(results) == 13


def test_an_empty_folder_is_a_failure_and_an_empty_list_nothing(classifier, tmp_path):
    assert [type(result) for result in classifier(tmp_path)] == [Failure]
    assert classifier([]) == []


def test_parts_of_files_and_samples_go_into_lists(classifier):
    part, sound = Stretch(SAMPLES / "recording.flac", 40.0, 45.0), Waveform(sine(700, 1.0, 8000), 8000, Path("mine"))
    results = classifier([part, sound])
    assert [result.seconds for result in results.recordings] == [5.0, 1.0]
    assert results[1].path == Path("mine")
    assert classifier(part).seconds == 5.0


def test_rows_have_the_same_columns_for_labels_and_for_errors(classifier, tmp_path):
    rows = classifier([SAMPLES / "crow.flac", tmp_path / "nothing.wav"]).rows(top=2, threshold=0.0)
    assert [row["label"] for row in rows][0::2] == ["crow", None]
    assert {tuple(row) for row in rows} == {("path", "start", "end", "head", "label", "score", "error")}
    assert rows[0]["error"] == ""
    assert "nothing.wav does not exist" in rows[-1]["error"]


def test_rows_are_a_table_in_pandas(classifier):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed; rows are dictionaries all the same")
    table = pandas.DataFrame(classifier([SAMPLES / "crow.flac"]).rows())
    assert table.loc[0, "label"] == "crow"


def test_views_are_one_answer_or_times(classifier):
    recording = classifier(SAMPLES / "recording.flac")
    assert len(recording.view("file")) == 1
    assert recording.view("windows") == recording.detections()
    assert recording.view() == recording.view("events") == recording.events()
    assert recording.view(top=1) == recording.view("merged") == recording.merged()
    assert classifier(SAMPLES / "crow.flac").view() == classifier(SAMPLES / "crow.flac").whole()


def test_missing_bundle_is_refused_with_its_path(tmp_path):
    with pytest.raises(BundleError) as caught:
        audiorep.load(tmp_path / "gone.onnx")
    assert str(tmp_path / "gone.onnx") in str(caught.value)
