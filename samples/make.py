"""Synthesise the demonstration sounds from formulas and seeded noise: `python samples/make.py [folder]`.

Every clip is five seconds, as in ESC-50 (Piczak, 2015), and named after the class that it imitates; `recording.flac`
strings new takes of some of them together. Nothing is recorded, sampled or read from a file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

SAMPLE_RATE = 16_000
CLIP_SECONDS = 5.0
GAP_SECONDS = 1.4
FADE_SECONDS = 0.2
RECORDING_GAIN = 0.7

Sound = npt.NDArray[np.float64]
Generator = np.random.Generator
Recipe = Callable[[Generator], Sound]
Curve = Mapping[float, float]  # Hz to dB, straight lines over the logarithm of the frequency

QUIET_ROOM: Curve = {20: 0, 100: -6, 400: -20, 2000: -32, 8000: -40}
OUTDOORS: Curve = {20: -6, 60: 0, 300: -8, 1000: -16, 4000: -28, 8000: -36}


def main(folder: Path) -> None:
    """Write every clip, and the recording, as 16-bit FLAC into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sounds = {recipe.__name__: clip(recipe, take=0) for recipe in RECIPES}
    for name, sound in {**sounds, "recording": recording()}.items():
        assert np.abs(sound).max() < 1, f"{name} exceeds full scale"
        soundfile.write(folder / f"{name}.flac", sound, SAMPLE_RATE, subtype="PCM_16")


def clip(recipe: Recipe, take: int) -> Sound:
    """Five seconds of `recipe`; another `take` draws other noise and small variations."""
    return recipe(np.random.default_rng([take, *recipe.__name__.encode()]))


def recording() -> Sound:
    """About a minute: second takes of nine clips, each faded in and out of a quiet background."""
    seconds = GAP_SECONDS + len(RECORDED) * (CLIP_SECONDS + GAP_SECONDS)
    sound = _noise(np.random.default_rng(0), seconds, {20: -6, 60: 0, 300: -20, 1000: -32, 8000: -50}, -66)
    fade = np.clip(np.minimum(_time(CLIP_SECONDS), _time(CLIP_SECONDS)[::-1]) / FADE_SECONDS, 0, 1)
    for position, recipe in enumerate(RECORDED):
        start = GAP_SECONDS + position * (CLIP_SECONDS + GAP_SECONDS)
        _add(sound, RECORDING_GAIN * fade * clip(recipe, take=1), start)
    return sound


def siren(generator: Generator) -> Sound:
    """A wailing siren in a street: a horn's harmonics sweep up and down, and the houses echo them."""
    time = _time(CLIP_SECONDS)
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * (time / 3.6 + generator.uniform(0, 0.15)))
    pitch = 560 * 2 ** (1.25 * sweep**0.8)
    horn = _harmonics(pitch, [1, 0.75, 0.6, 0.42, 0.3, 0.2, 0.14, 0.1, 0.07, 0.05])
    horn = _equalize(horn, {100: -20, 500: 0, 1000: 0, 1500: -4, 3000: -12, 5000: -18, 8000: -28})
    street = _echo(generator, horn, seconds=0.9, wet=0.5)
    return _peak(street, -3) + _noise(generator, CLIP_SECONDS, OUTDOORS, -38)


def clock_alarm(generator: Generator) -> Sound:
    """A digital alarm clock: four short beeps a second from a small buzzer."""
    sound = _silence(CLIP_SECONDS)
    pitch = generator.uniform(2030, 2070)
    for group in np.arange(0.12, CLIP_SECONDS, 1.0):
        for beep in range(4):
            time = _time(0.07)
            gate = np.clip(np.minimum(time / 0.002, (0.07 - time) / 0.004), 0, 1)
            buzz = _harmonics(np.full(time.size, pitch), [1, 0.3, 0.45])
            _add(sound, gate * buzz, group + 0.125 * beep)
    sound = _echo(generator, sound, seconds=0.25, wet=0.12)
    return _peak(sound, -7) + _noise(generator, CLIP_SECONDS, QUIET_ROOM, -58)


