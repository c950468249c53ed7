"""Training: a `TrainConfig` and labelled clips to a checkpoint folder, on Lightning."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from audiorep import __version__, interrupts, shipped
from audiorep.datasets import Example, Labels, count_splits, digest_of, labels_of, missing_fold_advice, trained_clips
from audiorep.datasets.clips import Clips, EpochSampler
from audiorep.datasets.resident import ClipNumbers
from audiorep.errors import AudiorepError, CheckpointError, ConfigError, DataError
from audiorep.files import write_errors, write_json
from audiorep.info import UNKNOWN
from audiorep.info.front_end import FrontEndConfig
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint, tensors
from audiorep.training import heads, loaders, teachers, unknown
from audiorep.training.callbacks import AtomicCheckpoints, EpochLines, EpochValues, MovingAverage, ResumedOrder, TensorBoard
from audiorep.training.module import Trainee, build_network
from audiorep.training.recipe import TrainConfig
from audiorep.training.teachers import TaughtClips, Teachers

CONFIG, LAST, BEST = "train.json", "last.ckpt", "best.ckpt"
FAILURES_SAID = 5


def fit(
    config: TrainConfig,
    examples: Sequence[Example],
    output: str | os.PathLike[str],
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
    classes: Labels | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Trains on the `train` clips, or goes on where a run in `output` stopped, and writes the checkpoint there.

    With `valid` clips the weights of the best epoch are kept (unless `config.keep` says the last). `progress` shows a bar;
    without it `say` is told a line an epoch. `classes` gives all classes in their order; without it they are those of the
    training clips, sorted. `on_epoch` is given each epoch, from 0, and its metrics by name, and may raise to end the training.
    Returns the folder.

    Raises:
        DataError: no readable training clips, fewer than two classes, labels that do not fit the task or `classes`, or a
            teacher that was trained on other clips of the data than the training ones.
        ConfigError: `output` holds a run with other settings, other data or other teachers.
        CheckpointError: the run in `output`, the checkpoint to start from, or a teacher cannot be used.
        KeyboardInterrupt: the user stopped it; the last whole epoch is kept in `output`.
    """
    output = Path(output)
    if config.distil.classes == "teacher":
        classes = teachers.classes_of(config)
        examples = [replace(example, labels=dict.fromkeys(classes, ())) for example in examples]
    labels = unknown.labels_with(config.unknown, _labels(config, examples, classes))
    outliers = unknown.examples_of(config.unknown, labels)
    taught_by = teachers.load(config, labels, examples, say)
    run = Run(config, labels, examples, output, Reports(progress, say, on_epoch), taught_by, outliers)
    check_run(run)
    info = _info(run)  # what it refuses is better known before training than after

    def make() -> nn.Module:
        network = build_network(config, labels)
        if config.start and not (output / LAST).exists():
            moved = checkpoint.transfer(network, checkpoint.load(config.start), labels)
            say(f"From {config.start}: {moved.summary}")
        return network

    checkpoint.save(output, train_network(run, make), info, config.architecture)
    return output


@dataclass(frozen=True)
class Reports:
    """Where a training reports its progress."""

    progress: bool = False
    """Show a bar; without it `say` is told a line an epoch."""
    say: Callable[[str], None] = lambda text: None
    on_epoch: Callable[[int, dict[str, float]], None] | None = None
    """Given each epoch, from 0, and its metrics by name; may raise to end the training."""


@dataclass(frozen=True)
class Run:
    """One training: its settings, its clips, and the folder in which it is kept."""

    config: TrainConfig
    labels: Labels
    examples: Sequence[Example]
    output: Path
    reports: Reports = field(default_factory=Reports)
    taught_by: Teachers | None = None
    outliers: Sequence[Example] = ()
    """Clips of no class to train on (see `audiorep.training.unknown`)."""

    @property
    def heard(self) -> list[Example]:
        """All clips; those of no class come last."""
        return [*self.examples, *self.outliers]


def check_run(run: Run) -> None:
    """Refuses a training into a folder that holds another one.

    Raises:
        ConfigError: the folder holds a run with other settings, other data or other teachers, or another checkpoint.
        CheckpointError: the run's record cannot be read.
    """
    _check(run.output, _record(run))


