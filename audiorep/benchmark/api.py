"""`audiorep.bench` and `audiorep.compare`: networks and models timed, and two models on the same clips."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiorep import datasets, runtimes, shipped
from audiorep.datasets.location import Place, located
from audiorep.errors import ConfigError, require
from audiorep.predict.classifier import Classifier

if TYPE_CHECKING:
    from audiorep.benchmark.table import Bench
    from audiorep.evaluation.compare import Accuracy, Difference


def bench(
    networks: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "arin_base",
    *,
    rounds: int = 20,
    threads: int | None = None,
    say: Callable[[str], None] = lambda text: None,
    on_turn: Callable[[float], None] = lambda amount: None,
    **settings: Any,
) -> Bench:
    """Parameters, arithmetic, memory and speed of networks, all of them taking turns.

    Args:
        networks: names of architectures (with random weights) and checkpoint folders.
        rounds: turns that each takes.
        threads: processor threads of each; all, if not given.
        say: is told what is under way.
        on_turn: is called after each turn.
        **settings: `baseline`, `sounds` to calibrate int8 on, and fields of `audiorep.benchmark.cases.Plan`: forms, runtimes,
            precisions, batches, front_end, seconds, classes and input.

    Raises:
        ConfigError, CheckpointError: nothing can be measured, or no case has the baseline's name.

    >>> result = audiorep.bench([checkpoint], rounds=2, forms=("fused",), runtimes=("onnx",), batches=(1, 8))
    >>> [(row.network, row.runtime, row.batch) for row in result.rows]
    [('trained', 'onnx', 1), ('trained', 'onnx', 8)]
    """
    require("torch", extra="train")
    from audiorep.benchmark import table
    from audiorep.benchmark.cases import Plan

    if rounds < 2:
        raise ConfigError(f"rounds is {rounds}; at least 2 are needed.")
    given = [networks] if isinstance(networks, str | os.PathLike) else networks
    fields = {key: value for key, value in settings.items() if key not in ("baseline", "sounds")}
    if unknown := sorted(fields.keys() - Plan.__dataclass_fields__.keys()):
        raise ConfigError(f"{', '.join(unknown)}: no setting of a benchmark; there are {', '.join(Plan.__dataclass_fields__)}.")
    plan = replace(Plan(tuple(map(str, given))), **fields)
    sounds = settings.get("sounds")
    return table.run(
        plan,
        rounds=rounds,
        threads=threads or runtimes.cores() or 1,
        baseline=settings.get("baseline"),
        sounds=None if sounds is None else Path(sounds),
        say=say,
        advance=on_turn,
    )


@dataclass(frozen=True)
class ModelCost:
    """The size of a model's files, and the time of a window in its runtime."""

    name: str
    bytes: int
    runtime: str
    median_ms: float = 0.0
    p90_ms: float = 0.0
    peak_memory_mb: float = 0.0
    speed: float = 0.0
    """Over the first model's, both taking turns."""
    not_timed: str = ""
    """Why there are no times, or empty."""

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        times = ("median_ms", "p90_ms", "peak_memory_mb", "speed")
        left_out = times if self.not_timed else ("not_timed",)
        return {key: value for key, value in vars(self).items() if key not in left_out}


