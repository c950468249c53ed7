"""What a training hears: clips, the order of an epoch, batches, and recordings of noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from audiorep import audio
from audiorep.datasets import Example
from audiorep.datasets.clips import Clips, EpochSampler
from audiorep.datasets.resident import ClipNumbers, ResidentClips, resident
from audiorep.errors import AudiorepError, DataError
from audiorep.training.recipe import TrainConfig
from audiorep.training.teachers import TaughtClips

STEPS_AT_LEAST = 4  # an epoch; batches of a tiny data set are made smaller for it


def clips_of(config: TrainConfig, examples: Sequence[Example], labels: dict[str, list[str]], split: str) -> Clips:
    """The clips of a split, as training or validation looks at them."""
    front_end, training = config.front_end_config, split == "train"
    seconds = config.window_seconds
    if training:  # a faster clip needs more sound
        seconds = (config.cut_seconds or config.window_seconds) * (1 + config.augment.speed)
    chosen = [example for example in examples if example.split == split]
    size = front_end.samples(seconds)
    clips = Clips(chosen, labels, front_end.sample_rate, size, training, config.seed, config.padding, config.audible)
    if training and not len(clips):
        raise DataError(
            f"None of the {len(chosen)} training clips can be read. The first: {clips.failures[0]}"
            if chosen
            else "There are no training clips."
        )
    return clips


def on_device(train: Clips, config: TrainConfig) -> ResidentClips | None:
    """The clips to train on as they lie on a GPU, or None where there is none, or they do not fit, or go another way."""
    if not torch.cuda.is_available() or config.distil.cache:
        return None
    return resident(train, torch.device("cuda"))


def make_sampler(config: TrainConfig, train: Clips, no_class: Sequence[Example]) -> EpochSampler:
    """The order of an epoch's clips, with the share of those of no class that the settings ask for."""
    paths = {example.path for example in no_class}
    outliers = sum(example.path in paths for example in train.examples)
    share = config.unknown.share
    return EpochSampler(train, config.seed, config.balance == "sampling", cuts=config.cuts, outliers=outliers, share=share)


def make_loaders(
    config: TrainConfig, train: Clips | TaughtClips | ClipNumbers, valid: Clips, sampler: EpochSampler
) -> list[DataLoader[Any]]:
    """The loaders of training and validation batches."""
    batch = min(config.batch_size, max(2, len(sampler) // STEPS_AT_LEAST))
    shared: dict[str, Any] = {"collate_fn": _whole, "num_workers": config.workers, "pin_memory": torch.cuda.is_available()}
    return [
        DataLoader(train, batch, sampler=sampler, drop_last=len(sampler) > batch, **shared),
        DataLoader(valid, config.batch_size, **shared),
    ]


def _whole(batch: Any) -> Any:
    """A batch as `Clips.__getitems__` made it: there is nothing left to collate."""
    return batch


def class_weights(train: Clips, config: TrainConfig) -> dict[str, Tensor]:
    """{head: (K,)} inverse to the classes' frequency; for multi-label tasks, absent over present."""
    if config.balance != "weights":
        return {}
    counts = {head: train.class_counts(head).clamp_min(1) for head in train.labels}
    if config.multi_label:
        return {head: ((len(train) - count) / count).clamp(0.1, 100) for head, count in counts.items()}
    return {head: len(train) / (len(count) * count) for head, count in counts.items()}


def read_noise(config: TrainConfig) -> tuple[list[Tensor], list[AudiorepError]]:
    """Recordings to take background noise from, and the errors of those that cannot be read."""
    recordings: list[Tensor] = []
    errors: list[AudiorepError] = []
    for path in audio.find([config.augment.noise_folder]) if config.augment.noise_folder else ():
        try:
            recordings.append(torch.from_numpy(audio.read(path, config.front_end_config.sample_rate)))
        except AudiorepError as error:
            errors.append(error)
    if errors and not recordings:
        raise DataError(f"augment.noise_folder has no readable sound: {errors[0]}")
    return recordings, errors
