"""Soundscapes: labelled clips at random times in noise, drawn from a seed, and made in memory one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiorep import audio
from audiorep.audio.decode import Waveform
from audiorep.datasets import Example
from audiorep.errors import AudioError

SECONDS = 60.0
EMPTY_EVERY = 3  # of so many soundscapes one holds noise alone
CLIPS = (3, 8)  # in each of the others
SIGNAL_TO_NOISE_DB = (0.0, 20.0)
NOISE_DB = (-60.0, -30.0)  # root mean square against full scale
FALL_DB = (0.0, 6.0)  # of the noise's spectrum in an octave, from white to brown
FLAT_HZ = 100.0  # below it the spectrum is flat, or inaudible rumble would be most of brown noise
AUDIBLE_DB = 20.0  # below its loudest frame a clip is no longer heard in noise
FRAME_SECONDS = 0.02
PAUSE_SECONDS = 0.5  # a longer pause ends the sound that is used of a clip
LONGEST_SECONDS = 20.0  # of a clip that are read
APART_SECONDS = 2.0  # from one sound to the next of its label
FADE_SECONDS = 0.01
PLACES = 20  # that are tried for a clip, before it is left out

Label = tuple[str, str]
"""(head, label)."""


@dataclass(frozen=True)
class Sound:
    """The part of a labelled clip that is heard."""

    path: Path
    start: float
    """Seconds in the file."""
    end: float
    labels: frozenset[Label]

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True)
class Coloured:
    """Noise that is made on the spot."""

    level_db: float
    """Root mean square, against full scale."""
    fall_db: float
    """Fall of its spectrum in an octave."""
    seed: int

    def samples(self, seconds: float, rate: int) -> np.ndarray:
        """(N,) float32."""
        white = np.random.default_rng(self.seed).standard_normal(round(seconds * rate), np.float32)
        hertz = np.maximum(np.fft.rfftfreq(len(white), 1 / rate), FLAT_HZ)
        noise = np.fft.irfft(np.fft.rfft(white) * (hertz / FLAT_HZ) ** (-self.fall_db / (20 * np.log10(2))), len(white))
        return (noise * (10 ** (self.level_db / 20) / np.sqrt(np.mean(noise**2)))).astype(np.float32)


@dataclass(frozen=True)
class Recorded:
    """A stretch of a recording, at its own level; one that is too short is repeated."""

    path: Path
    start: float
    """Seconds."""
    end: float

    def samples(self, seconds: float, rate: int) -> np.ndarray:
        """(N,) float32.

        Raises:
            AudioError: the recording cannot be read.
        """
        return np.resize(audio.read(self.path, rate, self.start, self.end), round(seconds * rate))


@dataclass(frozen=True)
class Placed:
    """A sound in a soundscape."""

    sound: Sound
    start: float
    """Seconds in the soundscape."""
    signal_to_noise_db: float

    @property
    def end(self) -> float:
        """Seconds in the soundscape."""
        return self.start + self.sound.seconds


@dataclass(frozen=True)
class Soundscape:
    """What a soundscape consists of, without its samples."""

    background: Coloured | Recorded
    placed: tuple[Placed, ...]

    def events(self) -> dict[Label, np.ndarray]:
        """{(head, label): (events, 2) seconds at which they begin and end}."""
        spans: dict[Label, list[tuple[float, float]]] = {}
        for each in self.placed:
            for label in each.sound.labels:
                spans.setdefault(label, []).append((each.start, each.end))
        return {label: np.array(sorted(found)) for label, found in spans.items()}

    def waveform(self, rate: int) -> Waveform:
        """Its samples at `rate` Hz, quieter where they would pass full scale.

        Raises:
            AudioError: a clip or a recording cannot be read.
        """
        mix = self.background.samples(SECONDS, rate).copy()
        power = max(float(np.mean(mix**2)), 10 ** (NOISE_DB[0] / 10))
        for each in self.placed:
            sound = _faded(audio.read(each.sound.path, rate, each.sound.start, each.sound.end), rate)
            gain = np.sqrt(power * 10 ** (each.signal_to_noise_db / 10) / max(float(np.mean(sound**2)), 1e-12))
            first = round(each.start * rate)
            mix[first : first + len(sound)] += gain * sound[: len(mix) - first]
        return Waveform(mix / max(1.0, float(np.abs(mix).max())), rate, Path("soundscape"))


def heard_part(example: Example, rate: int) -> Sound | None:
    """The longest part of a clip without a long pause, of its first 20 s; None where it is silent.

    Raises:
        AudioError: the clip cannot be read.
    """
    kept: list[np.ndarray] = []
    for block in audio.blocks(example.path, rate, example.start, example.end):
        kept.append(block)
        if sum(map(len, kept)) >= LONGEST_SECONDS * rate:
            break
    found = audible(np.concatenate(kept)[: round(LONGEST_SECONDS * rate)], rate)
    if found is None:
        return None
    labels = frozenset((head, label) for head, names in example.labels.items() for label in names)
    return Sound(example.path, example.start + found[0], example.start + found[1], labels)


def audible(samples: np.ndarray, rate: int) -> tuple[float, float] | None:
    """Seconds at which the longest audible part of samples (N,) begins and ends; None in silence."""
    size = max(1, round(FRAME_SECONDS * rate))
    frames = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    power = np.mean(frames.astype(float) ** 2, axis=1)
    if not power.max(initial=0.0) > 0:
        return None
    loud = np.flatnonzero(power >= power.max() * 10 ** (-AUDIBLE_DB / 10))
    pauses = np.flatnonzero(np.diff(loud) > PAUSE_SECONDS / FRAME_SECONDS)
    firsts, lasts = loud[np.append(0, pauses + 1)], loud[np.append(pauses, len(loud) - 1)]
    longest = int((lasts - firsts).argmax())
    return float(firsts[longest] * size / rate), min(float((lasts[longest] + 1) * size / rate), len(samples) / rate)


def noise_files(folder: Path, errors: list[tuple[Path, AudioError]]) -> list[tuple[Path, float]]:
    """(recording, its seconds) of those in a folder that can be read; the errors of the others are added to `errors`."""
    found = []
    for path in audio.find([folder]):
        try:
            found.append((path, audio.probe(path).seconds))
        except AudioError as error:
            errors.append((path, error))
    return found


def draw(
    sounds: Sequence[Sound], noise: Sequence[tuple[Path, float]], half: int, count: int, generator: np.random.Generator
) -> list[Soundscape]:
    """`count` soundscapes, in which each of the sounds is about equally often.

    Args:
        sounds: at least one.
        noise: recordings with their lengths, for the background; none: coloured noise.
        half: 0 or 1, the half of each recording that is used.
        count: how many, of which every third holds no sound.
        generator: from which all is drawn.
    """
    order, found = _in_turns(len(sounds), generator), []
    for index in range(count):
        background = _recorded(noise, half, generator) if noise else _coloured(generator)
        empty = index % EMPTY_EVERY == EMPTY_EVERY - 1
        wanted = 0 if empty else int(generator.integers(CLIPS[0], CLIPS[1] + 1))
        found.append(Soundscape(background, _placed([sounds[next(order)] for _ in range(wanted)], generator)))
    return found


def _in_turns(count: int, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from map(int, generator.permutation(count))


def _coloured(generator: np.random.Generator) -> Coloured:
    return Coloured(generator.uniform(*NOISE_DB), generator.uniform(*FALL_DB), int(generator.integers(1 << 32)))


def _recorded(noise: Sequence[tuple[Path, float]], half: int, generator: np.random.Generator) -> Recorded:
    path, seconds = noise[int(generator.integers(len(noise)))]
    first, last = half * seconds / 2, (half + 1) * seconds / 2
    start = generator.uniform(first, max(first, last - SECONDS))
    return Recorded(path, start, min(start + SECONDS, last))


def _placed(sounds: Sequence[Sound], generator: np.random.Generator) -> tuple[Placed, ...]:
    found: list[Placed] = []
    for sound in sounds:
        for start in generator.uniform(0, SECONDS - sound.seconds, PLACES):
            new = Placed(sound, float(start), float(generator.uniform(*SIGNAL_TO_NOISE_DB)))
            if all(_apart(new, other) for other in found):
                found.append(new)
                break
    return tuple(found)


def _apart(one: Placed, other: Placed) -> bool:
    """Whether two sounds do not get in each other's way: those of another label may overlap."""
    free = one.start > other.end + APART_SECONDS or other.start > one.end + APART_SECONDS
    return free or not one.sound.labels & other.sound.labels


def _faded(samples: np.ndarray, rate: int) -> np.ndarray:
    size = min(round(FADE_SECONDS * rate), len(samples) // 2)
    faded, ramp = samples.copy(), np.linspace(0, 1, size, endpoint=False, dtype=np.float32)
    faded[:size] *= ramp
    faded[len(faded) - size :] *= ramp[::-1]
    return faded
