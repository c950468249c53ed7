"""Clips on a device give the cuts that clips in memory give, to the rounding of 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from audiorep import datasets
from audiorep.datasets.clips import LONG_SECONDS, Clips
from audiorep.datasets.resident import FULL_SCALE, resident

RATE, SAMPLES = 1000, 1500
LABELS = {"label": ["long", "loud", "short"]}


@pytest.fixture
def examples(tmp_path):
    generator = np.random.default_rng(0)
    sounds = {"short": generator.uniform(-0.5, 0.5, 400), "long": generator.uniform(-0.5, 0.5, 4000)}
    sounds["loud"] = 3 * sounds["long"][:2000]
    for name, sound in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE, "FLOAT")
    return [datasets.Example(tmp_path / f"{name}.wav", {"label": (name,)}) for name in ("short", "long", "loud")]


def made(examples, padding: str = "zeros") -> Clips:
    return Clips(examples, LABELS, RATE, SAMPLES, random_cuts=True, padding=padding)


@pytest.mark.parametrize("padding", ["zeros", "edge", "edge_frames"])
def test_cuts_are_those_of_the_clips_in_memory(examples, padding, monkeypatch):
    clips = made(examples, padding)
    on_device = resident(clips, torch.device("cpu"))
    for share in (0.0, 0.4, 1.0):
        starts = [round(low + share * (high - low)) for low, high in map(clips.start_range, range(3))]
        monkeypatch.setattr(clips, "_drawn_start", lambda sound, index, starts=starts: starts[index])
        expected, targets, samples = clips.__getitems__([0, 1, 2])
        found = on_device.cuts(torch.arange(3), torch.tensor(starts))
        assert (found - expected).abs().max() <= 0.75 * max(1, expected.abs().max()) / FULL_SCALE
        monkeypatch.setattr(torch, "rand", lambda *size, share=share, **named: torch.full(size, min(share, 0.9999999)))
        waveform, drawn_targets, sound = on_device.batch(torch.arange(3), torch.Generator())
        monkeypatch.undo()
        assert torch.equal(drawn_targets["label"], targets["label"])
        if share != 0.4:  # of which the two round differently
            assert torch.equal(waveform, found)
            assert torch.equal(sound, samples)


def test_cuts_begin_anywhere_in_a_clips_range_and_the_same_for_the_same_draws(examples):
    on_device = resident(made(examples), torch.device("cpu"))
    numbers = torch.arange(3).repeat(500)
    (first, _, sound), (again, _, _) = (on_device.batch(numbers, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    begins = (first[::3] != 0).int().argmax(1)  # of the short clip, which lies anywhere in the window
    assert begins.min() < 30
    assert begins.max() > SAMPLES - 400 - 30
    assert torch.equal(sound[::3], begins + 400)
    assert sound[1::3].unique().tolist() == [SAMPLES]


def test_numbers_past_the_last_clip_are_further_cuts(examples):
    clips = made(examples)
    on_device = resident(clips, torch.device("cpu"))
    _, targets, _ = on_device.batch(torch.tensor([1, 4, 7]), torch.Generator().manual_seed(0))
    assert targets["label"].argmax(1).tolist() == [0, 0, 0]
    waveforms, targets, _ = clips.__getitems__([1, 4, 7])
    assert targets["label"].argmax(1).tolist() == [0, 0, 0]
    assert len({waveform.numpy().tobytes() for waveform in waveforms}) == 3


def test_clips_that_are_read_by_the_cut_stay_where_they_are(tmp_path, examples):
    soundfile.write(tmp_path / "hour.wav", np.zeros(int((LONG_SECONDS + 1) * RATE)), RATE)
    more = [*examples, datasets.Example(tmp_path / "hour.wav", {"label": ("long",)})]
    assert resident(made(more), torch.device("cpu")) is None