def clock_tick(generator: Generator) -> Sound:
    """A wall clock: ticks and tocks, each a few impacts of the escapement that ring in its case."""
    sound = _silence(CLIP_SECONDS)
    modes = [np.array([870, 1730, 2650, 3900, 5300, 6700]), np.array([790, 1510, 2430, 3600, 4900, 6300])]
    for beat, start in enumerate(np.arange(0.2, CLIP_SECONDS - 0.1, 0.5)):
        for delay, strength in ((0.0, 0.4), (0.011, 1.0), (0.019, 0.35)):
            tick = _ring(modes[beat % 2], [0.3, 0.6, 0.9, 1, 0.8, 0.5], [0.012, 0.008, 0.006, 0.005, 0.004, 0.003], 0.08)
            tick += 0.9 * _burst(generator, 0.08, 0.0025)
            _add(sound, (strength * generator.uniform(0.85, 1.1)) * tick, start + delay)
    sound = _echo(generator, sound, seconds=0.2, wet=0.15)
    return _peak(sound, -9) + _noise(generator, CLIP_SECONDS, QUIET_ROOM, -58)


def church_bells(generator: Generator) -> Sound:
    """Two bells strike in turn: hum, prime, minor third, fifth, nominal and above, each partial a slowly beating pair."""
    sound = _silence(CLIP_SECONDS)
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.51, 2.66, 3.01, 4.17, 5.43, 6.8, 8.2, 9.7])
    strengths = np.array([0.5, 0.6, 0.9, 0.4, 1, 0.4, 0.45, 0.6, 0.5, 0.38, 0.28, 0.18, 0.12])
    for strike, start in enumerate((0.05, 0.75, 1.6, 2.3, 3.15, 3.85, 4.7)):
        prime = (392.0, 329.6)[strike % 2]
        beats = generator.uniform(0.3, 1.5, ratios.size)
        decays = 2.2 / ratios**0.75
        bell = _ring(prime * ratios, strengths, decays, 3.5) + _ring(prime * ratios + beats, 0.6 * strengths, decays, 3.5)
        bell += 0.8 * _burst(generator, 3.5, 0.012)
        _add(sound, generator.uniform(0.8, 1) * bell, start)
    sound = _echo(generator, sound, seconds=1.2, wet=0.35)
    return _peak(sound, -5) + _noise(generator, CLIP_SECONDS, OUTDOORS, -46)


def crickets(generator: Generator) -> Sound:
    """A night meadow: field crickets chirp, each three or four pulses of a nearly pure tone between 4 and 5 kHz."""
    sound = _silence(CLIP_SECONDS)
    for pitch, strength, period in ((4450, 1.0, 0.41), (4720, 0.5, 0.37), (4200, 0.3, 0.46), (4900, 0.16, 0.33)):
        start = generator.uniform(0, period)
        while start < CLIP_SECONDS:
            for pulse in range(4):
                time = _time(0.021)
                shape = np.sin(np.pi * time / 0.021) ** 1.2 * (0.6 + 0.15 * pulse)
                glide = pitch * (1 - 1.2 * time + generator.normal(0, 0.002))
                _add(sound, strength * shape * _harmonics(glide, [1]), start + 0.034 * pulse)
            start += period * generator.uniform(0.93, 1.07)
    time = _time(CLIP_SECONDS)
    chorus = _noise(generator, CLIP_SECONDS, {2000: -60, 3900: -14, 4400: 0, 4900: -4, 6000: -24, 8000: -30}, 0)
    chorus *= 1 + 0.4 * np.sin(2 * np.pi * 29 * time)
    sound = _echo(generator, sound, seconds=0.5, wet=0.3)
    sound = _peak(sound, -16) + 10 ** (-42 / 20) * chorus
    return sound + _noise(generator, CLIP_SECONDS, {20: -4, 80: 0, 400: -14, 2000: -20, 8000: -22}, -50)


