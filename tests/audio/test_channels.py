"""Channels that cancel each other out are not lost, and each can be heard by itself."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import ROOT
from support.commands import audiorep
from support.info import make_info
from support.sounds import sine

from audiorep import audio
from audiorep.audio.decode import Stretch, channel_stretches
from audiorep.datasets.example import Example
from audiorep.datasets.problems import find_problems
from audiorep.errors import AudioError, ConfigError
from audiorep.predict.classifier import Classifier
from audiorep.predict.output import Outputs, as_dict
from audiorep.predict.results import Failure, Recording
from audiorep.runtimes import Session

RATE = 16000
LEFT, RIGHT = sine(440, 3, RATE), sine(1000, 3, RATE, 0.25)


def write(path: Path, *channels: np.ndarray) -> Path:
    soundfile.write(path, np.stack(channels, 1), RATE, "FLOAT", format="WAV")
    return path


def heard(path: Path, channel: str = "mean") -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return np.concatenate(list(audio.blocks(path, RATE, channel=channel, notes=notes))), notes


@pytest.mark.parametrize("share", [-1.0, -0.9, -0.75])
@pytest.mark.parametrize("others", [0, 1])
def test_channels_in_opposite_phase_are_heard_by_one_of_them_with_a_note(tmp_path, share, others):
    path = write(tmp_path / "a.wav", LEFT, share * LEFT, *[np.zeros_like(LEFT)] * others)
    waveform, notes = heard(path)
    np.testing.assert_array_equal(waveform, LEFT)
    assert len(notes) == 1
    assert "opposite phase" in notes[0]
    assert "channel 1 was" in notes[0]
    assert str(path) in notes[0]


def test_the_channel_that_has_the_sound_is_the_one_taken(tmp_path):
    faint = 0.1 * LEFT
    waveform, notes = heard(write(tmp_path / "a.wav", faint, LEFT, -1.1 * LEFT))
    np.testing.assert_array_equal(waveform, LEFT)
    assert "channel 2 was" in notes[0]


def test_a_part_in_opposite_phase_is_told_with_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK_SECONDS", 1.0)
    flipped = np.concatenate([LEFT[: 2 * RATE], -LEFT[2 * RATE :]])
    waveform, notes = heard(write(tmp_path / "a.wav", LEFT, flipped))
    np.testing.assert_allclose(waveform, LEFT, atol=1e-7)
    assert "in 1.0 of 3.0 s" in notes[0]


@pytest.mark.parametrize("other", [LEFT, RIGHT, np.zeros_like(LEFT), 1e-6 * LEFT])
def test_other_channels_are_averaged_without_a_note(tmp_path, other):
    waveform, notes = heard(write(tmp_path / "a.wav", LEFT, other))
    np.testing.assert_allclose(waveform, (LEFT + other) / 2, atol=1e-7)
    assert notes == []


def test_silence_and_unrelated_noise_in_many_channels_have_no_note(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (64, RATE)).astype(np.float32)
    assert heard(write(tmp_path / "a.wav", *noise))[1] == []
    assert heard(write(tmp_path / "b.wav", *(1e-5 * noise[:2] * [[1], [-1]])))[1] == []


@pytest.mark.parametrize(
    ("channel", "expected"), [("left", LEFT), ("right", RIGHT), ("1", LEFT), ("2", RIGHT), ("mean", (LEFT + RIGHT) / 2)]
)
def test_the_channel_asked_for_is_heard(tmp_path, channel, expected):
    np.testing.assert_allclose(heard(write(tmp_path / "a.wav", LEFT, RIGHT), channel)[0], expected, atol=1e-7)


@pytest.mark.parametrize("channel", ["left", "right", "mean", "1"])
def test_the_only_channel_stands_for_both_sides(tmp_path, channel):
    np.testing.assert_array_equal(heard(write(tmp_path / "a.wav", LEFT), channel)[0], LEFT)


def test_channels_that_are_not_there_are_refused(tmp_path):
    path = write(tmp_path / "a.wav", LEFT, RIGHT)
    with pytest.raises(AudioError, match=r"a\.wav has 2 .* 3 "):
        heard(path, "3")
    for wrong in ("center", "0", "-1", "each"):
        with pytest.raises(ConfigError, match="mean, left, right or a number"):
            heard(path, wrong)


class _Peak(Session):
    """A made-up model whose first score is the window's peak."""

    info = make_info(sample_rate=RATE, window_seconds=1.0, hop_seconds=1.0)
    device = "CPU"

    def run(self, batch: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        peak = np.abs(batch).max(axis=1, keepdims=True)
        return {"label": np.concatenate([peak, 0 * peak, 0 * peak], 1)}


def test_each_channel_is_a_recording_of_its_own(tmp_path):
    stereo, mono, gone = write(tmp_path / "a.wav", LEFT, RIGHT), write(tmp_path / "b.wav", RIGHT), tmp_path / "gone.wav"
    results = list(Classifier(_Peak()).files(channel_stretches([stereo, mono, gone], "each")))
    assert [(result.path.name, result.channel) for result in results] == [
        ("a.wav", 1),
        ("a.wav", 2),
        ("b.wav", 1),
        ("gone.wav", 1),
    ]
    assert [round(float(result.mean()[0]), 3) for result in results[:3]] == [0.5, 0.25, 0.25]
    assert isinstance(results[3], Failure)


def test_recording_has_the_note_and_no_channel_unless_asked(tmp_path):
    classifier = Classifier(_Peak())
    result = classifier.file(write(tmp_path / "a.wav", LEFT, -LEFT))
    assert isinstance(result, Recording)
    assert result.channel is None
    assert "opposite phase" in result.notes[0]
    assert float(result.mean()[0]) == pytest.approx(0.5, abs=1e-3)
    assert classifier.file(Stretch(tmp_path / "a.wav", channel="left")).notes == ()


@pytest.mark.slow
def test_predict_says_so_and_hears_each_channel_on_request(tmp_path):
    siren, rate = soundfile.read(ROOT / "samples" / "siren.flac")
    rain, _ = soundfile.read(ROOT / "samples" / "rain.flac")
    soundfile.write(tmp_path / "opposite.wav", np.stack([siren, -siren], 1), rate)
    size = min(len(siren), len(rain))
    soundfile.write(tmp_path / "both.wav", np.stack([siren[:size], rain[:size]], 1), rate)
    done = audiorep("predict", tmp_path / "opposite.wav", "--model", "esc50")
    assert done.stdout.startswith("siren")
    assert done.stderr.startswith("Note: ")
    done = audiorep("predict", tmp_path / "both.wav", "--model", "esc50", "--channel", "each")
    assert [line.split(": ")[1].split()[0] for line in done.stdout.splitlines()] == ["siren", "rain"]
    assert "both.wav (channel 2): rain" in done.stdout


def test_each_channel_has_its_rows_objects_and_label_files(tmp_path):
    paths = [write(tmp_path / "a.wav", LEFT, RIGHT), tmp_path / "gone.wav"]
    results = list(Classifier(_Peak()).files(channel_stretches(paths, "each")))
    for output, format in (("a.csv", None), ("a.jsonl", None), ("labels", "audacity"), ("tables", "raven")):
        with Outputs([tmp_path / output], format, paths, separate_channels=True) as outputs:
            for result in results:
                outputs.write(result, [] if isinstance(result, Failure) else result.whole())
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(Path(row["path"]).name, row["channel"], row["score"][:4]) for row in rows] == [
        ("a.wav", "1", "0.50"),
        ("a.wav", "2", "0.25"),
        ("gone.wav", "1", ""),
    ]
    objects = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [found["channel"] for found in objects] == [1, 2, 1]
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == [
        "a.wav.channel1.audacity.txt",
        "a.wav.channel2.audacity.txt",
    ]
    assert (tmp_path / "tables" / "a.wav.channel2.raven.txt").read_text().splitlines()[1].split("\t")[2] == "2"


def test_results_name_no_channel_unless_asked_and_tell_notes(tmp_path):
    result = Classifier(_Peak()).file(write(tmp_path / "a.wav", LEFT, -LEFT))
    assert as_dict(result, [])["notes"] == list(result.notes)
    assert "channel" not in as_dict(result, [])
    assert "notes" not in as_dict(Classifier(_Peak()).file(write(tmp_path / "b.wav", LEFT, RIGHT)), [])


def test_data_check_tells_of_clips_in_opposite_phase(tmp_path):
    path = write(tmp_path / "a.wav", LEFT, -LEFT)
    assert [(problem.kind, problem.subject) for problem in find_problems([Example(path, {"label": ("x",)})])] == [
        ("opposite phase", str(path))
    ]
