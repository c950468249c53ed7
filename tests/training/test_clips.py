"""Clips are drawn, cut and padded as training asks, whatever their lengths."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from support.training import RATE

from audiorep import audio, datasets
from audiorep.datasets.clips import Clips, EpochSampler


def test_balanced_sampling_draws_classes_alike(tones):
    examples = [e for e in datasets.examples(tones) if e.labels["label"] != ("low",) or e.path.stem == "0"]
    clips = Clips(examples, {"label": ["high", "low", "middle"]}, RATE, 1000, random_cuts=True)
    sampler = EpochSampler(clips, seed=0, balanced=True)
    drawn = []
    for epoch in range(60):
        sampler.set_epoch(epoch)
        drawn += [clips.examples[i].labels["label"][0] for i in sampler]
    shares = [drawn.count(label) / len(drawn) for label in ("high", "low", "middle")]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.05)


def test_every_clip_is_drawn_once_an_epoch_in_another_order(tones):
    clips = Clips(datasets.examples(tones), {"label": ["high", "low", "middle"]}, RATE, 1000, random_cuts=True)
    sampler = EpochSampler(clips, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(len(clips)))
    assert orders[0] == orders[2] != orders[1]


def test_cuts_are_random_in_training_repeatable_and_audible(tmp_path):
    clip = np.zeros(10 * RATE, np.float32)
    clip[3 * RATE : 4 * RATE] = 0.5
    soundfile.write(tmp_path / "clip.wav", clip, RATE)
    example = datasets.Example(tmp_path / "clip.wav", {"label": ("a",)})
    clips = Clips([example], {"label": ["a"]}, RATE, 2 * RATE, random_cuts=True)
    cuts = []
    for epoch in range(30):
        clips.epoch = epoch
        cuts.append(clips[0][0].numpy())
        assert np.array_equal(cuts[-1], clips[0][0].numpy())
    assert all((cut > 0.4).sum() >= RATE / 2 - 1 for cut in cuts)
    assert len({cut.tobytes() for cut in cuts}) > 20
    first = Clips([example], {"label": ["a"]}, RATE, 2 * RATE, random_cuts=False)[0][0]
    assert first.abs().max() == 0
    anywhere = Clips([example], {"label": ["a"]}, RATE, 2 * RATE, random_cuts=True, audible=0)
    assert anywhere.start_range(0) == (0, 8 * RATE)
    whole = Clips([example], {"label": ["a"]}, RATE, 2 * RATE, random_cuts=True, audible=1)
    assert whole.start_range(0) == (2 * RATE, 3 * RATE)


def test_past_the_memory_limit_clips_are_decoded_when_used(tones, monkeypatch):
    examples = datasets.examples(tones)
    labels = {"label": ["high", "low", "middle"]}
    kept = Clips(examples, labels, RATE, 1000, random_cuts=True)
    monkeypatch.setattr("audiorep.datasets.clips.MEMORY_LIMIT", 0)
    monkeypatch.setattr("audiorep.datasets.clips._TOGETHER", 2)
    streamed = Clips(examples, labels, RATE, 1000, random_cuts=True)
    assert len(streamed._decoded) == 2
    assert all(torch.equal(kept[i][0], streamed[i][0]) for i in range(len(examples)))


def test_long_clips_are_read_a_cut_at_a_time(tmp_path, monkeypatch):
    ramp = np.linspace(-0.9, 0.9, 60 * RATE, dtype=np.float32)
    soundfile.write(tmp_path / "long.wav", ramp, RATE, subtype="FLOAT")
    examples = [datasets.Example(tmp_path / "long.wav", {"label": ("a",)}, start=10.0, end=50.0)]
    read = []
    original = audio.read
    monkeypatch.setattr(audio, "read", lambda *given: read.append(given) or original(*given))
    clips = Clips(examples, {"label": ["a"]}, RATE, 2 * RATE, random_cuts=True)
    assert not read  # its length alone was looked at
    for epoch in range(20):
        clips.epoch = epoch
        cut = clips[0][0].numpy()
        assert np.all(np.diff(cut) > 0)
        assert ramp[10 * RATE] - 1e-3 <= cut[0] <= cut[-1] <= ramp[50 * RATE - 1] + 1e-3
    assert all(stop - start == pytest.approx(2.0) for _, _, start, stop in read)


@pytest.mark.parametrize(("padding", "tail"), [("edge", 0.5), ("edge_frames", 0.0)])
def test_short_clips_lie_at_the_start_where_the_paper_pads_them(tmp_path, padding, tail):
    soundfile.write(tmp_path / "short.wav", np.full(100, 0.5, np.float32), RATE, subtype="FLOAT")
    examples = [datasets.Example(tmp_path / "short.wav", {"label": ("a",)})]
    clips = Clips(examples, {"label": ["a"]}, RATE, 300, random_cuts=True, padding=padding)
    waveform, _, sound = clips[0]
    assert int(sound) == 100
    assert waveform.tolist() == [0.5] * 100 + [tail] * 200


def test_clip_that_takes_the_place_of_a_lost_one_brings_its_own_label(tones, tmp_path, monkeypatch):
    monkeypatch.setattr("audiorep.datasets.clips.MEMORY_LIMIT", -1)
    high = next(e for e in datasets.examples(tones) if e.labels["label"] == ("high",))
    lost = datasets.Example(tmp_path / "lost.wav", {"label": ("low",)})
    soundfile.write(lost.path, np.zeros(RATE, np.float32), RATE)
    clips = Clips([lost, high], {"label": ["high", "low"]}, RATE, 1000, random_cuts=True)
    assert len(clips) == 2
    lost.path.unlink()
    _, targets, _ = clips[0]
    assert targets["label"].tolist() == [1.0, 0.0]
    assert len(clips.failures) == 1