def train_network(run: Run, make: Callable[[], nn.Module]) -> nn.Module:
    """The network that `make` gives, trained, or trained on from where the run stopped, with the weights of the epoch kept.

    Every training goes through here: it resumes, averages weights, validates and keeps its epochs in the run's folder.

    Raises:
        DataError: no readable training clips.
        ConfigError: the weights went out of range.
        CheckpointError: the run in the folder cannot be read.
        KeyboardInterrupt: the user stopped it; the last whole epoch is kept.
    """
    config, output, say = run.config, run.output, run.reports.say
    lightning.seed_everything(config.seed, verbose=False)
    train, valid = (loaders.clips_of(config, run.heard, run.labels, split) for split in ("train", "valid"))
    sampler = loaders.make_sampler(config, train, run.outliers)
    on_device = loaders.on_device(train, config)
    heard = _with_scores(train, run) if on_device is None else ClipNumbers(len(train))
    batches = loaders.make_loaders(config, heard, valid, sampler)
    noise, unreadable = loaders.read_noise(config)
    weights = loaders.class_weights(train, config)
    trainee = Trainee(config, run.labels, len(batches[0]), weights, noise, make(), on_device)
    if run.taught_by is not None and not config.distil.cache:
        trainee.learn_from(run.taught_by)
    _say_failures([*train.failures, *valid.failures, *unreadable], say)
    write_json(output / CONFIG, _record(run))
    has_norms = bool(trainee.norms(frozen=False))
    trainer = make_trainer(config, output, run.reports, len(valid) > 0, has_norms)
    trainer.callbacks.insert(0, ResumedOrder(sampler))  # type: ignore[attr-defined]  # Lightning's own come last
    device = trainer.strategy.root_device
    epoch = partial(_epoch, trainee, batches[0], sampler, device)
    if config.fit_heads and not (output / LAST).exists():
        _fit_heads(run, trainee, epoch, device)
    say(f"Training {config.architecture} on {len(train)} clips, {device}")
    _loop(trainer, trainee, batches, output)
    _take_weights(trainee, output / (BEST if config.keep == "best" and (output / BEST).exists() else LAST))
    if has_norms:
        _measure_norms(trainee, epoch, device)
    return trainee.network


def quieten() -> None:
    """Silences Lightning's advertising and its advice on settings that this project makes on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")


def _say_failures(failures: Sequence[AudiorepError], say: Callable[[str], None]) -> None:
    for failure in failures[:FAILURES_SAID]:
        say(f"Left out: {failure}")
    if len(failures) > FAILURES_SAID:
        say(f"Left out: {len(failures) - FAILURES_SAID} more clips; audiorep data check lists them all.")


def _labels(config: TrainConfig, examples: Sequence[Example], classes: Labels | None) -> Labels:
    if advice := missing_fold_advice(examples, "This data"):
        raise DataError(advice)
    labels = classes or labels_of([example for example in examples if example.split == "train"])
    if not labels or min(len(names) for names in labels.values()) < 2 - config.multi_label:
        raise DataError(f"Training needs at least two classes; the clips to train on have {labels or 'none'}.")
    known = {head: set(names) for head, names in labels.items()}
    for example in examples:
        for head, names in example.labels.items():
            if unknown := set(names) - known.get(head, set()):
                reason = "is not a class of this data set" if classes else "no training clip is"
                raise DataError(f"{example.path} ({example.split}) is labelled {', '.join(sorted(unknown))}, which {reason}.")
            if not config.multi_label and len(names) != 1:
                raise DataError(f"{example.path} has {len(names)} labels; one is needed, or multi_label = true.")
    return labels


def _with_scores(train: Clips, run: Run) -> Clips | TaughtClips:
    """The clips to train on, with the teachers' scores of each where the teachers are asked but once."""
    if run.taught_by is None or not run.config.distil.cache:
        return train
    return TaughtClips(train, run.taught_by.remember(train, run.output / teachers.KEPT))


def _record(run: Run) -> dict[str, Any]:
    """What identifies a run: settings, labels, teachers, and a digest of the clips that stays the same when the data moves."""
    clips = {**count_splits(run.heard), "digest": digest_of(run.heard)}
    weights = {} if run.taught_by is None else {"teachers": run.taught_by.digests}
    return _plain({"config": asdict(run.config), "labels": run.labels, "clips": clips, **weights})


def _check(output: Path, record: dict[str, Any]) -> None:
    """Refuses a folder that holds a run of something else."""
    if not (output / CONFIG).exists():
        if (output / checkpoint.WEIGHTS).exists():
            raise ConfigError(f"{output} holds a checkpoint that no training here made; choose another folder.")
        return
    before = checkpoint.read_json(output / CONFIG)
    settings = {**_plain(asdict(TrainConfig())), **before.get("config", {})}  # of one newer than the run, the default held
    if isinstance(settings["front_end"], dict):
        settings["front_end"] = {**_plain(asdict(FrontEndConfig())), **settings["front_end"]}
    if {**before, "config": settings} != record:
        changed = [key for key in record["config"] if settings.get(key) != record["config"][key]]
        others = "its clips or labels" if before.get("teachers") == record.get("teachers") else "its teachers' weights"
        what = ", ".join(changed) or others
        raise ConfigError(
            f"{output} holds a run with other settings ({what} changed). Choose another folder, or delete this one."
        )


def _plain(values: Any) -> Any:
    """`values` as JSON would give them back."""
    if isinstance(values, dict):
        return {str(key): _plain(value) for key, value in values.items()}
    return [_plain(value) for value in values] if isinstance(values, list | tuple) else values


