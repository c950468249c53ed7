"""Files in, labels with times out: in order, in flat memory, and with no file costing another."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.info import RATE, FakeSession, make_info

from audiorep import audio
from audiorep.audio import decode
from audiorep.audio.decode import Stretch
from audiorep.errors import AudioError, BundleError
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Failure, Recording
from audiorep.runtimes import Known

LENGTH = RATE - 1  # samples in a window of one second


@pytest.fixture
def level(tmp_path) -> Callable[..., Path]:
    """Writes a file that holds one value throughout."""

    def write(name: str, value: float, seconds: float = 1.0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(round(seconds * RATE), value, np.float32), RATE, "FLOAT")
        return path

    return write


@pytest.fixture
def ramp(tmp_path) -> Callable[..., Path]:
    """Writes a file that rises evenly from 0 to 1."""

    def write(name: str, seconds: float) -> Path:
        total = round(seconds * RATE)
        soundfile.write(tmp_path / name, np.arange(total, dtype=np.float32) / total, RATE, "FLOAT")
        return tmp_path / name

    return write


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    """Every test leaves as many decoder threads as it found."""
    yield
    assert decoders() == []


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


# ---------------------------------------------------------------- silence


def gated(**more: Any) -> Classifier:
    """A model to which windows below a hundredth of full scale are silence."""
    return Classifier(FakeSession(make_info(**{"unknown": "rest", "silence": 0.01, **more})))


def halves(tmp_path: Path, first: float, second: float) -> Path:
    """A file of two seconds, each with its own level; the window in the middle hears both."""
    soundfile.write(tmp_path / "halves.wav", np.repeat(np.float32([first, second]), RATE), RATE, "FLOAT")
    return tmp_path / "halves.wav"


def test_silent_window_is_unknown_and_no_part_of_its_files_scores(tmp_path):
    recording = gated().with_windows(hop_seconds=1.0)(halves(tmp_path, 0.5, -0.0099))
    assert recording.silent.tolist() == [False, True]
    np.testing.assert_allclose(recording.scores["label"], [[0.5, 0.5, 0.5], [0, 0, 1]])
    np.testing.assert_allclose(recording.mean(), [0.5, 0.5, 0.5])
    assert [(found.start, found.label, found.score) for found in recording.view("windows")][1] == (1.0, "rest", 1.0)
    assert len(recording.sounding()) == 1


def test_window_of_the_least_level_is_heard(tmp_path):
    recording = gated().with_windows(hop_seconds=1.0)(halves(tmp_path, 0.5, 0.0101))
    assert recording.silent.tolist() == [False, False]
    np.testing.assert_allclose(recording.mean()[0], (0.5 + 0.0101) / 2, rtol=1e-5)


def test_file_of_nothing_but_silence_is_unknown(level):
    for activation, name in [("softmax", "rest"), ("sigmoid", "unknown")]:
        recording = gated(activation=activation, unknown=name)(level("quiet.wav", 0.001, 3.2))
        assert recording.silent.all()
        assert [(found.label, found.score) for found in recording.whole()] == [(name, 1.0)]
        assert {found.label for found in recording.detections()} == {name}


def test_waveforms_are_judged_by_their_level_too():
    found = gated().scores(np.stack([np.full(LENGTH, 0.5), np.full(LENGTH, 0.001)]))
    np.testing.assert_allclose(found["label"], [[0.5, 0.5, 0.5], [0, 0, 1]], rtol=1e-5)


def test_calibration_does_not_change_the_scores_of_silence(level):
    halved = {"label": {kind: {"temperature": 2.0} for kind in ("window", "file")}}
    recording = gated(calibration=halved)(level("quiet.wav", 0.001, 1.0))
    assert recording.scores["label"].tolist() == [[0, 0, 1]]
    assert recording.mean().tolist() == [0, 0, 1]


def test_without_unknown_nothing_is_silence(level):
    known = Classifier(Known(gated().session))
    recording = known(level("quiet.wav", 0.001, 1.0))
    assert not recording.silent.any()
    assert recording.info.silence == 0
    assert recording.label in ("mean", "peak")


def test_models_that_do_not_tell_silence_hear_every_window(tmp_path):
    recording = Classifier(FakeSession()).with_windows(hop_seconds=1.0)(halves(tmp_path, 0.5, 0.001))
    assert not recording.silent.any()
    np.testing.assert_allclose(recording.peaks, [0.5, 0.001])
    assert len(recording.sounding()) == 2
    np.testing.assert_allclose(recording.mean()[0], (0.5 + 0.001) / 2, rtol=1e-5)


# ---------------------------------------------------------------- one file


def test_short_file_is_padded_to_one_window_and_keeps_its_length(level):
    recording = Classifier(FakeSession()).file(level("a.wav", 0.5, 0.2))
    assert recording.seconds == 0.2
    assert recording.complete
    np.testing.assert_array_equal(recording.starts, [0.0])
    np.testing.assert_allclose(recording.scores["label"], [[0.5 * 200 / LENGTH, 0.5, 0.5]], rtol=1e-6)
    assert recording.end(0) == 0.2


@pytest.mark.parametrize("seconds", [1.0, 2.3, 10.0, 57.2])
@pytest.mark.parametrize("hop", [None, 1.0, 0.1])
def test_long_file_has_the_score_of_every_window_at_its_time(ramp, monkeypatch, seconds, hop):
    monkeypatch.setattr(audio, "BLOCK_SECONDS", 3.3)
    recording = Classifier(FakeSession()).with_windows(hop_seconds=hop).file(ramp("a.wav", seconds))
    total, step = round(seconds * RATE), round((hop or 0.5) * RATE)
    first = list(range(0, total - LENGTH + 1, step))
    if total - first[-1] - LENGTH >= 0.1 * LENGTH:
        first.append(total - LENGTH)
    np.testing.assert_allclose(recording.starts, np.array(first) / RATE)
    middle = (np.array(first) + (LENGTH - 1) / 2) / total
    np.testing.assert_allclose(recording.scores["label"][:, 0], middle, atol=1e-5)
    assert recording.seconds == seconds
    assert recording.end(len(first) - 1) == pytest.approx(min(first[-1] / RATE + 1, seconds))


def test_file_of_another_rate_is_heard_at_the_models_rate(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full((44100, 2), 0.25), 44100)
    recording = Classifier(FakeSession()).file(tmp_path / "a.wav")
    assert recording.seconds == pytest.approx(1.0, abs=2e-3)
    assert recording.scores["label"][0, 0] == pytest.approx(0.25, abs=0.01)


def test_stretch_is_heard_alone(ramp):
    recording = Classifier(FakeSession()).file(Stretch(ramp("a.wav", 10), 4.0, 5.0))
    assert recording.seconds == 1.0
    np.testing.assert_allclose(recording.scores["label"][:, 0], [0.4 + 0.5 * (LENGTH - 1) / 10000], atol=1e-5)


def test_stretch_outside_its_file_is_refused_with_the_files_length(ramp):
    with pytest.raises(AudioError, match=r"a\.wav lasts 10\.00 s.* 12 s to 13 s"):
        Classifier(FakeSession()).file(Stretch(ramp("a.wav", 10), 12.0, 13.0))


def test_unusable_file_is_refused_with_its_path(tmp_path):
    with pytest.raises(AudioError, match=r"gone\.wav") as caught:
        Classifier(FakeSession()).file(tmp_path / "gone.wav")
    assert caught.value.kind == "missing"


@pytest.mark.parametrize("hop", [0.0, -1.0, 1.01, float("nan")])
def test_hop_that_would_skip_sound_or_stand_still_is_refused(level, hop):
    with pytest.raises(BundleError, match="hop"):
        Classifier(FakeSession()).with_windows(hop_seconds=hop).file(level("a.wav", 0.5))


@pytest.mark.parametrize("views", [-1, 1001, 10**12])
def test_more_views_than_anyone_waits_for_are_refused(level, views):
    with pytest.raises(BundleError, match=r"views .* 0 to 1000 "):
        next(Classifier(FakeSession()).files([level("a.wav", 0.5)], views=views))


def test_hop_is_the_models_own_unless_given():
    classifier = Classifier(FakeSession())
    hops = [classifier.with_windows(hop_seconds=hop).info.hop_samples for hop in (None, 1.0, 1e-9)]
    assert hops == [500, 1000, 1]


def test_longer_windows_keep_the_overlap_and_show_in_the_times(level):
    classifier = Classifier(FakeSession()).with_windows(window_seconds=2.0)
    assert (classifier.info.window_seconds, classifier.info.hop_seconds) == (2.0, 1.0)
    recording = classifier.file(level("a.wav", 0.5, 5.0))
    assert recording.starts.tolist() == [0, 1, 2, 3]
    assert recording.end(0) == 2.0


# ---------------------------------------------------------------- many files


def test_results_come_in_the_order_of_the_files_and_belong_to_them(level, ramp):
    durations = [0.3, 12.0, 1.0, 0.05, 30.0, 2.0, 1.0, 1.7] * 3
    paths = [level(f"{k}.wav", k / 100, seconds) for k, seconds in enumerate(durations)]
    results = list(Classifier(FakeSession()).files(paths))
    assert [result.path for result in results] == paths
    assert [result.seconds for result in results] == durations
    for k, result in enumerate(results):
        np.testing.assert_allclose(result.scores["label"][:, 1], k / 100, atol=1e-7)
        assert len(result.starts) == len(result.scores["label"])


def test_windows_of_several_files_share_a_batch(level):
    session = FakeSession()
    list(Classifier(session).files([level(f"{k}.wav", 0.1) for k in range(40)]))
    assert session.batches == [16, 16, 8]


def test_batches_stay_small_however_long_a_file_is(level):
    session = FakeSession()
    list(Classifier(session).files([level("a.wav", 0.1), level("long.wav", 0.1, 100), level("b.wav", 0.1)]))
    assert sum(session.batches) == 201
    assert max(session.batches) < 2 * decode.BATCH_WINDOWS


def test_files_that_fail_cost_the_others_nothing(level, tmp_path):
    good = [level(f"good{k}.wav", 0.1 * (k + 1), 20.0 if k == 1 else 1.0) for k in range(4)]
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound")
    broken = level("broken.wav", 0.3, 60.0)
    broken.write_bytes(broken.read_bytes()[:150_000])
    nan = level("nan.wav", np.nan, 30.0)
    paths = [good[0], tmp_path / "empty.wav", good[1], broken, tmp_path / "text.wav", nan, good[2], tmp_path, good[3]]
    results = list(Classifier(FakeSession()).files(paths))
    assert [result.path for result in results] == paths
    failures = [result for result in results if isinstance(result, Failure)]
    assert [failure.path for failure in failures] == [paths[1], broken, paths[4], nan, tmp_path]
    assert [failure.error.kind for failure in failures] == ["empty", "truncated", "unreadable", "non-finite", "unreadable"]
    assert all(str(failure.path) in str(failure.error) for failure in failures)
    heard = [result for result in results if isinstance(result, Recording)]
    for k, recording in enumerate(heard):
        np.testing.assert_allclose(recording.scores["label"][:, 1], 0.1 * (k + 1), atol=1e-7)


def test_nothing_but_failures_needs_no_session(tmp_path):
    session = FakeSession()
    results = list(Classifier(session).files([tmp_path / f"{k}.wav" for k in range(50)]))
    assert [type(result) for result in results] == [Failure] * 50
    assert session.batches == []


def test_fault_of_the_decoder_itself_is_a_failure_that_names_the_file(level, monkeypatch):
    def explode(path: Path, *args: object) -> Iterator[np.ndarray]:
        raise ZeroDivisionError("oops")

    path = level("a.wav", 0.5)
    monkeypatch.setattr(audio, "blocks", explode)
    [failure] = Classifier(FakeSession()).files([path])
    assert isinstance(failure, Failure)
    assert str(failure.error) == f"{path} could not be decoded (ZeroDivisionError: oops)."


def test_sound_too_short_for_one_sample_is_a_failure(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(3), 192000)
    [failure] = Classifier(FakeSession()).files([tmp_path / "a.wav"])
    assert isinstance(failure, Failure)
    assert "a.wav is too short: it has no samples at 1000 Hz" in str(failure.error)


def test_no_files_give_no_results():
    assert list(Classifier(FakeSession()).files([])) == []


def test_stretches_of_one_file_are_results_of_their_own(ramp):
    path = ramp("a.wav", 10)
    results = list(Classifier(FakeSession()).files([Stretch(path, k, k + 1) for k in range(10)]))
    np.testing.assert_allclose([r.scores["label"][0, 0] for r in results], np.arange(10) / 10 + 0.05, atol=1e-3)


@pytest.mark.parametrize(("seconds", "hop"), [(0.2, 0.5), (1.05, 0.5), (47.09, 0.5), (10.04, 0.6)])
def test_progress_adds_up_to_the_length_of_the_sound(level, seconds, hop):
    told: list[float] = []
    paths = [level("a.wav", 0.1, seconds), level("b.wav", 0.1, seconds)]
    results = list(Classifier(FakeSession()).with_windows(hop_seconds=hop).files(paths, told.append))
    assert sum(told) == pytest.approx(sum(result.seconds for result in results))
    assert min(told) >= 0


def test_files_are_asked_for_only_a_little_ahead(level):
    path = level("a.wav", 0.1)
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield path

    results = Classifier(FakeSession()).files(endless())
    for _ in range(100):
        next(results)
    results.close()
    assert asked < 100 + decode.BATCH_WINDOWS + 4 * decode.DECODER_THREADS + 1


@pytest.mark.slow
def test_memory_stays_flat_over_many_and_long_files(level):
    paths = [level("long.wav", 0.1, 1200.0), *[level("a.wav", 0.1, 30.0)] * 60]
    classifier = Classifier(FakeSession())
    list(classifier.files(paths[-3:]))
    tracemalloc.start()
    try:
        windows = sum(len(result.starts) for result in classifier.files(paths))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert windows == 2399 + 60 * 59
    assert peak < 4e6  # all windows together are 24 MB, and 8 files times 4 chunks of 16 would be 2


@pytest.mark.slow
def test_slow_session_makes_the_decoders_wait(level, monkeypatch):
    decoded = 0
    read = audio.blocks

    def counted(*args: Any) -> Iterator[np.ndarray]:
        nonlocal decoded
        for block in read(*args):
            decoded += len(block)
            yield block

    monkeypatch.setattr(audio, "blocks", counted)
    monkeypatch.setattr(audio, "BLOCK_SECONDS", 1.0)
    go_on = threading.Event()
    results = Classifier(FakeSession(before=lambda call: go_on.wait(10))).files([level("a.wav", 0.1, 2000.0)] * 50)
    first = threading.Thread(target=lambda: next(results))
    first.start()
    time.sleep(0.3)
    ahead = decoded / RATE
    go_on.set()
    first.join()
    results.close()
    assert 30 < ahead < 200  # of 100,000 seconds


# ---------------------------------------------------------------- stopping


class Stop:
    """Interrupts a session at its n-th batch, as Ctrl-C would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, call: int) -> None:
        if call == self.at:
            raise KeyboardInterrupt


