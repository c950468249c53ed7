"""A stream gives the windows of a file of the same samples, however they arrive, with times that count samples."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from support.info import RATE, FakeSession, make_info

import audiorep
from audiorep.errors import AudioError, BundleError, ConfigError
from audiorep.predict.classifier import Classifier
from audiorep.predict.stream import Stream, StreamWindow


def pieces(samples: np.ndarray, borders: list[int]) -> list[np.ndarray]:
    return np.split(samples, sorted(borders))


def streamed(stream: Stream, parts: list[np.ndarray]) -> list[StreamWindow]:
    return [window for part in parts for window in stream.push(part)] + stream.flush()


def same(found: list[StreamWindow], samples: np.ndarray, rate: int, classifier: Classifier, limit: float = 1e-6) -> None:
    expected = classifier(samples, rate)
    assert len(found) == len(expected.starts)
    for place, window in enumerate(found):
        assert window.start == pytest.approx(expected.starts[place], abs=1e-9)
        assert window.end == pytest.approx(expected.end(place), abs=2e-3)  # a file's window is a sample shorter
        for head, scores in window.scores.items():
            assert np.abs(scores - expected.scores[head][place]).max() < limit
        assert window.peak == pytest.approx(expected.peaks[place], abs=1e-6)


@given(data=st.data(), rate=st.sampled_from([RATE, 1600, 44_100, 317]), seconds=st.floats(0.01, 5.0), hop=st.floats(0.05, 1.0))
@settings(max_examples=150, deadline=None)
def test_any_pieces_give_the_windows_of_a_file(data, rate, seconds, hop):
    count = max(8, round(seconds * rate))
    samples = np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)
    parts = pieces(samples, data.draw(st.lists(st.integers(0, count), max_size=30)))
    classifier = Classifier(FakeSession()).with_windows(hop_seconds=hop)
    try:
        classifier(samples, rate)
    except AudioError:  # too short for a sample at the model's rate
        return
    same(streamed(classifier.stream(rate), parts), samples, rate, classifier)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano", "esc50"])
def test_models_of_the_package_give_the_scores_of_a_file(name, samples_folder):
    samples, rate = soundfile.read(samples_folder / "recording.flac")
    classifier = audiorep.load(name)
    for size in (160, 4_410, 100_000):
        same(streamed(classifier.stream(rate), np.array_split(samples, len(samples) // size + 1)), samples, rate, classifier)


@pytest.fixture(scope="module")
def samples_folder():
    from pathlib import Path

    return Path(__file__).parent.parent.parent / "samples"


def test_channels_are_averaged():
    stream = Classifier(FakeSession()).stream()
    [window] = stream.push(np.stack([np.full(RATE, 0.5), np.full(RATE, 0.1)], 1))
    np.testing.assert_allclose(window.scores["label"], [0.3, 0.3, 0.7], rtol=1e-5)


def test_a_window_comes_with_the_sample_that_completes_it():
    stream = Classifier(FakeSession()).stream()
    assert stream.push(np.zeros(RATE - 2)) == []
    assert len(stream.push(np.zeros(1))) == 1
    assert stream.push(np.zeros(0)) == []
    assert stream.seconds == pytest.approx(0.999)


def test_a_gap_is_counted_and_nothing_is_heard_across_it():
    stream = Classifier(FakeSession()).stream()
    stream.push(np.full(RATE - 2, 0.5))
    stream.reset(gap_seconds=7.25)
    assert stream.push(np.zeros(RATE - 2)) == []
    [window] = stream.push(np.zeros(2))
    assert window.start == pytest.approx(0.998 + 7.25)
    assert window.peak == 0
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="gap"):
            stream.reset(wrong)


def test_after_its_end_a_stream_begins_anew():
    stream = Classifier(FakeSession()).stream()
    [short] = [*stream.push(np.full(300, 0.5)), *stream.flush()]
    assert (short.start, short.end) == (0.0, pytest.approx(0.3))
    [second] = [*stream.push(np.full(400, 0.25)), *stream.flush()]
    assert (second.start, second.end) == (pytest.approx(0.3), pytest.approx(0.7))
    assert second.peak == 0.25
    assert stream.flush() == []


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(10, np.int16), "int16"),
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.array([0.0, np.inf]), "NaN or infinite"),
        (np.full(10, 20_000.0), "up to 20000"),
        (np.zeros((2, 3, 4)), "shape"),
        (np.zeros((2, 0)), "shape"),
    ],
)
def test_wrong_samples_are_refused_and_cost_nothing_else(samples, reason):
    stream = Classifier(FakeSession()).stream()
    stream.push(np.full(RATE // 2, 0.5))
    with pytest.raises(AudioError, match=reason):
        stream.push(samples)
    [window] = stream.push(np.full(RATE // 2, 0.5))
    np.testing.assert_allclose(window.scores["label"], [0.5, 0.5, 0.5])


def test_wrong_rates_and_hops_are_refused():
    classifier = Classifier(FakeSession())
    for rate in (0, -8000, 8000.5, True, float("nan"), 10**9):
        with pytest.raises(ConfigError, match="sample rate"):
            classifier.stream(rate)
    with pytest.raises(BundleError, match="hop"):
        classifier.stream(hop_seconds=2.0)


def test_streams_are_heard_together():
    session = FakeSession()
    classifier = Classifier(session)
    streams = [classifier.stream() for _ in range(5)]
    cut = [window for k, stream in enumerate(streams) for window in stream.cut(np.full(RATE, 0.1 * k))]
    found = classifier.hear_windows(cut)
    assert session.batches == [5]
    np.testing.assert_allclose([window.peak for window in found], 0.1 * np.arange(5), rtol=1e-6)


def test_silence_is_unknown_in_a_stream_too():
    classifier = Classifier(FakeSession(make_info(unknown="rest", silence=0.01)))
    [window] = classifier.stream().push(np.full(RATE, 0.001))
    assert window.scores["label"].tolist() == [0, 0, 1]


def test_memory_does_not_grow_with_the_stream():
    stream = Classifier(FakeSession()).stream(16_000)
    block = np.random.default_rng(0).uniform(-1, 1, 1600)

    def hear(blocks: int) -> None:
        for _ in range(blocks):
            stream.push(block)

    hear(100)
    tracemalloc.start()
    hear(100)
    early = tracemalloc.get_traced_memory()[0]
    hear(2000)
    late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert late - early < 50_000
    assert stream.seconds == pytest.approx(220.0)
