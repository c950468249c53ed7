"""Soundscapes hold each sound where their references say, in noise as loud as they say, and are the same for the same seed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soundfile
from support.sounds import sine

from audiorep import audio
from audiorep.datasets import Example
from audiorep.errors import AudioError
from audiorep.evaluation import soundscapes
from audiorep.evaluation.soundscapes import (
    Coloured,
    Placed,
    Recorded,
    Sound,
    Soundscape,
    audible,
    draw,
    heard_part,
    noise_files,
)

RATE = 4000
SILENCE = np.zeros(RATE, np.float32)


@pytest.fixture
def clip(tmp_path):
    """A second of silence, two of a tone and one of silence."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.concatenate([SILENCE, sine(440, 2, RATE, 0.2), SILENCE]), RATE)
    return Example(path, {"label": ("tone",)})


def sounds(count: int) -> list[Sound]:
    names = [f"{number % 4}" for number in range(count)]
    return [Sound(f"{number}.wav", 0.0, 1.0 + number % 3, frozenset({("label", name)})) for number, name in enumerate(names)]


def test_only_the_audible_part_of_a_clip_is_used(clip):
    found = heard_part(clip, RATE)
    assert found == Sound(clip.path, pytest.approx(1.0, abs=0.02), pytest.approx(3.0, abs=0.02), frozenset({("label", "tone")}))


def test_what_is_much_quieter_than_the_loudest_is_not_audible():
    tone = sine(440, 1, RATE)
    assert audible(np.concatenate([0.05 * tone, tone, 0.05 * tone]), RATE) == pytest.approx((1.0, 2.0))
    assert audible(np.concatenate([0.3 * tone, tone]), RATE) == pytest.approx((0.0, 2.0))


def test_a_short_pause_belongs_to_a_sound_and_a_long_one_ends_it():
    short, long = np.zeros(round(0.3 * RATE), np.float32), np.zeros(round(0.8 * RATE), np.float32)
    first, second = sine(440, 0.4, RATE), sine(440, 1.0, RATE)
    assert audible(np.concatenate([first, short, second]), RATE) == pytest.approx((0.0, 1.7))
    assert audible(np.concatenate([first, long, second]), RATE) == pytest.approx((1.2, 2.2))


def test_silence_has_no_audible_part(tmp_path):
    assert audible(SILENCE, RATE) is None
    soundfile.write(tmp_path / "silent.wav", SILENCE, RATE)
    assert heard_part(Example(tmp_path / "silent.wav", {"label": ("tone",)}), RATE) is None


def test_of_a_long_clip_only_the_beginning_is_read(tmp_path):
    soundfile.write(tmp_path / "long.wav", sine(440, 35, RATE), RATE)
    found = heard_part(Example(tmp_path / "long.wav", {"label": ("tone",)}, start=2.0), RATE)
    assert (found.start, found.end) == pytest.approx((2.0, 22.0))


@pytest.mark.parametrize("fall", [0.0, 6.0])
def test_noise_has_its_level_and_its_slope(fall):
    noise = Coloured(-40.0, fall, 1).samples(30, 16_000)
    assert 10 * np.log10(np.mean(noise**2)) == pytest.approx(-40, abs=0.01)
    power = np.abs(np.fft.rfft(noise)) ** 2
    low, high = (power[30 * hertz : 60 * hertz].mean() for hertz in (500, 4000))  # an octave each
    assert 10 * np.log10(low / high) == pytest.approx(3 * fall, abs=0.5)


def test_a_sound_is_heard_where_the_reference_says_and_as_loud_as_it_says(clip):
    placed = Placed(heard_part(clip, RATE), 10.0, 20.0)
    scape = Soundscape(Coloured(-50.0, 0.0, 0), (placed,))
    assert scape.events() == {("label", "tone"): pytest.approx(np.array([[10.0, 12.0]]), abs=0.04)}
    mix, alone = (each.waveform(RATE).samples for each in (scape, Soundscape(scape.background, ())))
    assert len(mix) == round(soundscapes.SECONDS * RATE)
    sound = mix - alone
    assert not sound[: round(9.99 * RATE)].any()
    assert not sound[round(12.05 * RATE) :].any()
    assert 10 * np.log10(np.mean(sound[10 * RATE : 12 * RATE] ** 2)) == pytest.approx(-30, abs=0.2)


def test_full_scale_is_not_passed(clip):
    placed = Placed(heard_part(clip, RATE), 10.0, 40.0)
    assert np.abs(Soundscape(Coloured(-20.0, 0.0, 0), (placed,)).waveform(RATE).samples).max() == pytest.approx(1.0)


def test_the_same_seed_draws_the_same_soundscapes():
    one, same, other = (draw(sounds(9), [], 0, 6, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_sounds_take_turns_and_a_third_of_the_soundscapes_holds_none():
    drawn = draw(sounds(10), [], 0, 300, np.random.default_rng(0))
    assert [not scape.placed for scape in drawn] == [index % 3 == 2 for index in range(300)]
    uses = {sound.path: 0 for sound in sounds(10)}
    for scape in drawn:
        for each in scape.placed:
            uses[each.sound.path] += 1
            assert 0 <= each.start <= each.end <= soundscapes.SECONDS
            assert 0 <= each.signal_to_noise_db <= 20
    assert max(uses.values()) - min(uses.values()) < 12
    assert sum(uses.values()) > 1000


def test_sounds_of_one_label_keep_apart_and_those_of_others_may_overlap():
    drawn, overlap = draw(sounds(12), [], 0, 90, np.random.default_rng(0)), 0
    for scape in drawn:
        for spans in scape.events().values():
            assert (spans[1:, 0] - spans[:-1, 1] >= soundscapes.APART_SECONDS).all()
        ordered = sorted(scape.placed, key=lambda each: each.start)
        overlap += sum(one.end > other.start for one, other in pairwise(ordered))
    assert overlap > 10


def test_the_halves_of_a_recording_of_noise_are_never_mixed(tmp_path):
    noise = [(tmp_path / "a.wav", 300.0), (tmp_path / "b.wav", 10.0)]
    for half, (first, last) in enumerate([(0, 0.5), (0.5, 1)]):
        for scape in draw(sounds(5), noise, half, 60, np.random.default_rng(0)):
            background, seconds = scape.background, dict(noise)[scape.background.path]
            assert first * seconds <= background.start < background.end <= last * seconds
            assert background.end - background.start == pytest.approx(min(60, seconds / 2))


def test_a_short_recording_of_noise_is_repeated(tmp_path):
    soundfile.write(tmp_path / "hum.wav", sine(100, 2, RATE), RATE)
    noise = Recorded(tmp_path / "hum.wav", 0.0, 1.0).samples(5, RATE)
    assert len(noise) == 5 * RATE
    assert noise[: 2 * RATE] == pytest.approx(np.tile(audio.read(tmp_path / "hum.wav", RATE, 0, 1), 2))


def test_recordings_that_cannot_be_read_are_told(tmp_path):
    soundfile.write(tmp_path / "good.wav", sine(100, 2, RATE), RATE)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    errors: list[tuple[object, AudioError]] = []
    assert noise_files(tmp_path, errors) == [(tmp_path / "good.wav", 2.0)]
    assert [path.name for path, _ in errors] == ["bad.wav"]