def stopped(results: Iterator[Recording | Failure]) -> list[Recording | Failure]:
    """The results until the interruption, which must come."""
    found: list[Recording | Failure] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(results)
    return found


def test_interruption_of_a_long_file_gives_what_was_heard_of_it(level):
    classifier = Classifier(FakeSession(before=Stop(3)))
    [result] = stopped(classifier.files([level("a.wav", 0.5, 100.0), level("b.wav", 0.1)]))
    assert isinstance(result, Recording)
    assert result.path.name == "a.wav"
    assert not result.complete
    np.testing.assert_allclose(result.starts, np.arange(48) / 2)
    np.testing.assert_allclose(result.scores["label"], np.tile([0.5, 0.5, 0.5], (48, 1)), atol=1e-6)
    assert result.seconds == 24.5
    assert decoders() == []


def test_part_that_was_heard_is_said_to_be_of_its_own_file_even_when_the_next_is_under_way(level):
    paths = [level("a.wav", 0.5, 10.0), level("b.wav", 0.1, 100.0)]  # 19 windows: the last 3 share a batch with b's first
    [result] = stopped(Classifier(FakeSession(before=Stop(1))).files(paths))
    assert (result.path.name, len(result.starts), result.complete) == ("a.wav", 16, False)
    np.testing.assert_allclose(result.scores["label"][:, 1], 0.5)