@dataclass(frozen=True)
class Comparison:
    """Two models on the same labelled clips."""

    split: str
    """The clips, in words."""
    first: Accuracy
    second: Accuracy
    difference: Difference
    costs: list[ModelCost]
    """Of both, or empty where no times were asked for."""
    refusal: str | None
    """Why the second does not pass for the first, or None."""

    def accuracy(self) -> dict[str, Any]:
        """Plain values for JSON, without sizes and times."""
        return {
            "split": self.split,
            "first": self.first.summary(),
            "second": self.second.summary(),
            "difference": self.difference.summary(),
        }

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.accuracy(),
            "costs": [cost.summary() for cost in self.costs],
            "passes": self.refusal is None,
        }


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    data: Place,
    split: str = "test",
    *,
    loss: float = 0.01,
    agreement: float = 0.0,
    rounds: int = 10,
    say: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[float], None] | None = None,
) -> Comparison:
    """Accuracy, size and speed of two models on the same labelled clips.

    Args:
        first: the original, a checkpoint folder or an exported file.
        second: another one, which should do as well.
        data: as for `audiorep.evaluate`; clips are divided as they were for the first model's training.
        split: `train`, `valid`, `test` or `all`.
        loss: accuracy that the second may lose, as a share: 0.01 is a point.
        agreement: share of clips on which both must give the same label.
        rounds: turns of timing; 0 times nothing.
        say: is told what should be known of how the data was read.
        on_progress: is told the seconds of sound just heard.

    Raises:
        ConfigError: the models have other classes, or a share is none.
        DataError: as `audiorep.evaluate`.
        BundleError, CheckpointError, MissingExtraError: a model cannot be run here.

    >>> result = audiorep.compare(checkpoint, model, clips, rounds=0)
    >>> result.refusal is None, result.difference.agreement
    (True, 1.0)
    """
    require("torchmetrics", extra="train")
    from audiorep.evaluation.scored import describe_split

    for name, share in (("loss", loss), ("agreement", agreement)):
        if not 0 <= share <= 1:
            raise ConfigError(f"{name} is {share}; 0 to 1 is allowed.")
    paths, place = (shipped.file_of(first), shipped.file_of(second)), located(data)
    models = [Classifier.load(path) for path in paths]
    examples = place.in_split(split, models[0].info.provenance, say)
    words, named = describe_split(place.root, split, examples), list(zip(map(str, paths), models, strict=True))
    both = compare_on(named, examples, words, on_progress, allow_trained=split == "train")
    refusal = both.difference.refusal(loss, agreement)
    return replace(both, costs=costs(paths, rounds) if rounds else [], refusal=refusal)


def compare_on(
    models: Sequence[tuple[str, Classifier]],
    examples: Sequence[datasets.Example],
    split: str,
    on_progress: Callable[[float], None] | None = None,
    allow_trained: bool = False,
) -> Comparison:
    """Two models, by their names, on the same clips, which `split` tells in words; without costs and a refusal.

    Raises:
        ConfigError, DataError: as `evaluation.compare.compare` and `measure_accuracy`.
    """
    from audiorep.evaluation.compare import compare as differ
    from audiorep.evaluation.compare import measure_accuracy

    one, other = (measure_accuracy(model, examples, split, name, on_progress, allow_trained) for name, model in models)
    return Comparison(split, one, other, differ(one, other), [], None)


def costs(models: Sequence[Path], rounds: int) -> list[ModelCost]:
    """Each model's bytes, and the times of a window in its own runtime, all taking turns; speed is over the first's."""
    from audiorep.benchmark.deployed import Deployed, timed

    engines = [runtimes.able_to_open(path)[0] for path in models]
    deployed = [Deployed(path, engine, 0) for path, engine in zip(models, engines, strict=True)]
    found = timed(deployed, rounds, runtimes.cores() or 1)
    made = []
    for path, engine, timing in zip(models, engines, found, strict=True):
        cost = ModelCost(str(path), _bytes(path), engine)
        if isinstance(timing, str):
            made.append(replace(cost, not_timed=timing))
            continue
        times = {key: getattr(timing, key) for key in ("median_ms", "p90_ms", "peak_memory_mb")}
        made.append(replace(cost, **times, speed=timing.ratio))
    return made


def _bytes(path: Path) -> int:
    """The size of a model's weights: of a checkpoint its weights' file, else of all files."""
    from audiorep.models import checkpoint

    files = [path / checkpoint.WEIGHTS] if path.is_dir() and path.suffix != ".mlpackage" else runtimes.files_of(path)
    return sum(file.stat().st_size for file in files)
