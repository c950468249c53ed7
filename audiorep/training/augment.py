"""Augmentation of batches of waveforms and spectrograms; what is drawn is apart from how it is applied.

Each `draw_*` takes a `torch.Generator` and gives numbers, one a clip; each other function applies numbers it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from audiorep.config import Config
from audiorep.errors import ConfigError

SHORTEST_WARPED = 4  # frames; fewer leave nothing to move
TOGETHER = 8  # clips, on a CPU; more at once spill out of its cache, and fresh memory is slow


@dataclass(frozen=True)
class AugmentConfig(Config):
    """What training does to clips; zero switches a transform off."""

    speed: float = 0.0
    """Largest relative change of speed (tempo and pitch together)."""
    shift_seconds: float = 0.0
    """Largest shift in time, either way; what leaves one end enters at the other."""
    gain_db: float = 0.0
    """Largest change of level, either way."""
    noise: float = 0.0
    """Chance that background noise is added to a clip."""
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    """Range of the signal-to-noise ratio."""
    noise_folder: str = ""
    """Recordings to take noise from; empty makes noise of a random spectral slope."""
    mixup: float = 0.0
    """Chance that a batch is mixed."""
    mixup_alpha: float = 1.0
    """Parameter of the Beta distribution of the mixing ratio; 1 is uniform."""
    time_warp: int = 0
    """SpecAugment's warp of the time axis: largest shift of a frame, in frames."""
    time_masks: int = 0
    """SpecAugment's stripes over all bands."""
    time_mask: float = 0.1
    """Largest width of one, as a share of the frames."""
    frequency_masks: int = 0
    """SpecAugment's stripes over all frames."""
    frequency_mask: float = 0.15
    """Largest width of one, as a share of the bands."""

    def __post_init__(self) -> None:
        shares = {"noise": self.noise, "mixup": self.mixup, "time_mask": self.time_mask, "frequency_mask": self.frequency_mask}
        problems = [f"{name} is {value}; 0 to 1 is allowed" for name, value in shares.items() if not 0 <= value <= 1]
        if not 0 <= self.speed < 0.9:
            problems.append(f"speed is {self.speed}; 0 to below 0.9 is allowed")
        if self.mixup_alpha <= 0:
            problems.append(f"mixup_alpha is {self.mixup_alpha}; it must be positive")
        if min(self.shift_seconds, self.gain_db, self.time_warp, self.time_masks, self.frequency_masks) < 0:
            problems.append("shift_seconds, gain_db, time_warp, time_masks and frequency_masks must not be negative")
        if problems:
            raise ConfigError("augment: " + "; ".join(problems))


def uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """(B,) numbers drawn evenly from low..high."""
    return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)


def change_speed(waveform: Tensor, factor: Tensor, samples: int) -> Tensor:
    """(B, N) played `factor` (B,) times as fast, its first `samples` samples: (B, samples), by linear interpolation."""
    last = waveform.shape[1] - 1
    steps = torch.arange(samples, device=waveform.device)
    played = waveform.new_empty(len(waveform), samples)
    together = TOGETHER if waveform.device.type == "cpu" else len(waveform)
    for clips, speeds, result in zip(*(torch.split(t, together) for t in (waveform, factor, played)), strict=True):
        position = steps * speeds[:, None]
        index = position.long().clamp_(max=last)
        following = (index + 1).clamp_(max=last)
        weight = position.sub_(index).clamp_(0, 1)
        torch.lerp(clips.gather(1, index), clips.gather(1, following), weight, out=result)
    return played


def shift(waveform: Tensor, samples: Tensor) -> Tensor:
    """(B, N) moved later by `samples` (B,) integers; what leaves one end enters at the other."""
    length = waveform.shape[1]
    return waveform.gather(1, (torch.arange(length, device=waveform.device)[None] - samples[:, None]) % length)


def gain(waveform: Tensor, decibels: Tensor) -> Tensor:
    """(B, N) made louder by `decibels` (B,)."""
    return waveform * (10 ** (decibels / 20))[:, None]


def draw_noise(count: int, samples: int, generator: Generator) -> Tensor:
    """(B, N) of unit level, each with a spectral slope between white and brown."""
    spectrum = torch.fft.rfft(torch.randn(count, samples, generator=generator, device=generator.device))
    frequency = torch.arange(1, spectrum.shape[1] + 1, device=generator.device)[None]
    slope = uniform(count, 0.0, 1.0, generator)[:, None]
    noise = torch.fft.irfft(spectrum * frequency**-slope, n=samples)
    return unit_level(noise)