def rain(generator: Generator) -> Sound:
    """Steady rain on leaves and pavement: a hiss of far drops, and thousands of near ones."""
    sound = _silence(CLIP_SECONDS)
    for start in generator.uniform(0, CLIP_SECONDS, 4500):
        drop = _burst(generator, 0.012, generator.uniform(0.0006, 0.003))
        _add(sound, generator.lognormal(-1.2, 0.7) * drop, start)
    for start in generator.uniform(0, CLIP_SECONDS, 220):
        pitch, decay = generator.uniform(700, 4500), generator.uniform(0.003, 0.01)
        _add(sound, generator.lognormal(-0.6, 0.4) * _ring([pitch], [1], [decay], 0.05), start)
    near = _equalize(sound, {50: -12, 500: -5, 3000: 0, 8000: 0})
    far = _noise(generator, CLIP_SECONDS, {20: 0, 100: -3, 500: -6, 2000: -6, 6000: -5, 8000: -6}, 0)
    return _level(_level(near, 0) + far, -27)


def sea_waves(generator: Generator) -> Sound:
    """Surf: one wave breaks and runs up the beach, the next follows; the foam hisses after the rumble."""
    time = _time(CLIP_SECONDS)
    far = _noise(generator, CLIP_SECONDS, {20: -24, 100: -4, 500: 0, 2000: -10, 8000: -24}, -6)
    body = _noise(generator, CLIP_SECONDS, {20: -24, 100: -3, 400: 0, 1500: -8, 8000: -30}, 0)
    foam = _noise(generator, CLIP_SECONDS, {200: -24, 800: -3, 1500: 0, 4000: -4, 8000: -12}, 0)
    sound = 0.5 * far
    for crest in (generator.uniform(1.1, 1.5), generator.uniform(4.3, 4.7)):
        sound += body * _swell(time, crest, 0.7, 0.9) + 0.45 * foam * _swell(time, crest + 0.35, 0.6, 1.3)
    return _level(sound, -26)


def door_wood_knock(generator: Generator) -> Sound:
    """Knuckles on a wooden door, twice: each knock a dull thud of the panel's modes under a short click."""
    sound = _silence(CLIP_SECONDS)
    modes = np.array([92, 147, 216, 318, 455, 640, 910, 1320])
    for start in (0.1, 0.33, 0.56, 0.80, 1.9, 2.13, 2.36, 2.59):
        strengths = np.array([0.7, 1, 0.9, 0.8, 0.6, 0.45, 0.3, 0.2]) * generator.uniform(0.7, 1.2, modes.size)
        knock = _ring(modes, strengths, [0.045, 0.04, 0.035, 0.028, 0.022, 0.016, 0.011, 0.008], 0.3)
        knock += 0.5 * _equalize(_burst(generator, 0.3, 0.004), {100: 0, 800: 0, 3000: -14, 8000: -26})
        _add(sound, generator.uniform(0.8, 1.1) * knock, start + generator.uniform(-0.01, 0.01))
    sound = _echo(generator, sound, seconds=0.3, wet=0.18)
    return _peak(sound, -2) + _noise(generator, CLIP_SECONDS, QUIET_ROOM, -75)


def footsteps(generator: Generator) -> Sound:
    """Someone walks on a wooden floor: heel, then sole, then a little grit."""
    sound = _silence(CLIP_SECONDS)
    for start in np.arange(0.15, CLIP_SECONDS - 0.3, 0.54):
        step = _ring([88, 165, 290, 520, 860], [0.35, 0.4, 0.4, 0.4, 0.3], [0.035, 0.03, 0.02, 0.014, 0.01], 0.3)
        step += 1.2 * _equalize(_burst(generator, 0.3, 0.007), {50: -10, 600: 0, 2500: -6, 8000: -18})
        sole = _equalize(_burst(generator, 0.3, 0.03), {100: -8, 700: 0, 2500: -3, 8000: -14})
        moment = start + generator.normal(0, 0.012)
        _add(sound, generator.uniform(0.75, 1.1) * step, moment)
        _add(sound, generator.uniform(0.3, 0.5) * sole, moment + generator.uniform(0.07, 0.1))
    sound = _echo(generator, sound, seconds=0.35, wet=0.35)
    return _peak(sound, -3) + _noise(generator, CLIP_SECONDS, {20: 0, 100: -3, 500: -10, 2000: -18, 8000: -28}, -44)


