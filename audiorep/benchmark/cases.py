"""Which networks, forms, runtimes, precisions and batch sizes a benchmark runs, and each made ready."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from audiorep import models, shipped
from audiorep.benchmark import engines
from audiorep.benchmark.engines import ENGINES, Job, write
from audiorep.benchmark.measure import Candidate
from audiorep.config import refuse
from audiorep.errors import AudiorepError, ConfigError, first_line
from audiorep.export.sounds import calibration_clips, noises
from audiorep.info.model_info import ModelInfo
from audiorep.models import Cost, checkpoint
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import FRONT_ENDS, LogMel, forms
from audiorep.models.untrained import untrained
from audiorep.runtimes.onnx import LOG_MEL
from audiorep.runtimes.torch import Pipeline

FORMS = {
    "training": "as trained",
    "merged": "the authors' merged form: a convolution a mixing step; batch norms and inner additions stay",
    "fused": "merged by the engine, batch norms too",
}
INPUTS = ("spectrogram", "waveform")


@dataclass(frozen=True)
class Plan:
    """Everything to be measured: each network in each form, runtime, precision and batch size that it has."""

    networks: tuple[str, ...] = ("arin_base",)
    """Architectures (weights at random) or checkpoint folders."""
    forms: tuple[str, ...] = ("merged", "fused")
    runtimes: tuple[str, ...] = ("eager", "onnx")
    precisions: tuple[str, ...] = ("fp32",)
    batches: tuple[int, ...] = (1,)
    front_end: str = "vggsound"
    """The front end of architectures, a key of `FRONT_ENDS`; a checkpoint has its own."""
    seconds: float = 5.12
    """The window of architectures; a checkpoint has its own."""
    classes: int = 309
    """The number of classes of architectures; a checkpoint has its own."""
    input: str = "spectrogram"
    """What goes in: the log-mel, or the `waveform` with the front end inside."""

    def __post_init__(self) -> None:
        choices: dict[str, tuple[Sequence[str], Collection[str]]] = {
            "form": (self.forms, FORMS),
            "runtime": (self.runtimes, ENGINES),
            "precision": (self.precisions, ("fp32", "bf16", "int8")),
            "input": ((self.input,), INPUTS),
            "front end": ((self.front_end,), FRONT_ENDS),
        }
        unknown = [
            (False, f"{value!r} is no {kind}; there are {', '.join(known)}")
            for kind, (values, known) in choices.items()
            for value in values
            if value not in known
        ]
        checks = [
            *((batch >= 1, f"a batch of {batch} is too small") for batch in self.batches),
            (self.seconds >= 0.1, f"{self.seconds:g} s is too short a window"),
        ]
        refuse([*unknown, *checks])


@dataclass(frozen=True)
class Combination:
    """A network in one form, in one runtime and precision."""

    network: str
    form: str
    runtime: str
    precision: str

    @property
    def name(self) -> str:
        """Network, form, runtime and precision, as `--baseline` takes it."""
        return f"{self.network}:{self.form}:{self.runtime}:{self.precision}"


@dataclass(frozen=True)
class Case(Combination):
    """A combination that is ready, at one batch size."""

    batch: int
    cost: Cost
    path: Path
    """What the runtime loads."""
    input: np.ndarray
    """(batch, …)."""

    @property
    def file_bytes(self) -> int:
        """The size of its files together."""
        return sum(file.stat().st_size for file in self.path.parent.iterdir() if file.stem == self.path.stem)

    def candidate(self, threads: int, baseline: int) -> Candidate:
        """The case as it is timed."""
        load = partial(engines.load, self.runtime, self.path, self.precision, threads)
        return Candidate(self.name, self.path, load, self.input, baseline)


@dataclass(frozen=True)
class Missing(Combination):
    """A combination that is not measured, and why."""

    reason: str


def cases(
    plan: Plan, folder: Path, threads: int, sounds: Path | None = None, say: Callable[[str], None] = lambda text: None
) -> Iterator[Case | Missing]:
    """Each combination of `plan`, ready, or why it cannot be; their files lie in `folder`.

    Args:
        plan: what to measure.
        folder: an empty one that stays while the cases are used.
        threads: processor threads of each.
        sounds: folder of sounds to calibrate int8 on; without one, noise, which is good for speed alone.
        say: told what is being made ready.

    Raises:
        ConfigError, CheckpointError: a network that cannot be had.
    """
    for name in plan.networks:
        source = source_of(name, plan)
        inputs = _inputs(source, plan, _calibration(source, plan, sounds, say))
        made = {form: network for form in plan.forms if (network := _form(source, form, say)) is not None}
        costs = {form: models.cost(network, tuple(source.example().shape)) for form, network in made.items()}
        kinds = {runtime in engines.TORCH for runtime in plan.runtimes}
        timed = {(form, kind): _timed(source, network, plan, kind) for form, network in made.items() for kind in kinds}
        calibration = [values.numpy() for values in inputs]
        start = LOG_MEL if plan.input == "waveform" else None
        for form, runtime, precision in itertools.product(made, plan.runtimes, plan.precisions):
            what = Combination(Path(name).resolve().name, form, runtime, precision)
            say(f"Making ready: {', '.join(vars(what).values())}")
            where = folder / f"{len(list(folder.iterdir()))}"
            where.mkdir()
            network = timed[form, runtime in engines.TORCH]
            try:
                path = write(
                    runtime, Job(network, inputs[0], list(source.info.outputs), precision, threads, where, calibration, start)
                )
            except Exception as error:  # exporters raise nearly every kind, and the other cases are still of use
                kind = "" if isinstance(error, AudiorepError) else f"{type(error).__name__}: "
                yield Missing(**vars(what), reason=kind + first_line(error))
                continue
            for batch in plan.batches:
                values = np.concatenate([inputs[i % len(inputs)].numpy() for i in range(batch)])
                yield Case(**vars(what), batch=batch, cost=costs[form], path=path, input=values)


def made_up(architecture: str, front_end: str, seconds: float, classes: int) -> Checkpoint:
    """A checkpoint of random weights for windows of `seconds` and as many classes, with one of `FRONT_ENDS`.

    Raises:
        ConfigError: no such architecture.
    """
    if architecture not in models.ARCHITECTURES:
        raise ConfigError(
            f"{architecture!r} is neither a checkpoint folder nor an architecture; there are {', '.join(models.ARCHITECTURES)}."
        )
    settings = FRONT_ENDS[front_end]
    labels = {"label": [f"class {number}" for number in range(classes)]}
    return untrained(architecture, ModelInfo(architecture, labels, settings.sample_rate, seconds, seconds, settings.as_dict()))


def source_of(name: str, plan: Plan) -> Checkpoint:
    """The checkpoint of a plan's network, made up for an architecture.

    Raises:
        ConfigError, CheckpointError: it cannot be had.
    """
    if shipped.place(name).is_dir():
        return checkpoint.load(name)
    return made_up(name, plan.front_end, plan.seconds, plan.classes)


def _form(source: Checkpoint, form: str, say: Callable[[str], None]) -> nn.Module | None:
    if form == "training":
        return source.network
    if form == "merged":
        return models.merge_branches(source.network) if isinstance(source.network, models.Arin) else None
    say(f"Merging {source.architecture}")
    return source.fuse().model


def _timed(source: Checkpoint, network: nn.Module, plan: Plan, torch_runs: bool) -> nn.Module:
    """What is timed of a network: alone, or with the front end, which PyTorch runs as an FFT and others as matrix products.

    It is made once for all runtimes and precisions, which share its export.
    """
    if plan.input == "spectrogram":
        return network
    config = source.front_end.config
    front_end = LogMel(config, torch.float32) if torch_runs else source.front_end.exportable(forms(config)[0])
    return Pipeline(front_end, network, source.info).eval()


def _calibration(source: Checkpoint, plan: Plan, folder: Path | None, say: Callable[[str], None]) -> list[np.ndarray]:
    """Windows of the sounds in a folder, at the rate and of the length of a network, where int8 is asked for."""
    if folder is None or "int8" not in plan.precisions:
        return []
    return calibration_clips(folder, source.info, [str(folder)], say)


def _inputs(source: Checkpoint, plan: Plan, sounds: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """(1, …) each, of the sounds or of noises from soft to loud."""
    waveforms = [torch.from_numpy(sound)[None] for sound in (sounds or noises(source.info))]
    if plan.input == "waveform":
        return waveforms
    with torch.no_grad():
        return [source.front_end(waveform) for waveform in waveforms]
