"""Parts of a training that Lightning calls: average of weights, reports by the epoch, resumed order, logs, checkpoints."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.optim.swa_utils import get_ema_multi_avg_fn

from audiorep.datasets.clips import EpochSampler
from audiorep.files import replacing
from audiorep.interrupts import delay_signals

AVERAGE_EVERY = 4  # steps


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights, of `decay` a step, taken every fourth step.

    On a CPU, averaging a small network after every step would cost a sixth of the step. Buffers are averaged too where
    they are the statistics of batch norms; others, such as the ranges of int8's rounding, are the latest.
    """

    def __init__(self, decay: float, has_norms: bool) -> None:
        super().__init__(use_buffers=has_norms, multi_avg_fn=get_ema_multi_avg_fn(decay**AVERAGE_EVERY))  # type: ignore[no-untyped-call]

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Every fourth step."""
        return step_idx is not None and step_idx % AVERAGE_EVERY == 0


class EpochLines(Callback):
    """A line an epoch, where there is no progress bar."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Says the epoch's metrics."""
        values = ", ".join(
            f"{name.replace('_', ' ')} {float(value):.4g}" for name, value in sorted(trainer.callback_metrics.items())
        )
        self._say(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {values}")


class EpochValues(Callback):
    """Hands each epoch's metrics on."""

    def __init__(self, on_epoch: Callable[[int, dict[str, float]], None]) -> None:
        self._on_epoch = on_epoch

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """With those of the validation clips."""
        self._on_epoch(trainer.current_epoch, {name: float(value) for name, value in trainer.callback_metrics.items()})


class ResumedOrder(Callback):
    """Sets a resumed run's clips to the epoch that comes next, since worker processes copy them before Lightning does."""

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Sets the epoch from the checkpoint that is loaded."""
        self._sampler.set_epoch(checkpoint["epoch"] + 1)


class TensorBoard(TensorBoardLogger):
    """TensorBoard's logs, whose writing no signal interrupts.

    Values go to a thread through a queue. Ctrl-C while one is put there may leave the thread unaware of it, and the end of
    the training would wait for it for ever.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hands values on."""
        with delay_signals():
            super().log_metrics(metrics, step)

    def save(self) -> None:
        """Waits until all values are written."""
        with delay_signals():
            super().save()

    def finalize(self, status: str) -> None:
        """The same, at the end."""
        with delay_signals():
            super().finalize(status)


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning checkpoints that appear whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        """Writes beside `path`, then renames."""
        content = io.BytesIO()  # torch answers a full disk with the place in its own code where it noticed
        torch.save(checkpoint, content)
        with replacing(Path(path)) as partial, partial.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