def test_interruption_before_anything_was_heard_gives_nothing(level):
    assert stopped(Classifier(FakeSession(before=Stop(0))).files([level("a.wav", 0.5, 100.0)])) == []


def test_interruption_between_files_does_not_repeat_the_last(level):
    paths = [level(f"{k}.wav", 0.1, 8.4) for k in range(5)]  # 16 windows each
    found = stopped(Classifier(FakeSession(before=Stop(2))).files(paths))
    assert [(result.path.name, result.complete) for result in found] == [("0.wav", True), ("1.wav", True)]


def test_interruption_while_progress_is_told_gives_what_was_heard(level, tmp_path):
    def interrupt(seconds: float) -> None:
        told.append(seconds)
        if len(told) == 2:
            raise KeyboardInterrupt

    told: list[float] = []
    [result] = stopped(Classifier(FakeSession()).files([level("a.wav", 0.5, 100.0)], on_progress=interrupt))
    assert (len(result.starts), result.complete) == (32, False)
    told = []
    [failure] = stopped(Classifier(FakeSession()).files([tmp_path / "gone", tmp_path / "lost"], on_progress=interrupt))
    assert isinstance(failure, Failure)


def test_leaving_early_ends_the_decoders(level):
    results = Classifier(FakeSession()).files([level("a.wav", 0.1), level("b.wav", 0.1, 1000.0), level("c.wav", 0.1, 1000.0)])
    assert next(results).path.name == "a.wav"
    assert decoders() != []
    results.close()
    assert decoders() == []