def fireworks(generator: Generator) -> Sound:
    """Shells burst high above: a sharp report, its rolling echo, and the crackle that falls after it."""
    sound = _silence(CLIP_SECONDS)
    for start, strength in ((0.15, 1.0), (1.35, 0.35), (2.1, 0.8), (3.6, 0.5)):
        report = _equalize(_burst(generator, 2.5, 0.03), {20: -6, 60: 0, 300: 0, 1500: -8, 4000: -18, 8000: -30})
        roll = _equalize(_burst(generator, 2.5, 0.5), {20: -6, 80: 0, 300: -3, 1500: -18, 8000: -45})
        _add(sound, strength * (report + 0.12 * roll), start)
        for _ in range(25):
            crack = _equalize(_burst(generator, 0.05, generator.uniform(0.001, 0.004)), {50: -6, 800: 0, 3000: -6, 8000: -20})
            _add(sound, strength * generator.uniform(0.02, 0.15) * crack, start + 0.3 + generator.gamma(3, 0.1))
    sound = _echo(generator, sound, seconds=2.5, wet=0.4)
    return _peak(sound, -1) + _noise(generator, CLIP_SECONDS, {20: -6, 60: 0, 300: -8, 1000: -20, 8000: -50}, -54)


def crow(generator: Generator) -> Sound:
    """A carrion crow calls: hoarse caws of rich, rough harmonics, loudest near 1.5 kHz."""
    sound = _silence(CLIP_SECONDS)
    for start, length in ((0.3, 0.36), (1.0, 0.36), (1.72, 0.34), (3.3, 0.38), (4.05, 0.36)):
        time = _time(length) / length
        pitch = (480 + 110 * np.sin(np.pi * time**0.8)) * (1 + 0.02 * _drift(generator, length, 160))
        voice = _harmonics(pitch, [0.5, 0.8, 1, 0.8, 0.5, 0.4, 0.4, 0.35, 0.25, 0.2, 0.15, 0.1, 0.1])
        breath = _noise(generator, length, {200: -30, 900: -6, 1500: 0, 2200: -6, 3500: -12, 8000: -24}, -2)
        voice = _level(voice, 0) * (1 + 0.5 * _drift(generator, length, 120)) + 0.7 * breath
        voice = _equalize(voice, {200: -30, 700: -12, 1200: 0, 1800: 0, 2600: -10, 3200: -10, 4200: -7, 5500: -9, 8000: -26})
        gate = np.clip(time / 0.12, 0, 1) * np.clip((1 - time) / 0.25, 0, 1)
        _add(sound, generator.uniform(0.85, 1.05) * gate * voice, start)
    sound = _echo(generator, sound, seconds=0.7, wet=0.22)
    return _peak(sound, -5) + _noise(generator, CLIP_SECONDS, OUTDOORS, -42)


def rooster(generator: Generator) -> Sound:
    """A cock crows once: two short syllables, a third, then the long last one that falls."""
    sound = _silence(CLIP_SECONDS)
    syllables = (
        (0.10, 0.17, 560, 640, 620),
        (0.34, 0.20, 640, 860, 820),
        (0.60, 0.22, 780, 900, 860),
        (0.86, 1.15, 860, 980, 620),
    )
    for start, length, first, top, last in syllables:
        time = _time(length) / length
        pitch = np.interp(time, [0, 0.15, 0.55, 1], [first, top, 0.95 * top, last]) * (
            1 + 0.004 * _drift(generator, length, 60)
        )
        voice = _harmonics(pitch, [0.7, 1, 0.9, 0.7, 0.4, 0.45, 0.35, 0.2, 0.12, 0.08])
        voice += 0.12 * _noise(generator, length, {300: -30, 900: -6, 2200: 0, 4000: -6, 8000: -20}, 0)
        voice = _equalize(voice, {300: -12, 600: 0, 1000: 0, 1800: -1, 2600: -10, 4000: -16, 6000: -20, 8000: -28})
        gate = np.clip(time * length / 0.03, 0, 1) * np.clip((1 - time) * length / 0.08, 0, 1)
        _add(sound, (1 - 0.4 * time) * gate * voice, start)
    sound = _echo(generator, sound, seconds=0.6, wet=0.3)
    return _peak(sound, -5) + _noise(generator, CLIP_SECONDS, OUTDOORS, -64)


def _time(seconds: float) -> Sound:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _silence(seconds: float) -> Sound:
    return np.zeros(round(seconds * SAMPLE_RATE))


