"""The steps of a compression: each turns a checkpoint into a smaller checkpoint or file, with the data that it needs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiorep import config, models, reparam, runtimes
from audiorep.compress import int8, low_rank, qat
from audiorep.compress.prune import Importance, Scope, prune
from audiorep.compress.recalibrate import recalibrate
from audiorep.config import Config
from audiorep.datasets import Example, labels_of
from audiorep.errors import ConfigError, DataError
from audiorep.escape import markdown
from audiorep.export import writer
from audiorep.export.onnx import bundle, caller
from audiorep.export.sounds import CLIPS, noises, parity_clips
from audiorep.files import write_text
from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint
from audiorep.runtimes import timing
from audiorep.training import fit, loaders, recipe, workflow
from audiorep.training.recipe import TrainConfig

By = Literal["macs", "parameters", "latency"]
MEASURED = 256  # that importance by gradients and low rank by response are measured on
BATCH = 32
TIMES = 9  # that a network is timed in, of which the median counts


@dataclass(frozen=True)
class Work:
    """What a step is given."""

    model: Checkpoint
    folder: Path
    """The checkpoint's folder."""
    original: Path
    """The folder of the checkpoint that the chain began with."""
    examples: Sequence[Example]
    data: Path
    output: Path
    """Folder for the result."""
    say: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Prune(Config):
    """Fewer channels (see `compress.prune`)."""

    keep: float = 0.5
    """Share of the cost that is left."""
    by: By = "macs"
    """What the cost is: of the merged network; latency is that in ONNX Runtime here."""
    importance: Importance = "magnitude"
    scope: Scope = "global"
    multiple: int = 4

    def run(self, work: Work) -> Path:
        """The smaller checkpoint's folder."""
        example = work.model.example()
        gradients = _gradients(work) if self.importance == "taylor" else None
        made = prune(
            work.model.network,
            example,
            _cost(work.model, self.by),
            self.keep,
            self.importance,
            self.scope,
            self.multiple,
            gradients,
        )
        return _save(work, made, f"pruned to {self.keep:.0%} of {self.by} by {self.importance}")


@dataclass(frozen=True)
class LowRank(Config):
    """Pointwise layers as products of thinner ones (see `compress.low_rank`)."""

    keep: float = 0.0
    """Share of the cost that is left; 0: as many ranks as hold `energy`."""
    by: By = "parameters"
    energy: float = 0.99
    """Share of the energy of each layer's response that is kept; used where `keep` is 0."""
    response: bool = True
    """Weigh errors by what the layers are given on training clips."""

    def run(self, work: Work) -> Path:
        """The smaller checkpoint's folder."""
        network = work.model.network
        moments = (
            low_rank.input_moments(network, (spectrograms for spectrograms, _ in _batches(work))) if self.response else None
        )
        energy = self.energy
        if self.keep:
            made, energy = low_rank.low_rank_to(network, _cost(work.model, self.by), self.keep, moments)
        else:
            made = low_rank.low_rank(network, energy, moments)
        return _save(work, made, f"low rank with {energy:.3%} of the energy")


@dataclass(frozen=True)
class Tune(Config):
    """Training goes on, from the checkpoint as it is."""

    epochs: int = 10
    learning_rate: float = 1e-3
    teacher: bool = False
    """The model that the chain began with teaches the smaller one (see `recipe.DistilConfig`)."""
    set: dict[str, Any] = field(default_factory=dict)
    """Other fields of the training's settings, dotted, for example `"augment.mixup" = 0.5`."""

    def run(self, work: Work) -> Path:
        """The trained checkpoint's folder."""
        settings = self.settings(work)
        workflow.train(settings, work.examples, work.data, work.output, say=work.say, classes=work.model.info.labels)
        return work.output

    def settings(self, work: Work) -> TrainConfig:
        """Those of the run that the chain began with, where it says them, with these changes.

        Raises:
            ConfigError: that checkpoint does not say them, and `set` does not make up for it.
        """
        run = work.original / fit.CONFIG
        values = checkpoint.read_json(run)["config"] if run.exists() else {}
        model = work.model
        network = {key: value for key, value in dataclasses.asdict(model.network.config).items() if key != "heads"}  # type: ignore[call-overload]
        fixed = {
            "architecture": model.architecture,
            "network": network,
            "layers": model.layers,
            "front_end": model.info.front_end,
            "window_seconds": model.info.window_seconds,
            "hop_seconds": model.info.hop_seconds,
            "start": str(work.folder),
            "epochs": self.epochs,
            "freeze_norms": False,
        }
        values = {**values, **fixed}
        values["optimizer"] = {**values.get("optimizer", {}), "learning_rate": self.learning_rate}
        values["schedule"] = {"name": "cosine", "warmup_epochs": min(1.0, self.epochs / 10)}
        values["distil"] = {"teachers": [str(work.original)]} if self.teacher else {}
        for key, value in self.set.items():
            values = config.merged(values, _nested(key, value))
        return recipe.configure(values, where="tune")


