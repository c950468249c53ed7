"""The sounds that an exported model is checked on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from audiorep import audio, datasets
from audiorep.bundle import ModelInfo
from audiorep.datasets import Example
from audiorep.errors import AudioError, DataError

CLIPS = "clips.csv"
"""The table in a checkpoint of the clips it was made from, a manifest."""
MOST = 32


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
        examples, origin = _listed(folder / CLIPS), "clips of its data"
    waveforms, errors = [], []
    for example in _spread(examples):
        try:
            waveform = audio.read(example.path, info.sample_rate, example.start, example.end)
        except AudioError as error:
            errors.append(error)
        else:
            waveforms.append(audio.pad(waveform, info.window_samples, info.padding))
    if sounds and errors:
        if not waveforms:
            raise errors[0]
        for unreadable in errors:
            say(f"Left out: {unreadable}")
    return (waveforms, origin) if waveforms else (_noises(info), "noises (its data is not here)")


def _listed(path: Path) -> list[Example]:
    """The clips that were not trained on, or all if there are no others."""
    try:
        examples = [example for example in datasets.examples(path) if example.path.exists()]
    except DataError:
        return []
    return [example for example in examples if example.split != "train"] or examples


def _spread(examples: list[Example]) -> list[Example]:
    """Up to MOST of them, evenly spread."""
    places = np.linspace(0, len(examples) - 1, min(MOST, len(examples))).round().astype(int)
    return [examples[place] for place in places]


def _noises(info: ModelInfo) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [(level * generator.standard_normal(info.window_samples)).astype(np.float32) for level in np.geomspace(1e-3, 0.5, 8)]
