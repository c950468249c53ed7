"""Augmentations do what their numbers say, and draw the same from the same seed."""

from __future__ import annotations

import math

import pytest
import torch

from audiorep.errors import ConfigError
from audiorep.training import augment
from audiorep.training.augment import AugmentConfig


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tone(hertz: float, seconds: float = 1.0, rate: int = 16_000) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * rate)) / rate)[None]


def peak_hertz(waveform: torch.Tensor, rate: int = 16_000) -> float:
    spectrum = torch.fft.rfft(waveform[0]).abs()
    return spectrum.argmax().item() * rate / waveform.shape[1]


def test_speed_changes_pitch_and_length_together():
    faster = augment.change_speed(tone(440), torch.tensor([1.25]), 12_800)
    assert faster.shape == (1, 12_800)
    assert peak_hertz(faster) == pytest.approx(550, abs=2)
    assert torch.equal(augment.change_speed(tone(440), torch.tensor([1.0]), 16_000), tone(440))


def test_shift_rotates_each_clip_by_its_own_number():
    clips = torch.arange(5.0).repeat(2, 1)
    assert augment.shift(clips, torch.tensor([1, -2])).tolist() == [[4, 0, 1, 2, 3], [2, 3, 4, 0, 1]]


def test_gain_is_in_decibels():
    assert augment.gain(torch.ones(2, 3), torch.tensor([20.0, -6.0206]))[:, 0].tolist() == pytest.approx([10, 0.5], rel=1e-4)


def test_noise_is_added_at_the_asked_ratio_and_infinity_adds_none():
    clips = tone(440).repeat(2, 1)
    noise = augment.draw_noise(2, clips.shape[1], generator())
    assert noise.square().mean(1).sqrt().tolist() == pytest.approx([1, 1], rel=1e-4)
    noisy = augment.add_noise(clips, noise, torch.tensor([10.0, torch.inf]))
    added = (noisy - clips)[0].square().mean() / clips[0].square().mean()
    assert 10 * math.log10(added) == pytest.approx(-10, abs=1e-3)
    assert torch.equal(noisy[1], clips[1])


def test_mixing_evens_out_levels_and_keeps_ends():
    clips = torch.cat([tone(440), 0.01 * tone(2000)])
    partner = torch.tensor([1, 0])
    half = augment.mix(clips, torch.tensor([0.5, 0.5]), partner)[0]
    spectrum = torch.fft.rfft(half).abs()
    assert spectrum[440] == pytest.approx(spectrum[2000].item(), rel=1e-3)
    whole = augment.mix(clips, torch.tensor([1.0, 1.0]), partner)
    assert torch.allclose(whole[0], clips[0], atol=1e-2)


def test_mixed_targets_follow_the_ratio():
    targets = torch.eye(2)
    assert augment.mix_targets(targets, torch.tensor([0.7, 0.4]), torch.tensor([1, 0]))[0].tolist() == pytest.approx([0.7, 0.3])


def test_mixing_ratios_are_beta_distributed_and_partners_a_permutation():
    ratio, partner = augment.draw_mixup(20_000, 0.4, generator())
    assert ratio.mean() == pytest.approx(0.5, abs=0.01)
    assert ratio.var() == pytest.approx(0.25 / 1.8, abs=0.005)  # Beta(a, a): 1 / (4 (2a + 1))
    assert torch.equal(partner.sort().values, torch.arange(20_000))


def test_masks_hide_stripes_no_wider_than_allowed_with_the_mean():
    spectrogram = torch.randn(50, 1, 40, 30, generator=generator())
    frames = augment.draw_masks(50, 40, 1, 0.25, generator(1))
    bands = augment.draw_masks(50, 30, 2, 0.1, generator(2))
    assert frames.sum(1).max() <= 10 + 1
    assert 0 < frames.float().mean() < 0.25
    masked = augment.mask(spectrogram, frames, bands)
    hidden = frames[:, None, :, None] | bands[:, None, None, :]
    assert torch.equal(masked[~hidden], spectrogram[~hidden])
    means = spectrogram.mean((2, 3), keepdim=True).expand_as(spectrogram)
    assert torch.equal(masked[hidden], means[hidden])


def test_smoothing_spreads_weight_over_all_classes():
    assert augment.smooth(torch.tensor([[1.0, 0, 0, 0]]), 0.1)[0].tolist() == pytest.approx([0.925, 0.025, 0.025, 0.025])


def test_everything_off_changes_nothing():
    clips = torch.randn(3, 100)
    config = AugmentConfig()
    assert torch.equal(augment.augment_waveform(clips, config, 80, 16_000, None, generator()), clips[:, :80])
    spectrogram = torch.randn(3, 1, 10, 8)
    assert augment.augment_spectrogram(spectrogram, config, generator()) is spectrogram


def test_everything_on_repeats_with_its_seed():
    config = AugmentConfig(speed=0.2, shift_seconds=0.1, gain_db=6, noise=0.5, time_masks=2, frequency_masks=2)
    clips = torch.randn(4, 20_000, generator=generator())
    first, again, other = (augment.augment_waveform(clips, config, 16_000, 16_000, None, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert torch.isfinite(first).all()


def test_silence_stays_finite():
    config = AugmentConfig(speed=0.2, gain_db=6, noise=1.0)
    silence = augment.augment_waveform(torch.zeros(2, 20_000), config, 16_000, 16_000, None, generator())
    mixed = augment.mix(torch.zeros(2, 100), torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))
    assert torch.isfinite(silence).all()
    assert torch.isfinite(mixed).all()


def test_impossible_settings_are_named_together():
    with pytest.raises(ConfigError, match=r"mixup is 2.*speed is 1"):
        AugmentConfig(mixup=2, speed=1)


def test_warp_moves_one_frame_and_leaves_the_ends():
    ramp = torch.arange(21.0)[None, None, :, None].expand(2, 1, 21, 3)
    warped = augment.warp(ramp, torch.tensor([10.0, 8.0]), torch.tensor([3.0, -2.0]))
    assert warped.shape == ramp.shape
    assert torch.equal(warped[:, :, [0, 20]], ramp[:, :, [0, 20]])
    assert warped[0, 0, 13].tolist() == pytest.approx([10, 10, 10])  # frame 10 now lies at 13
    assert warped[1, 0, 6].tolist() == pytest.approx([8, 8, 8])
    assert (warped.diff(dim=2) > 0).all()


def test_no_warp_is_no_change_and_a_drawn_one_stays_inside():
    spectrogram = torch.randn(200, 1, 30, 2, generator=generator())
    zeros = torch.zeros(200)
    assert torch.allclose(augment.warp(spectrogram, zeros + 15, zeros), spectrogram, atol=1e-6)
    for frames in (5, 6, 30, 512):
        frame, shift = augment.draw_warp(500, frames, 5, generator())
        assert shift.abs().max() <= 5
        assert (frame + shift).min() > 0
        assert (frame + shift).max() < frames - 1
    config = AugmentConfig(time_warp=5)
    assert torch.isfinite(augment.augment_spectrogram(spectrogram[:, :, :5], config, generator())).all()
    assert augment.augment_spectrogram(spectrogram[:, :, :4], config, generator()).shape[2] == 4