@dataclass(frozen=True)
class Export(Config):
    """A file that runs elsewhere (see `runtimes`); the chain goes on from the checkpoint before it."""

    to: str = "onnx"
    precision: str = "fp32"

    def __post_init__(self) -> None:
        row = runtimes.RUNTIMES.get(self.to)
        if row is None or not row.writes:
            written = [name for name, row in runtimes.RUNTIMES.items() if row.writes]
            raise ConfigError(f"export: to is {self.to!r}; there are {', '.join(written)}")
        if self.precision not in row.exports:
            raise ConfigError(
                f"export: {self.to} files are written in {', '.join(row.exports)}; {self.precision} was asked for"
            )

    def run(self, work: Work) -> Path:
        """The file."""
        clips, _ = parity_clips(work.folder, work.model.info, None)
        more: dict[str, Any] = {} if self.precision == "fp32" else {"precision": self.precision}
        if self.precision == "int8":
            more["calibration"] = int8.sounds_of(work.examples, work.model.info, work.say).calibration
        path = work.output / f"model{runtimes.RUNTIMES[self.to].writes}"
        writer(self.to)(work.model, path, clips, **more)
        return path


@dataclass(frozen=True)
class Quantize(Config):
    """A static int8 bundle chosen by its accuracy (see `compress.int8`); the chain goes on from the checkpoint before it."""

    loss: float = 0.01
    """Share of clips that may be lost on those it is chosen by."""
    keep_float: tuple[str, ...] = ()
    """Layers left in float32."""
    sensitivity: bool = False
    """Write what each layer costs."""

    def run(self, work: Work) -> Path:
        """The file."""
        sounds = int8.sounds_of(work.examples, work.model.info, work.say)
        path, table = work.output / "model.onnx", work.output / "sensitivity.csv"
        int8.write(work.model, sounds, path, self.loss, self.keep_float, table if self.sensitivity else None, work.say)
        return path


@dataclass(frozen=True)
class Qat(Tune):
    """A static int8 bundle of the merged network after training under int8's rounding (see `qat`)."""

    epochs: int = 3
    learning_rate: float = 1e-4
    loss: float = 0.01
    """Share of clips that may be lost on those it is chosen by, against the trained network in float32."""

    def run(self, work: Work) -> Path:
        """The file."""
        sounds = int8.sounds_of(work.examples, work.model.info, work.say)
        network = qat.fit(work.model, self.settings(work), work.examples, work.output, work.say)
        path = work.output / "model.onnx"
        int8.write(work.model, sounds, path, self.loss, say=work.say, network=network)
        return path


@dataclass(frozen=True)
class Fuse(Config):
    """The merge that every export makes, with its proof and report written down beside a copy of the checkpoint."""

    def run(self, work: Work) -> Path:
        """The folder of the same checkpoint, in training form still: an export merges it."""
        write_text(work.output / "merges.txt", f"{work.model.fuse()}\n")
        for name in (checkpoint.WEIGHTS, checkpoint.CONFIG, checkpoint.CARD, fit.CONFIG):
            if (work.folder / name).exists():
                shutil.copyfile(work.folder / name, work.output / name)
        workflow.write_clips(work.examples, work.output / CLIPS)
        return work.output


Step = Prune | LowRank | Tune | Qat | Fuse | Export | Quantize
STEPS: dict[str, type[Step]] = {
    "prune": Prune,
    "low_rank": LowRank,
    "tune": Tune,
    "qat": Qat,
    "fuse": Fuse,
    "export": Export,
    "quantize": Quantize,
}
"""The steps by the name that a recipe calls them (`do`)."""


