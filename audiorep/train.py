"""Training: a `TrainConfig` and labelled clips to a checkpoint folder, on Lightning."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Generator, Tensor
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Sampler

from audiorep import __version__, audio, augment, checkpoint, models
from audiorep.bundle import ModelInfo
from audiorep.datasets import Example, count_splits, labels_of
from audiorep.datasets.clips import Clips
from audiorep.errors import AudiorepError, CheckpointError, ConfigError, DataError
from audiorep.files import replacing, write_json
from audiorep.frontend import LogMel
from audiorep.recipe import TrainConfig

CONFIG, LAST, BEST, LOGS = "train.json", "last.ckpt", "best.ckpt", "logs"
AVERAGE_EVERY = 4  # steps
STEPS_AT_LEAST = 4  # an epoch; batches of a tiny data set are made smaller for it


class Trainee(lightning.LightningModule):
    """Augmentation, front end, network and loss of one training."""

    def __init__(
        self, config: TrainConfig, labels: dict[str, list[str]], steps_per_epoch: int, class_weights: dict[str, Tensor]
    ) -> None:
        super().__init__()
        self.settings, self.labels, self.steps_per_epoch = config, labels, steps_per_epoch
        self.front_end = LogMel(config.front_end_config, torch.float32)
        self.network = models.build(config.architecture, {h: len(n) for h, n in labels.items()}, config.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.class_weights = class_weights
        self.noise: list[Tensor] = []
        self.sampler: EpochSampler | None = None
        self._generator = Generator()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Every draw of an epoch depends on the seed and the epoch alone, so a resumed run repeats an unbroken one.

        Not at the epoch's start: making a loader's iterator draws too, and Lightning makes a run's first one later.
        """
        if batch_idx:
            return
        seed = self.settings.seed * 100_003 + self.current_epoch
        torch.manual_seed(seed)
        self._generator = Generator(self.device).manual_seed(seed)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Sets the clips to the epoch that comes next, since worker processes copy them before Lightning does."""
        if self.sampler is not None:
            self.sampler.set_epoch(checkpoint["epoch"] + 1)

    def training_step(self, batch: tuple[Tensor, dict[str, Tensor]], index: int) -> Tensor:
        """The loss of a batch: waveforms (B, N) and {head: targets (B, K)}."""
        spectrogram, targets = self.prepare(*batch)
        logits = self.network(spectrogram)
        loss = torch.stack([self.loss(values, targets[head], head) for head, values in logits.items()]).mean()
        self.log("learning_rate", self.optimizers().param_groups[0]["lr"], on_step=False, on_epoch=True)  # type: ignore[union-attr]
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(spectrogram))
        return loss

    def validation_step(self, batch: tuple[Tensor, dict[str, Tensor]], index: int) -> None:
        """Logs loss and accuracy of a batch as it is, the mean over heads."""
        waveform, targets = batch
        logits = self.network(self.front_end(waveform).contiguous(memory_format=torch.channels_last))
        values: dict[str, list[Tensor]] = {"valid_loss": [], "valid_accuracy": []}
        for head, scores in logits.items():
            values["valid_loss"].append(self._criterion(scores, targets[head]))
            values["valid_accuracy"].append(_accuracy(scores, targets[head], self.settings.multi_label))
        for name, of_heads in values.items():
            self.log(name, torch.stack(of_heads).mean(), prog_bar=True, batch_size=len(waveform))

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, which advances every step."""
        settings = self.settings.optimizer
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        spared = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": spared, "weight_decay": 0.0}]
        optimizer: torch.optim.Optimizer
        if settings.name == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        else:
            optimizer = torch.optim.SGD(
                groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0
            )
        schedule, epochs, steps = self.settings.schedule, self.settings.epochs, self.steps_per_epoch
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.factor((step + 1) / steps, epochs))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def prepare(self, waveform: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """An augmented spectrogram (B, 1, T, F) and targets to match."""
        config, generator, front_end = self.settings.augment, self._generator, self.settings.front_end_config
        samples = front_end.samples(self.settings.cut_seconds or self.settings.window_seconds)
        with torch.no_grad():
            noise = self._background(len(waveform), samples) if self.noise else None
            waveform = augment.augment_waveform(waveform, config, samples, front_end.sample_rate, noise, generator)
            if config.mixup and torch.rand((), generator=generator, device=generator.device) < config.mixup:
                ratio, partner = augment.draw_mixup(len(waveform), config.mixup_alpha, generator)
                waveform = augment.mix(waveform, ratio, partner)
                targets = {head: augment.mix_targets(values, ratio, partner) for head, values in targets.items()}
            spectrogram = augment.augment_spectrogram(self.front_end(waveform), config, generator)
        return spectrogram.contiguous(memory_format=torch.channels_last), targets

    def _background(self, count: int, samples: int) -> Tensor:
        """(B, samples) cuts of the noise recordings, of unit level."""
        cuts = []
        for draw in torch.rand(count, 2, generator=self._generator, device=self._generator.device).tolist():
            recording = self.noise[int(draw[0] * len(self.noise))]
            start = int(draw[1] * max(len(recording) - samples, 0))
            cuts.append(recording[start : start + samples].repeat(-(-samples // len(recording)))[:samples])
        noise = torch.stack(cuts).to(self.device)
        return noise / noise.square().mean(1, keepdim=True).sqrt().clamp_min(1e-5)

    def loss(self, logits: Tensor, targets: Tensor, head: str) -> Tensor:
        """The training loss of one head: logits (B, K) against targets (B, K)."""
        smoothing = self.settings.label_smoothing
        if smoothing and not self.settings.multi_label:
            targets = augment.smooth(targets, smoothing)
        weights = self.class_weights.get(head)
        return self._criterion(logits, targets, None if weights is None else weights.to(logits.device))

    def _criterion(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        if self.settings.multi_label:
            return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
        return functional.cross_entropy(logits, targets, weight=weights)


def fit(
    config: TrainConfig,
    examples: Sequence[Example],
    output: str | os.PathLike[str],
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Trains on the `train` clips, or goes on where a run in `output` stopped, and writes the checkpoint there.

    With `valid` clips the weights of the best epoch are kept, otherwise the last ones. `progress` shows a bar; without
    it `say` is told a line an epoch. Returns the folder.

    Raises:
        DataError: no readable training clips, fewer than two classes, or labels that do not fit the task.
        ConfigError: `output` holds a run with other settings or other data.
        CheckpointError: the run in `output` cannot be read.
        KeyboardInterrupt: the user stopped it; the last whole epoch is kept in `output`.
    """
    output = Path(output)
    labels = _labels(config, examples)
    record = _record(config, labels, examples)
    _check(output, record)
    lightning.seed_everything(config.seed, verbose=False)
    train, valid = (clips_of(config, examples, labels, split) for split in ("train", "valid"))
    sampler = EpochSampler(train, config)
    loaders = make_loaders(config, train, valid, sampler)
    trainee = Trainee(config, labels, len(loaders[0]), _class_weights(train, config))
    noise, silent = _noise(config)
    trainee.noise, trainee.sampler = noise, sampler
    for failure in [*train.failures, *valid.failures, *silent]:
        say(f"Left out: {failure}")
    write_json(output / CONFIG, record)
    trainer = make_trainer(config, output, progress, len(valid) > 0, say)
    say(f"Training {config.architecture} on {len(train)} clips, {trainer.strategy.root_device}")
    _run(trainer, trainee, loaders, output)
    _take_weights(trainee, output / (BEST if len(valid) and (output / BEST).exists() else LAST))
    checkpoint.save(output, trainee.network, _info(config, labels, examples), config.architecture)
    return output


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights, of `decay` a step, taken every fourth step.

    On a CPU, averaging a small network after every step would cost a sixth of the step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=True, multi_avg_fn=get_ema_multi_avg_fn(decay**AVERAGE_EVERY))  # type: ignore[no-untyped-call]

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


class EpochSampler(Sampler[int]):
    """Clip numbers in an order drawn from the seed and the epoch; tells the clips which epoch it is."""

    def __init__(self, clips: Clips, config: TrainConfig) -> None:
        self._clips, self._seed = clips, config.seed
        self._weights = _sampling_weights(clips) if config.balance == "sampling" else None

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self._clips.epoch = epoch

    def __len__(self) -> int:
        return len(self._clips)

    def __iter__(self) -> Iterator[int]:
        generator = Generator().manual_seed(self._seed * 100_003 + self._clips.epoch)
        if self._weights is None:
            return iter(torch.randperm(len(self), generator=generator).tolist())
        return iter(torch.multinomial(self._weights, len(self), replacement=True, generator=generator).tolist())


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning checkpoints that appear whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        """Writes beside `path`, then renames."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())


def _labels(config: TrainConfig, examples: Sequence[Example]) -> dict[str, list[str]]:
    labels = labels_of([example for example in examples if example.split == "train"])
    if not labels or min(len(names) for names in labels.values()) < 2 - config.multi_label:
        raise DataError(f"Training needs at least two classes; the clips to train on have {labels or 'none'}.")
    known = {head: set(names) for head, names in labels.items()}
    for example in examples:
        for head, names in example.labels.items():
            if unknown := set(names) - known.get(head, set()):
                raise DataError(
                    f"{example.path} ({example.split}) is labelled {', '.join(sorted(unknown))}, which no training clip is."
                )
            if not config.multi_label and len(names) != 1:
                raise DataError(f"{example.path} has {len(names)} labels; one is needed, or multi_label = true.")
    return labels


def _record(config: TrainConfig, labels: dict[str, list[str]], examples: Sequence[Example]) -> dict[str, Any]:
    """What a run is of: settings, labels, and a digest of the clips that stays the same when the data moves."""
    digest = hashlib.sha256()
    for clip in sorted(("/".join(e.path.parts[-2:]), str(e.labels), e.start, str(e.end), e.split) for e in examples):
        digest.update(repr(clip).encode(errors="surrogateescape"))
    clips = {**count_splits(examples), "digest": digest.hexdigest()[:16]}
    return _plain({"config": asdict(config), "labels": labels, "clips": clips})


def _check(output: Path, record: dict[str, Any]) -> None:
    """Refuses a folder that holds a run of something else."""
    if not (output / CONFIG).exists():
        return
    before = checkpoint.read_json(output / CONFIG)
    if before != record:
        changed = [key for key in record["config"] if before.get("config", {}).get(key) != record["config"][key]]
        what = ", ".join(changed) or "its clips or labels"
        raise ConfigError(
            f"{output} holds a run with other settings ({what} changed). Choose another folder, or delete this one."
        )


def _plain(values: Any) -> Any:
    """`values` as JSON would give them back."""
    if isinstance(values, dict):
        return {str(key): _plain(value) for key, value in values.items()}
    return [_plain(value) for value in values] if isinstance(values, list | tuple) else values


def clips_of(config: TrainConfig, examples: Sequence[Example], labels: dict[str, list[str]], split: str) -> Clips:
    """The clips of a split, as training or validation looks at them."""
    front_end, training = config.front_end_config, split == "train"
    seconds = config.window_seconds
    if training:  # a faster clip needs more sound
        seconds = (config.cut_seconds or config.window_seconds) * (1 + config.augment.speed)
    chosen = [example for example in examples if example.split == split]
    clips = Clips(chosen, labels, front_end.sample_rate, front_end.samples(seconds), training, config.seed)
    if training and not len(clips):
        raise DataError(
            f"None of the {len(chosen)} training clips can be read. The first: {clips.failures[0]}"
            if chosen
            else "There are no training clips."
        )
    return clips


def _run(trainer: lightning.Trainer, trainee: Trainee, loaders: list[DataLoader[Any]], output: Path) -> None:
    """Lightning's loop, from the last checkpoint in `output` if there is one."""
    last = output / LAST
    if last.exists():
        _read(last)  # a damaged one is refused here, where nothing else can be the cause
    try:
        resumed = last if last.exists() else None
        trainer.fit(trainee, loaders[0], loaders[1] if len(loaders[1]) else None, ckpt_path=resumed, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds on a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} cannot be read ({reason}). Delete {path.parent} to start again.") from None


def _take_weights(trainee: Trainee, path: Path) -> None:
    """The weights of a saved epoch (their average, where one is kept), refused if training went out of range."""
    weights = _read(path)["state_dict"]
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise ConfigError("Training diverged: weights are infinite or NaN. Lower optimizer.learning_rate.")
    trainee.load_state_dict(weights)


def make_loaders(config: TrainConfig, train: Clips, valid: Clips, sampler: EpochSampler) -> list[DataLoader[Any]]:
    """The loaders of training and validation batches."""
    batch = min(config.batch_size, max(2, len(train) // STEPS_AT_LEAST))
    shared: dict[str, Any] = {"collate_fn": _whole, "num_workers": config.workers, "pin_memory": torch.cuda.is_available()}
    return [
        DataLoader(train, batch, sampler=sampler, drop_last=len(train) > batch, **shared),
        DataLoader(valid, config.batch_size, **shared),
    ]


def _whole(batch: Any) -> Any:
    """A batch as `Clips.__getitems__` made it: there is nothing left to collate."""
    return batch


def make_trainer(
    config: TrainConfig, output: Path, progress: bool, validates: bool, say: Callable[[str], None]
) -> lightning.Trainer:
    """Lightning's trainer with this project's checkpoints, logs and average of weights."""
    callbacks: list[Callback] = []
    if config.ema_decay:
        callbacks.append(MovingAverage(config.ema_decay))
    if not progress:
        callbacks.append(EpochLines(say))
    if validates:
        name, mode = ("valid_loss", "min") if config.multi_label else ("valid_accuracy", "max")
        callbacks.append(ModelCheckpoint(output, Path(BEST).stem, monitor=name, mode=mode, enable_version_counter=False))
    callbacks.append(ModelCheckpoint(output, Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False))
    part = f"part_{len(list((output / LOGS).glob('part_*'))) + 1}"  # a logger empties the folder it is given
    return lightning.Trainer(
        max_epochs=config.epochs,
        precision=config.precision,
        gradient_clip_val=config.gradient_clip or None,
        callbacks=callbacks,
        logger=[CSVLogger(output, LOGS, version=part), TensorBoardLogger(output, LOGS, version=part)],
        plugins=[AtomicCheckpoints()],
        devices=1,  # seeds, sampler and messages are written for one process
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10_000,  # values are logged by the epoch
    )


def _class_weights(train: Clips, config: TrainConfig) -> dict[str, Tensor]:
    """{head: (K,)} inverse to the classes' frequency; for multi-label tasks, absent over present."""
    if config.balance != "weights":
        return {}
    counts = {head: train.class_counts(head).clamp_min(1) for head in train.labels}
    if config.multi_label:
        return {head: ((len(train) - count) / count).clamp(0.1, 100) for head, count in counts.items()}
    return {head: len(train) / (len(count) * count) for head, count in counts.items()}


def _sampling_weights(clips: Clips) -> Tensor:
    """(clips,) weights that draw every class of the first head equally often."""
    head = next(iter(clips.labels))
    rarity = 1 / clips.class_counts(head).clamp_min(1)
    return torch.stack([(clips.target(index, head) * rarity).max() for index in range(len(clips))])


def _noise(config: TrainConfig) -> tuple[list[Tensor], list[AudiorepError]]:
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


def _accuracy(logits: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    if multi_label:
        return ((logits > 0) == (targets > 0.5)).float().mean()
    return (logits.argmax(1) == targets.argmax(1)).float().mean()


def _info(config: TrainConfig, labels: dict[str, list[str]], examples: Sequence[Example]) -> ModelInfo:
    return ModelInfo(
        name=config.architecture,
        labels=labels,
        sample_rate=config.front_end_config.sample_rate,
        window_seconds=config.window_seconds,
        hop_seconds=config.hop_seconds or config.window_seconds,
        front_end=asdict(config.front_end_config),
        activation="sigmoid" if config.multi_label else "softmax",
        licence=config.licence,
        provenance={
            "clips": count_splits(examples),
            "splits": asdict(config.splits),
            "attribution": config.attribution,
            "audiorep": __version__,
            "date": date.today().isoformat(),
        },
    )