def test_fault_of_the_session_ends_the_decoders_and_is_not_hidden(level):
    def fail(call: int) -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(Classifier(FakeSession(before=fail)).files([level("a.wav", 0.1, 100.0)]))
    assert decoders() == []


# ---------------------------------------------------------------- waveforms


def test_scores_of_waveforms_are_the_sessions():
    classifier = Classifier(FakeSession())
    batch = np.array([[0.1, 0.3], [0.5, 0.5]])
    np.testing.assert_allclose(classifier.scores(batch)["label"], [[0.2, 0.3, 0.7], [0.5, 0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(classifier.scores(batch[1].astype(np.float16))["label"], [[0.5, 0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int64, bool, complex])
def test_waveform_that_is_not_of_floats_is_refused_with_its_type(dtype):
    with pytest.raises(AudioError, match=rf" {np.dtype(dtype)} .*-1\.\.1"):
        Classifier(FakeSession()).scores(np.zeros(100, dtype))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (0, 100), (1, 1, 100)])
def test_waveform_of_another_shape_is_refused_with_it(shape):
    with pytest.raises(AudioError) as caught:
        Classifier(FakeSession()).scores(np.zeros(shape))
    assert f"A waveform of shape {shape} was given; (N,) or (B, N) with samples is needed." in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_waveform_with_what_is_no_number_is_refused(value):
    with pytest.raises(AudioError, match="NaN or infinite"):
        Classifier(FakeSession()).scores(np.array([0.0, value]))
