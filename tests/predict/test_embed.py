"""Embeddings of files and arrays: a vector a window, cut as for the labels, and no file costing another."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from support import SAMPLES
from support.info import RATE, FakeSession, make_info
from support.sounds import sine

import audiorep
from audiorep.audio.decode import Stretch
from audiorep.errors import AudioError, BundleError, ConfigError
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Embedding, Failure
from audiorep.runtimes import Known
from audiorep.shipped import SHIPPED


@pytest.fixture(scope="module")
def bundled():
    return audiorep.load("esc50", threads=1)


@pytest.fixture
def ramp(tmp_path) -> Path:
    """Ten seconds that rise evenly from 0 to 1."""
    soundfile.write(tmp_path / "ramp.wav", np.arange(10 * RATE, dtype=np.float32) / (10 * RATE), RATE, "FLOAT")
    return tmp_path / "ramp.wav"


def test_each_window_has_its_vector_and_its_start(ramp):
    classifier = Classifier(FakeSession())
    found, recording = classifier.embed(ramp), classifier(ramp)
    assert np.array_equal(found.starts, recording.starts)
    assert (found.path, found.seconds, found.complete, found.notes) == (ramp, 10.0, True, ())
    assert found.vectors.dtype == np.float32
    assert found.vectors == pytest.approx(10 * recording.scores["label"][:, :2], rel=1e-6)
    assert found.mean() == pytest.approx(found.vectors.mean(0))


def test_windows_are_those_of_the_labels(ramp):
    classifier = Classifier(FakeSession()).with_windows(hop_seconds=0.25)
    assert len(classifier.embed(ramp).vectors) == len(classifier(ramp).starts) == 37
    assert [len(one.vectors) for one in classifier.embed_files([ramp, Stretch(ramp, 4.0, 5.0)], views=3)] == [3, 3]


def test_an_array_has_the_embedding_of_the_file_that_holds_it(bundled, tmp_path):
    samples = np.stack([sine(700, 4.3, 44_100, level) for level in (0.5, 0.2)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, 44_100, "FLOAT")
    assert np.array_equal(bundled.embed(tmp_path / "a.wav").vectors, bundled.embed(samples, 44_100).vectors)
    assert bundled.embed(samples, 44_100).vectors.shape[1] == bundled.info.embedding_size == 128
    with pytest.raises(ConfigError, match="sample rate"):
        bundled.embed(samples)
    with pytest.raises(ConfigError, match="sample_rate"):
        bundled.embed(tmp_path / "a.wav", 44_100)


def test_of_several_a_bad_one_costs_the_others_nothing(bundled, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    found = bundled.embed([SAMPLES / "siren.flac", tmp_path / "bad.wav", str(SAMPLES / "crow.flac")])
    assert [type(one) for one in found] == [Embedding, Failure, Embedding]
    assert np.array_equal(found[2].vectors, bundled.embed(SAMPLES / "crow.flac").vectors)
    with pytest.raises(AudioError, match=r"bad\.wav"):
        bundled.embed(tmp_path / "bad.wav")
    assert bundled.embed([]) == []


@pytest.mark.slow
def test_a_folder_is_searched(bundled):
    assert len(bundled.embed(SAMPLES)) == len(bundled(SAMPLES)) == 13


def test_vectors_of_unit_length_point_the_same_way_and_zeros_stay():
    found = Embedding(Path("a.wav"), 1.5, np.array([0.0, 0.5]), np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).unit()
    assert found == pytest.approx(np.array([[0.6, 0.8], [0.0, 0.0]]))


def test_the_bundled_models_embedding_is_what_its_head_is_given(bundled):
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(SHIPPED["esc50"].file).graph.initializer}
    weight, bias = (tensors[f"network.heads.label.{name}"] for name in ("weight", "bias"))
    recording = bundled(SAMPLES / "recording.flac")
    logits = bundled.embed(SAMPLES / "recording.flac").vectors @ weight.T + bias
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.abs(scores - recording.scores["label"]).max() < 1e-5


def test_a_model_without_its_class_for_unknown_sounds_hears_the_same(ramp):
    session = FakeSession(make_info(embedding_size=2, unknown="rest"))
    known = Classifier(Known(session))
    assert np.array_equal(known.embed(ramp).vectors, Classifier(session).embed(ramp).vectors)
    assert known(ramp).scores["label"].shape == (19, 2)


def test_a_model_without_one_says_so_before_it_opens_a_file(tmp_path):
    older = Classifier(FakeSession(make_info(name="older")))
    for call in (older.embed, lambda source: next(older.embed_files(source))):
        with pytest.raises(BundleError, match=r"model older gives no embedding: .* Export it again"):
            call([tmp_path / "nothing.wav"])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize(("value", "text"), [(np.nan, "NaN .* for embedding in 1 of 1"), (None, "1 × 1 for embedding; 1 × 2")])
def test_what_is_no_embedding_is_an_error_that_names_the_model(value, text):
    class Odd(FakeSession):
        def run(self, waveform, outputs):
            found = np.full((len(waveform), 2), value or 0.0, np.float32)
            return {"embedding": found[:, : 1 if value is None else 2]}

    with pytest.raises(BundleError, match=f"model fake gives .*{text}"):
        Classifier(Odd()).embed(np.zeros(RATE), RATE)


@pytest.mark.slow
def test_the_sound_of_a_long_file_is_not_kept(tmp_path):
    """Of an hour, 14 MB of samples, the vectors of 7,199 windows are kept, 58 kB."""
    soundfile.write(tmp_path / "long.wav", np.zeros(3600 * RATE, np.float32), RATE, "FLOAT")
    classifier = Classifier(FakeSession())
    classifier.embed(np.zeros(RATE), RATE)
    tracemalloc.start()
    try:
        found = classifier.embed(tmp_path / "long.wav")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.vectors.shape == (7199, 2)
    assert peak < 10_000_000