def perform(step: Step, work: Work) -> Path:
    """What a step makes, calibrated anew where its model is calibrated and the step changes scores."""
    made = step.run(work)
    if not (isinstance(step, Fuse) or (isinstance(step, Export) and step.precision == "fp32")):
        recalibrate(made, work.model.info, work.examples, work.say)
    return made


def parse(values: dict[str, Any], where: str) -> tuple[str, Step]:
    """A step's name and settings.

    Raises:
        ConfigError: no such step, or settings that it does not have.
    """
    rest = dict(values)
    name = rest.pop("do", None)
    if name not in STEPS:
        raise ConfigError(f"{where}: do is {name!r}; there are {', '.join(STEPS)}")
    return name, config.load(STEPS[name], rest, f"{where} ({name})")


def _save(work: Work, network: nn.Module, what: str) -> Path:
    before = work.model.info
    dropped = {key: value for key, value in before.provenance.items() if key != "measured"}
    history = [*before.provenance.get("compressed", []), what]
    info = replace(before, provenance={**dropped, "compressed": history})
    checkpoint.save(work.output, network, info, work.model.architecture)
    workflow.write_clips(work.examples, work.output / CLIPS)
    write_text(
        work.output / checkpoint.CARD,
        f"# {markdown(info.name)}, compressed\n\n{markdown('; '.join(history))}. Made from a checkpoint by audiorep; its "
        f"accuracy stands in the report of its compression.\n\n- License of the weights: {markdown(info.license)}\n",
    )
    return work.output


def _cost(model: Checkpoint, by: By) -> Callable[[nn.Module], float]:
    shape = tuple(model.example().shape)
    if by == "latency":
        return lambda network: _latency(model, network)
    return lambda network: float(getattr(models.cost(network, shape), by))


def _latency(model: Checkpoint, network: nn.Module) -> float:
    """Seconds of a window in ONNX Runtime on this machine, of `network` merged, with the front end of `model`."""
    call = caller(bundle(model, reparam.fuse(network, model.example()).model))
    [times] = timing.in_turns([timing.turn(partial(call, noises(model.info)[0][None]))], TIMES)
    return timing.median(times)


def _gradients(work: Work) -> Callable[[nn.Module], None]:
    """Fills in the gradients of the training loss on some training clips."""
    batches = list(_batches(work))
    multi_label = work.model.info.activation == "sigmoid"
    criterion = functional.binary_cross_entropy_with_logits if multi_label else functional.cross_entropy

    def fill(network: nn.Module) -> None:
        network.zero_grad()
        with torch.enable_grad():
            for spectrograms, targets in batches:
                logits = network(spectrograms)
                losses = [criterion(logits[head], wanted) for head, wanted in targets.items()]
                torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]

    return fill


def _batches(work: Work) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """(B, 1, T, F) and {head: targets (B, K)} of training clips spread over all, without augmentation.

    Raises:
        DataError: there are none.
    """
    model = work.model
    chosen = [example for example in work.examples if example.split == "train"]
    if not chosen:
        raise DataError("This step needs training clips, and the data has none.")
    settings = recipe.configure(
        {
            "architecture": model.architecture,
            "front_end": model.info.front_end,
            "window_seconds": model.info.window_seconds,
            "padding": model.info.padding,
            "multi_label": model.info.activation == "sigmoid",
        },
        "step",
    )
    every = max(1, len(chosen) // MEASURED)
    picked = [replace(example, split="valid") for example in chosen[::every][:MEASURED]]
    clips = loaders.clips_of(settings, picked, model.info.labels or labels_of(chosen), "valid")
    for first in range(0, len(clips), BATCH):
        waveforms, targets, _ = clips.__getitems__(list(range(first, min(first + BATCH, len(clips)))))
        with torch.no_grad():
            yield model.front_end(waveforms), targets


def _nested(key: str, value: Any) -> dict[str, Any]:
    *sections, last = key.split(".")
    nested: dict[str, Any] = {last: value}
    for section in reversed(sections):
        nested = {section: nested}
    return nested