def _loop(trainer: lightning.Trainer, trainee: Trainee, batches: list[DataLoader[Any]], output: Path) -> None:
    """Lightning's loop, from the last checkpoint in `output` if there is one."""
    last = output / LAST
    if last.exists():
        _read(last)  # a damaged one is refused here, where nothing else can be the cause
    try:
        resumed = last if last.exists() else None
        with write_errors(output), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* in eval mode at the start of training")  # frozen norms are, on purpose
            trainer.fit(trainee, batches[0], batches[1] if len(batches[1]) else None, ckpt_path=resumed, weights_only=True)
    except (SystemExit, RuntimeError) as error:  # Lightning's answer to Ctrl-C; torch's, to a worker that ended by it too
        if (stop := interrupts.find_interrupt(error)) is None:
            raise
        raise stop from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tensors.read_torch(path)
        tensors.state_dict(values)
        return dict(values)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Delete {path.parent} to start again.") from None


def _take_weights(trainee: Trainee, path: Path) -> None:
    """The weights of a saved epoch (their average, where one is kept), refused if training went out of range."""
    weights = _read(path)["state_dict"]
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise ConfigError("Training diverged: weights are infinite or NaN. Lower optimizer.learning_rate.")
    trainee.load_state_dict(weights)


def _epoch(
    trainee: Trainee, loader: DataLoader[Any], sampler: EpochSampler, device: torch.device, number: int
) -> Iterator[Any]:
    """The batches of a pass over the training clips outside of Lightning's loop, and the draws of that epoch for them."""
    trainee.seed_epoch(number)
    sampler.set_epoch(number)
    return (move_data_to_device(batch, device) for batch in loader)


def _measure_norms(trainee: Trainee, epoch: Callable[[int], Iterator[Any]], device: torch.device) -> None:
    """Precise BN over `precise_norms` batches, or over one epoch where that has fewer."""
    settings = trainee.settings
    if settings.precise_norms:
        trainee.to(device)
        # the epoch that a run ends with depends on where it was resumed, hence one that no run has
        trainee.measure_norms(islice(epoch(settings.epochs), settings.precise_norms))
        trainee.cpu()


def _fit_heads(run: Run, trainee: Trainee, epoch: Callable[[int], Iterator[Any]], device: torch.device) -> None:
    """Begins heads whose classes the start does not have with a fit (see `audiorep.training.heads`)."""
    kept = checkpoint.read_json(shipped.place(run.config.start) / checkpoint.CONFIG).get("labels", {})
    if new := checkpoint.new_heads(run.labels, kept):
        trainee.to(device)
        count = heads.fit_heads(trainee, new, lambda number: epoch(run.config.epochs + 1 + number))
        trainee.cpu()
        run.reports.say(f"The new head begins with a fit to {count} cuts, heard by the network as it is.")


def make_trainer(
    config: TrainConfig, output: Path, reports: Reports, validates: bool, has_norms: bool = True
) -> lightning.Trainer:
    """Lightning's trainer with this project's checkpoints, logs and average of weights."""
    callbacks: list[Callback] = [] if reports.on_epoch is None else [EpochValues(reports.on_epoch)]
    if config.ema_decay:
        callbacks.append(MovingAverage(config.ema_decay, has_norms))
    if not reports.progress:
        callbacks.append(EpochLines(reports.say))
    if validates and config.keep == "best":
        name, mode = ("valid_loss", "min") if config.multi_label else ("valid_accuracy", "max")
        callbacks.append(ModelCheckpoint(output, Path(BEST).stem, monitor=name, mode=mode, enable_version_counter=False))
    callbacks.append(ModelCheckpoint(output, Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False))
    logs = checkpoint.LOGS
    part = f"part_{len(list((output / logs).glob('part_*'))) + 1}"  # a logger empties the folder it is given
    return lightning.Trainer(
        max_epochs=config.epochs,
        precision=config.precision,
        gradient_clip_val=config.gradient_clip or None,
        callbacks=callbacks,
        logger=[CSVLogger(output, logs, version=part), TensorBoard(output, logs, version=part)],
        plugins=[AtomicCheckpoints()],
        devices=1,  # seeds, sampler and messages are written for one process
        enable_progress_bar=reports.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10_000,  # values are logged by the epoch
    )


def _info(run: Run) -> ModelInfo:
    config, taught_by = run.config, run.taught_by
    no_class = {"clips": len(run.outliers), "synthetic": config.unknown.synthetic}
    return ModelInfo(
        name=config.architecture,
        labels=run.labels,
        sample_rate=config.front_end_config.sample_rate,
        window_seconds=config.window_seconds,
        hop_seconds=config.hop_seconds or config.window_seconds,
        padding=config.padding,
        views=config.views,
        front_end=config.front_end_config.as_dict(),
        activation="sigmoid" if config.multi_label else "softmax",
        unknown=UNKNOWN if config.unknown.is_taught else "",
        silence=config.unknown.silence,
        license=config.license,
        provenance={
            "clips": count_splits(run.examples),
            "splits": asdict(config.splits),
            "seen": trained_clips.filter_of([example for example in run.heard if example.split == "train"]),
            "started_from": config.start,
            **({"of_no_class": no_class} if config.unknown.is_taught else {}),
            **({} if taught_by is None else {"teachers": [teacher.provenance() for teacher in taught_by.teachers]}),
            "attribution": config.attribution,
            "audiorep": __version__,
            "date": date.today().isoformat(),
        },
    )