def _add(sound: Sound, part: Sound, start_seconds: float) -> None:
    """Add `part` to `sound` in place from `start_seconds` on; what lies beyond the end is cut."""
    start = max(round(start_seconds * SAMPLE_RATE), 0)
    stop = min(start + part.size, sound.size)
    sound[start:stop] += part[: max(stop - start, 0)]


def _ring(pitches: npt.ArrayLike, strengths: npt.ArrayLike, decays: npt.ArrayLike, seconds: float) -> Sound:
    """Modes (Hz) struck at once; `decays` are the seconds in which each falls to 1/e."""
    time = _time(seconds)
    pitch, strength, decay = (np.asarray(values, dtype=float)[:, None] for values in (pitches, strengths, decays))
    modes: Sound = np.sum(strength * np.sin(2 * np.pi * pitch * time) * np.exp(-time / decay), axis=0)
    return modes


def _burst(generator: Generator, seconds: float, decay: float) -> Sound:
    """White noise that falls to 1/e in `decay` seconds."""
    time = _time(seconds)
    return generator.standard_normal(time.size) * np.exp(-time / decay)


def _harmonics(pitch: Sound, strengths: list[float]) -> Sound:
    """Multiples of a moving `pitch` (Hz at each sample); those that leave the band fade out before it ends."""
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    sound = np.zeros(pitch.size)
    for number, strength in enumerate(strengths, start=1):
        inside = np.clip((7900 - number * pitch) / 400, 0, 1)
        sound += strength * inside * np.sin(number * phase)
    return sound


def _drift(generator: Generator, seconds: float, rate: float) -> Sound:
    """A random curve of about ±1 that takes a new direction `rate` times a second."""
    knots = max(round(seconds * rate) + 2, 3)
    time = _time(seconds)
    return np.interp(time, np.linspace(0, seconds, knots), generator.uniform(-1, 1, knots))


def _swell(time: Sound, crest: float, rise: float, fall: float) -> Sound:
    """An envelope that peaks at 1 at `crest` and spreads `rise` seconds before and `fall` seconds after it."""
    width = np.where(time < crest, rise, fall)
    swell: Sound = np.exp(-(((time - crest) / width) ** 2))
    return swell


def _equalize(sound: Sound, curve: Curve) -> Sound:
    """`sound` with its spectrum raised by `curve`."""
    frequencies = np.maximum(np.fft.rfftfreq(sound.size, 1 / SAMPLE_RATE), 1)
    decibels = np.interp(np.log(frequencies), np.log(np.array(list(curve))), list(curve.values()))
    return np.fft.irfft(np.fft.rfft(sound) * 10 ** (decibels / 20), sound.size)


def _noise(generator: Generator, seconds: float, curve: Curve, level: float) -> Sound:
    """Noise whose density follows `curve`, at `level` dB RMS."""
    return _level(_equalize(generator.standard_normal(round(seconds * SAMPLE_RATE)), curve), level)


def _echo(generator: Generator, sound: Sound, seconds: float, wet: float) -> Sound:
    """`sound` with the diffuse echo of a place where it takes `seconds` to fall by 60 dB; `wet` is its share."""
    tail = _equalize(
        _burst(generator, seconds, seconds / 6.9), {100: 0, 1000: 0, 3000: -6, 8000: -20}
    )  # air and walls take the highs
    tail *= wet / np.sqrt(np.sum(tail**2))
    size = sound.size + tail.size
    reflected = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)[: sound.size]
    return sound + reflected


def _level(sound: Sound, decibels: float) -> Sound:
    """`sound` at an RMS of `decibels` below full scale."""
    return sound * (10 ** (decibels / 20) / np.sqrt(np.mean(sound**2)))


def _peak(sound: Sound, decibels: float) -> Sound:
    """`sound` with its highest peak at `decibels` below full scale."""
    return sound * (10 ** (decibels / 20) / np.abs(sound).max())


RECIPES: tuple[Recipe, ...] = (
    church_bells,
    clock_alarm,
    clock_tick,
    crickets,
    crow,
    door_wood_knock,
    fireworks,
    footsteps,
    rain,
    rooster,
    sea_waves,
    siren,
)
RECORDED = (footsteps, door_wood_knock, clock_tick, clock_alarm, rooster, church_bells, crow, siren, crickets)

if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
