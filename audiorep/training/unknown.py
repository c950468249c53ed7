"""Outlier exposure (arXiv 1812.04606): sounds of no class, which training labels with a class of their own.

Scores computed afterwards, such as a softmax's maximum or energy (arXiv 2010.03759), could not tell speech and noise from
the classes of a network that never heard them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from audiorep import audio
from audiorep.config import Config, refuse
from audiorep.datasets import Example, Labels
from audiorep.errors import DataError
from audiorep.info import UNKNOWN
from audiorep.training import augment

LEVELS_DB = (-60.0, -3.0)
"""Peak levels of synthetic sounds but silence, against full scale."""
HARMONICS = 6


@dataclass(frozen=True)
class UnknownConfig(Config):
    """Sounds of no class that training hears; without any the model has no class `unknown`."""

    folders: tuple[str, ...] = ()
    """Sounds of no class: folders and files."""
    share: float = 0.25
    """How many of them an epoch takes, for each labelled clip."""
    synthetic: float = 0.0
    """Chance that a clip is replaced by noise, tones, clicks or silence."""
    silence_db: float = -60.0
    """Peak level below which the finished model takes a window for silence, against full scale; above, a sound has to be
    heard to be `unknown`."""

    def __post_init__(self) -> None:
        checks = [
            (all(self.folders), "folders are folders or files; one is empty"),
            (self.share > 0, f"share is {self.share}; it must be above 0"),
            (-200 <= self.silence_db < 0, f"silence_db is {self.silence_db:g}; -200 to below 0 is allowed"),
            (0 <= self.synthetic < 1, f"synthetic is {self.synthetic}; 0 to below 1 is allowed"),
        ]
        refuse(checks, "unknown: ")

    @property
    def is_taught(self) -> bool:
        """Whether the model has a class for sounds of no other."""
        return bool(self.folders) or self.synthetic > 0

    @property
    def silence(self) -> float:
        """The peak below which a window is silence, as a share of full scale; 0 where the model has no class for it."""
        return round(10 ** (self.silence_db / 20), 10) if self.is_taught else 0.0


def labels_with(config: UnknownConfig, labels: Labels) -> Labels:
    """The classes of each head, and `unknown` behind them where training teaches it."""
    if not config.is_taught:
        return labels
    return {head: [*(name for name in names if name != UNKNOWN), UNKNOWN] for head, names in labels.items()}


def examples_of(config: UnknownConfig, labels: Labels) -> list[Example]:
    """The sounds of no class that the settings name, as clips to train on.

    Raises:
        DataError: a folder has no sounds, or does not exist.
    """
    found = []
    for folder in config.folders:
        paths = list(audio.find([folder]))
        if not paths[0].is_file():
            raise DataError(f"unknown.folders: {folder} has no sounds.")
        found += [Example(path, dict.fromkeys(labels, (UNKNOWN,)), split="train") for path in paths]
    return found


def replace_some(
    waveform: Tensor, targets: dict[str, Tensor], chance: float, sample_rate: int, generator: Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Waveforms (B, N) and {head: targets (B, K)}, some clips of which became synthetic sounds of the last class."""
    chosen = torch.rand(len(waveform), generator=generator, device=generator.device) < chance
    if not bool(chosen.any()):
        return waveform, targets
    drawn = draw_sounds(int(chosen.sum()), waveform.shape[1], sample_rate, generator)
    waveform = waveform.clone()
    waveform[chosen] = drawn
    changed = {}
    for head, values in targets.items():
        changed[head] = values.clone()
        changed[head][chosen] = torch.eye(values.shape[1], device=values.device)[-1]
    return waveform, changed


def draw_sounds(count: int, samples: int, sample_rate: int, generator: Generator) -> Tensor:
    """(B, N) synthetic sounds at random levels: noise, tones, clicks and silence, each as likely as any other."""
    kind = torch.randint(len(_KINDS), (count,), generator=generator, device=generator.device)
    sounds = torch.zeros(count, samples, device=generator.device)
    for index, draw in enumerate(_KINDS):
        if wanted := int((kind == index).sum()):
            sounds[kind == index] = draw(wanted, samples, sample_rate, generator)
    return sounds


def _noise(count: int, samples: int, sample_rate: int, generator: Generator) -> Tensor:
    """Noise between white and brown."""
    return _leveled(augment.draw_noise(count, samples, generator), generator)


def _tones(count: int, samples: int, sample_rate: int, generator: Generator) -> Tensor:
    """Tones with up to `HARMONICS` harmonics, still or gliding, steady or switched on and off."""
    seconds = torch.arange(samples, device=generator.device) / sample_rate
    low, high = 40.0, 0.45 * sample_rate

    def drawn(least: float, most: float) -> Tensor:
        return augment.uniform(count, least, most, generator)[:, None]

    pitch = low * (high / low) ** drawn(0, 1)
    glide = drawn(-1, 1) * (drawn(0, 1) < 0.4)  # octaves a second
    phase = (
        2 * torch.pi * pitch * torch.where(glide.abs() < 1e-3, seconds, torch.expm1(glide * 0.693 * seconds) / (glide * 0.693))
    )
    decay, sound = drawn(0.3, 3.0), torch.zeros(count, samples, device=generator.device)
    several = drawn(0, 1) < 0.5
    for harmonic in range(1, HARMONICS + 1):
        audible = (pitch * harmonic < high) & (several | (harmonic == 1))
        sound += audible * torch.sin(harmonic * phase + 2 * torch.pi * drawn(0, 1)) / harmonic**decay
    pulses, rate = drawn(0, 1) < 0.3, drawn(0.5, 8.0)
    return _leveled(sound * torch.where(pulses, ((seconds * rate) % 1 < 0.5).float(), 1.0), generator)


def _clicks(count: int, samples: int, sample_rate: int, generator: Generator) -> Tensor:
    """Single samples, from one to some hundreds a second, over very quiet noise."""
    rate = 10 ** augment.uniform(count, 0.0, 2.5, generator)[:, None] / sample_rate
    draws = torch.rand(2, count, samples, generator=generator, device=generator.device)
    return _leveled((draws[0] < rate) * (2 * draws[1] - 1) + 1e-4 * (draws[1] - 0.5), generator)


def _silence(count: int, samples: int, sample_rate: int, generator: Generator) -> Tensor:
    """Nothing at all, a constant, or the noise of a sound card."""
    hiss = torch.randn(count, samples, generator=generator, device=generator.device)
    level = 10 ** augment.uniform(count, -6.0, -3.5, generator)[:, None]
    kind = torch.rand(count, 1, generator=generator, device=generator.device)
    return torch.where(kind < 0.4, torch.zeros_like(hiss), torch.where(kind < 0.5, level.expand_as(hiss), hiss * level))


def _leveled(sounds: Tensor, generator: Generator) -> Tensor:
    """(B, N) with a peak of one of `LEVELS_DB`."""
    level = 10 ** (augment.uniform(len(sounds), *LEVELS_DB, generator)[:, None] / 20)
    return sounds / sounds.abs().amax(1, keepdim=True).clamp_min(1e-9) * level


_KINDS: Sequence[Callable[[int, int, int, Generator], Tensor]] = (_noise, _tones, _clicks, _silence)
