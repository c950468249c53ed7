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
MOST_PARITY_CLIPS = 32
MOST_CALIBRATION_CLIPS = 300


def parity_clips(
    folder: Path, info: ModelInfo, sounds: Sequence[str] | None, say: Callable[[str], None] = lambda text: None
) -> tuple[list[np.ndarray], str]:
    """Windows (N,) to check an export on, and where they are from: `sounds`, the run's own clips, or made-up noise.

    Files that cannot be read are left out, those of `sounds` with a word.

    Raises:
        AudioError: none of `sounds` can be used.
    """
    if sounds:
        return first_windows(spread(_given(sounds), MOST_PARITY_CLIPS), info, say), "clips given"
    listed = _listed(folder / CLIPS)
    waveforms = _readable(spread([e for e in listed if e.split != "train"] or listed, MOST_PARITY_CLIPS), info)
    return (waveforms, "clips of its data") if waveforms else (noises(info), "noises (its data is not here)")


def calibration_clips(
    folder: Path, info: ModelInfo, sounds: Sequence[str] | None, say: Callable[[str], None] = lambda text: None
) -> list[np.ndarray]:
    """Windows (N,) to measure the ranges of activations on: of `sounds`, or of clips that the run was trained on.

    Raises:
        AudioError: none of `sounds` can be used.
        DataError: there are no sounds and the run's clips are not here.
    """
    listed = _given(sounds) if sounds else [clip for clip in _listed(folder / CLIPS) if clip.split == "train"]
    examples = spread(listed, MOST_CALIBRATION_CLIPS)
    low_rates([example.path for example in examples], info, say)
    waveforms = first_windows(examples, info, say) if sounds else _readable(examples, info)
    if not waveforms:
        raise DataError("int8 needs real sounds to measure ranges on, and the run's clips are not here; give --calibration.")
    return waveforms


def first_windows(
    examples: Sequence[Example], info: ModelInfo, say: Callable[[str], None] = lambda text: None
) -> list[np.ndarray]:
    """The first window (N,) of each clip, at the rate of the model; clips that cannot be read are left out with a word.

    Raises:
        AudioError: there are clips, and none can be read.
    """
    windows, errors = [], []
    for example in examples:
        try:
            windows.append(first_window(example, info))
        except AudioError as error:
            errors.append(error)
    if errors and not windows:
        raise errors[0]
    for unreadable in errors:
        say(f"Left out: {unreadable}")
    return windows


def first_window(example: Example, info: ModelInfo) -> np.ndarray:
    """The first window (N,) of a clip, of which no more is read.

    Raises:
        AudioError: it cannot be read.
    """
    clip_ends = audio.probe(example.path).seconds if example.end is None else example.end
    wanted = example.start + info.window_seconds
    end = wanted if wanted < clip_ends else example.end
    return audio.pad(audio.read(example.path, info.sample_rate, example.start, end), info.window_samples, info.padding)


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


def _readable(examples: Sequence[Example], info: ModelInfo) -> list[np.ndarray]:
    """The first windows of the clips that can be read, of which there may be none."""
    with suppress(AudioError):
        return first_windows(examples, info)
    return []


def _given(sounds: Sequence[str]) -> list[Example]:
    """The clips of the files that a user names."""
    return [Example(path, {}) for path in audio.find(sounds)]


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
