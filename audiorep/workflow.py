"""From labelled clips to a trained, evaluated and documented checkpoint, and the clips to check an export on."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from audiorep import audio, checkpoint, datasets, models, report
from audiorep.bundle import ModelInfo
from audiorep.datasets import Example
from audiorep.datasets.manifest import COLUMNS
from audiorep.errors import AudioError, DataError
from audiorep.evaluate import Evaluation, describe_split, evaluate
from audiorep.files import replacing
from audiorep.predict import Classifier
from audiorep.recipe import TrainConfig
from audiorep.runtimes.torch import TorchSession
from audiorep.train import fit

CLIPS = "clips.csv"
PARITY_CLIPS = 32


def train(
    config: TrainConfig,
    examples: Sequence[Example],
    data: Path,
    output: str | os.PathLike[str],
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> list[Evaluation]:
    """Trains, evaluates on the test clips (and the validation clips), and writes everything into `output`.

    Raises:
        DataError, ConfigError, CheckpointError: as `audiorep.train.fit`.
    """
    output = Path(output)
    fit(config, examples, output, progress, say)
    write_clips(examples, output / CLIPS)
    loaded = checkpoint.load(output)
    classifier = Classifier(TorchSession(loaded))
    evaluations = []
    chosen = {split: [example for example in examples if example.split == split] for split in ("train", "test", "valid")}
    for split in ("test", "valid"):
        if chosen[split]:
            words = describe_split(data, split, chosen[split], chosen["train"])
            evaluations.append(evaluate(classifier, chosen[split], words))
    front = config.front_end_config
    shape = (1, 1, front.frames(front.samples(config.window_seconds)), front.mels)
    report.write(output, loaded, evaluations, models.cost(loaded.network, shape))
    return evaluations


def describe(examples: Sequence[Example]) -> str:
    """How many clips and classes each split has, in one line."""
    parts = []
    for split in ("train", "valid", "test"):
        chosen = [example for example in examples if example.split == split]
        classes = {label for example in chosen for labels in example.labels.values() for label in labels}
        parts.append(f"{len(chosen)} clips of {len(classes)} classes to {split}")
    return ", ".join(parts)


def write_clips(examples: Sequence[Example], path: Path) -> None:
    """The clips and their splits as a CSV manifest."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for e in examples:
            label = ";".join(next(iter(e.labels.values())))
            end = "" if e.end is None else e.end
            rows.writerow((e.path.resolve(), label, e.start, end, e.split, e.fold, e.group, e.licence))


def parity_clips(folder: Path, info: ModelInfo, sounds: Sequence[str] | None) -> tuple[list[np.ndarray], str]:
    """Windows (N,) to check an export on, and where they are from: `sounds`, the run's own clips, or made-up noise.

    Raises:
        AudioError: a file of `sounds` cannot be used.
    """
    if sounds:
        paths = list(audio.find(sounds))[:PARITY_CLIPS]
        return [audio.fit(audio.read(path, info.sample_rate), info.window_samples) for path in paths], "clips given"
    waveforms = []
    for example in _spread(_listed(folder / CLIPS)):
        try:
            waveform = audio.read(example.path, info.sample_rate, example.start, example.end)
        except AudioError:
            continue
        waveforms.append(audio.fit(waveform, info.window_samples))
    if waveforms:
        return waveforms, "clips of its data"
    generator = np.random.default_rng(0)
    levels = np.geomspace(1e-3, 0.5, 8)
    return [
        (level * generator.standard_normal(info.window_samples)).astype(np.float32) for level in levels
    ], "noises (its data is not here)"


def _listed(path: Path) -> list[Example]:
    try:
        return [example for example in datasets.examples(path) if example.path.exists()]
    except DataError:
        return []


def _spread(examples: list[Example]) -> list[Example]:
    """Up to PARITY_CLIPS of them, evenly spread, those not trained on first."""
    held_out = [example for example in examples if example.split != "train"] or examples
    return held_out[:: max(1, len(held_out) // PARITY_CLIPS)][:PARITY_CLIPS]
