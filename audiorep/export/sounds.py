"""The sounds that an exported model is checked on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from audiorep import audio, datasets
from audiorep.datasets import Example
from audiorep.errors import AudioError, DataError
from audiorep.info.model_info import ModelInfo

CLIPS = "clips.csv"
"""The table in a checkpoint of the clips it was made from, a manifest."""
MOST = 32
MOST_CALIBRATION = 300


def parity_clips(
    folder: Path, info: ModelInfo, sounds: Sequence[str] | None, say: Callable[[str], None] = lambda text: None
) -> tuple[list[np.ndarray], str]:
    """Windows (N,) to check an export on, and where they are from: `sounds`, the run's own clips, or made-up noise.

    Files that cannot be read are left out, those of `sounds` with a word.

    Raises:
        AudioError: none of `sounds` can be used.
    """
    if sounds:
        examples, origin = [Example(path, {}) for path in audio.find(sounds)], "clips given"
    else:
        listed = _listed(folder / CLIPS)
        examples, origin = [e for e in listed if e.split != "train"] or listed, "clips of its data"
    waveforms = _windows(examples, MOST, info, bool(sounds), say)
    return (waveforms, origin) if waveforms else (noises(info), "noises (its data is not here)")


def calibration_clips(
    folder: Path, info: ModelInfo, sounds: Sequence[str] | None, say: Callable[[str], None] = lambda text: None
) -> list[np.ndarray]:
    """Windows (N,) to measure the ranges of activations on: of `sounds`, or of clips that the run was trained on.

    Raises:
        AudioError: none of `sounds` can be used.
        DataError: there are no sounds and the run's clips are not here.
    """
    if sounds:
        examples = [Example(path, {}) for path in audio.find(sounds)]
    else:
        examples = [example for example in _listed(folder / CLIPS) if example.split == "train"]
    low_rates([example.path for example in spread(examples, MOST_CALIBRATION)], info, say)
    waveforms = _windows(examples, MOST_CALIBRATION, info, bool(sounds), say)
    if not waveforms:
        raise DataError("int8 needs real sounds to measure ranges on, and the run's clips are not here; give --calibration.")
    return waveforms


def _windows(examples: list[Example], most: int, info: ModelInfo, given: bool, say: Callable[[str], None]) -> list[np.ndarray]:
    waveforms, errors = [], []
    for example in spread(examples, most):
        try:
            waveform = audio.read(example.path, info.sample_rate, example.start, example.end)
        except AudioError as error:
            errors.append(error)
        else:
            waveforms.append(audio.pad(waveform, info.window_samples, info.padding))
    if given and errors:
        if not waveforms:
            raise errors[0]
        for unreadable in errors:
            say(f"Left out: {unreadable}")
    return waveforms


def low_rates(paths: Sequence[Path], info: ModelInfo, say: Callable[[str], None]) -> None:
    """Says how many of the sounds lack the upper part of what the model hears, where some do."""
    rates = []
    for path in paths:
        with suppress(AudioError):
            rates.append(audio.probe(path).sample_rate)
    low = [rate for rate in rates if rate < info.sample_rate]
    if low:
        say(
            f"{len(low)} of {len(rates)} sounds to calibrate on are of a lower rate (down to {min(low)} Hz) than the model's "
            f"{info.sample_rate} Hz, so their highest bands are empty. Calibrate on sounds like those it is to hear."
        )


def _listed(path: Path) -> list[Example]:
    """The run's clips that are still there."""
    try:
        return [example for example in datasets.examples(path) if example.path.exists()]
    except DataError:
        return []


def spread(examples: list[Example], most: int) -> list[Example]:
    """Up to `most` of them, evenly spread."""
    places = np.linspace(0, len(examples) - 1, min(most, len(examples))).round().astype(int)
    return [examples[place] for place in places]


def noises(info: ModelInfo) -> list[np.ndarray]:
    """Windows (N,) of white noise from soft to loud, where there are no sounds."""
    generator = np.random.default_rng(0)
    return [(level * generator.standard_normal(info.window_samples)).astype(np.float32) for level in np.geomspace(1e-3, 0.5, 8)]