def add_noise(waveform: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """(B, N) with `noise` (B, N) of unit level added at `snr_db` (B,); infinity adds none."""
    return waveform + noise * _level(waveform) * (10 ** (-snr_db / 20))[:, None]


def draw_mixup(count: int, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """(ratio (B,), partner (B,)) of a mix: how much of each clip stays, and which other one joins it."""
    # Beta(a, a) as a ratio of Gamma draws; torch's own Beta takes no generator
    first, second = (
        torch._standard_gamma(torch.full((count,), alpha, device=generator.device), generator=generator) for _ in range(2)
    )
    return first / (first + second).clamp_min(1e-12), torch.randperm(count, generator=generator, device=generator.device)


def mix(waveform: Tensor, ratio: Tensor, partner: Tensor) -> Tensor:
    """(B, N) mixed with its partners so that a listener hears `ratio` of it (between-class learning, arXiv 1711.10282).

    Levels are evened out first, and the energy is kept.
    """
    ratio = ratio.clamp(1e-4, 1 - 1e-4)[:, None]
    level = _level(waveform)
    share = 1 / (1 + level / level[partner] * (1 - ratio) / ratio)
    return (share * waveform + (1 - share) * waveform[partner]) / (share**2 + (1 - share) ** 2).sqrt()


def mix_targets(targets: Tensor, ratio: Tensor, partner: Tensor) -> Tensor:
    """(B, K) targets of mixed clips."""
    return torch.lerp(targets[partner], targets, ratio[:, None])


def draw_warp(count: int, frames: int, most: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """(frame (B,), shift (B,)) of a warp: a frame at least `most` from both ends, and by how many it moves."""
    most = max(0, min(most, (frames - 1) // 2 - 1))  # of a short spectrogram no end may be passed
    return uniform(count, most + 1, frames - 2 - most, generator), uniform(count, -most, most, generator)


def warp(spectrogram: Tensor, frame: Tensor, shift: Tensor) -> Tensor:
    """(B, 1, T, F) with `frame` (B,) moved by `shift` (B,) frames, time stretched evenly on either side (arXiv 1904.08779).

    Linear interpolation between frames; the first and the last stay where they are.
    """
    last = spectrogram.shape[2] - 1
    position = torch.arange(last + 1, device=spectrogram.device, dtype=torch.float32)[None]
    target, frame = (frame + shift)[:, None], frame[:, None]
    before = position * frame / target
    after = frame + (position - target) * (last - frame) / (last - target)
    source = torch.where(position < target, before, after).clamp(0, last)  # (B, T)
    index = source.long().clamp(max=last - 1)
    weight = (source - index)[:, None, :, None]
    rows = index[:, None, :, None].expand(-1, 1, -1, spectrogram.shape[3])
    return torch.lerp(spectrogram.gather(2, rows), spectrogram.gather(2, rows + 1), weight)


def draw_masks(count: int, length: int, masks: int, widest: float, generator: Generator) -> Tensor:
    """(B, length) booleans: True inside any of `masks` stripes, each at most `widest` of the length."""
    width = torch.rand(masks, count, 1, generator=generator, device=generator.device) * widest * length
    start = torch.rand(masks, count, 1, generator=generator, device=generator.device) * (length - width)
    position = torch.arange(length, device=generator.device)
    return ((position >= start) & (position < start + width)).any(0)


def mask(spectrogram: Tensor, frames: Tensor, bands: Tensor) -> Tensor:
    """(B, 1, T, F) with the marked `frames` (B, T) and `bands` (B, F) set to the clip's mean (arXiv 1904.08779)."""
    hidden = frames[:, None, :, None] | bands[:, None, None, :]
    return torch.where(hidden, spectrogram.mean((2, 3), keepdim=True), spectrogram)


def augment_waveform(
    waveform: Tensor, config: AugmentConfig, samples: int, sample_rate: int, noise: Tensor | None, generator: Generator
) -> Tensor:
    """(B, N) to (B, samples), with speed, shift, gain and noise drawn for each clip."""
    count = len(waveform)
    if config.speed:
        waveform = change_speed(waveform, uniform(count, 1 - config.speed, 1 + config.speed, generator), samples)
    waveform = waveform[:, :samples]
    if config.shift_seconds:
        moves = uniform(count, -config.shift_seconds, config.shift_seconds, generator) * sample_rate
        waveform = shift(waveform, moves.long())
    if config.gain_db:
        waveform = gain(waveform, uniform(count, -config.gain_db, config.gain_db, generator))
    if config.noise:
        snr = uniform(count, *config.noise_snr_db, generator)
        snr[torch.rand(count, generator=generator, device=generator.device) >= config.noise] = torch.inf
        waveform = add_noise(waveform, draw_noise(count, samples, generator) if noise is None else noise, snr)
    return waveform


def augment_spectrogram(spectrogram: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """(B, 1, T, F) to the same shape, with SpecAugment's warp and stripes."""
    count, _, frames, bands = spectrogram.shape
    if config.time_warp and frames > SHORTEST_WARPED:
        spectrogram = warp(spectrogram, *draw_warp(count, frames, config.time_warp, generator))
    if not config.time_masks and not config.frequency_masks:
        return spectrogram
    hidden_frames = draw_masks(count, frames, config.time_masks, config.time_mask, generator)
    hidden_bands = draw_masks(count, bands, config.frequency_masks, config.frequency_mask, generator)
    return mask(spectrogram, hidden_frames, hidden_bands)


def smooth(targets: Tensor, amount: float) -> Tensor:
    """(B, K) targets with `amount` of their weight spread over all classes (arXiv 1512.00567)."""
    return targets * (1 - amount) + amount / targets.shape[1]


def unit_level(waveform: Tensor) -> Tensor:
    """(B, N) with each clip at a root mean square of 1; silence stays silence."""
    return waveform / _level(waveform)


def _level(waveform: Tensor) -> Tensor:
    """(B, 1) root mean square; silence counts as a very small level, never zero."""
    return waveform.square().mean(1, keepdim=True).sqrt().clamp_min(1e-5)
