"""A chain of compressions from a recipe: every step proved, timed and written down, and the last good model kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from audiorep import config, runtimes
from audiorep.benchmark.deployed import Deployed, timed
from audiorep.benchmark.environment import environment
from audiorep.compress import report
from audiorep.compress.report import Chain, Row
from audiorep.compress.steps import Export, Step, Tune, Work, parse, perform
from audiorep.config import Config
from audiorep.datasets import Example, digest_of
from audiorep.errors import AudiorepError, CheckpointError, ConfigError, DataError
from audiorep.evaluation.compare import Accuracy, accuracy_refusal, compare, measure_accuracy
from audiorep.evaluation.scored import describe_split
from audiorep.files import refuse_inputs, write_json
from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint

ROW = "row.json"
NAME = re.compile(r"[A-Za-z0-9_-]+")  # of a step: it becomes that of a folder


@dataclass(frozen=True)
class ChainConfig(Config):
    """A recipe of `audiorep compress`."""

    steps: tuple[dict[str, Any], ...] = ()
    """Each with `do`, a key of `steps.STEPS`, and that step's settings; `name` and `limit` are the chain's."""
    limit: float = 0.02
    """Largest loss of accuracy against the original; a step that loses more ends the chain. The limit is not applied to `prune`
    or `low_rank` when the next step is `tune`."""
    runtimes: tuple[str, ...] = ("onnx",)
    """Runtimes that checkpoints are exported to and timed in. A file is timed in its own runtime."""
    rounds: int = 20
    """Rounds of timing, in which all models take turns."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.runtimes if name not in runtimes.RUNTIMES or not runtimes.RUNTIMES[name].writes]
        checks = [
            (bool(self.steps), "steps are missing; write [[steps]] tables"),
            (0 <= self.limit <= 1, f"limit is {self.limit}; 0 to 1 is allowed"),
            (self.rounds >= 1, f"rounds is {self.rounds}; at least 1 is needed"),
            (bool(self.runtimes) and not unknown, f"runtimes {', '.join(unknown) or 'are missing'}; such as onnx are allowed"),
        ]
        config.refuse(checks)
        for place, values in enumerate(self.steps, 1):
            parse(_own(values), f"step {place}")
            limit, name = values.get("limit", self.limit), values.get("name", "step")
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= 1:
                raise ConfigError(f"step {place}: limit is {limit!r}; 0 to 1 is allowed")
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise ConfigError(f"step {place}: name is {name!r}; letters, digits, _ and - are allowed")


def run(
    source: Path,
    settings: ChainConfig,
    examples: Sequence[Example],
    data: Path,
    output: Path,
    threads: int,
    say: Callable[[str], None] = lambda text: None,
) -> Chain:
    """Runs the recipe on the checkpoint in `source`, or goes on where it stopped, and writes everything into `output`.

    Each step has a folder there; `report.json`, `report.md` and `report.png` compare them on the test clips.

    Raises:
        ConfigError: `output` holds another chain, is or holds `source`, or a step's target cannot be reached.
        DataError: there are no test clips, or a step's clips are missing.
        AudiorepError: as the steps.
    """
    refuse_inputs(output, source)
    if source.resolve().is_relative_to(output.resolve()):
        raise ConfigError(f"{output} holds the checkpoint itself, which is never overwritten; name another folder.")
    test = [example for example in examples if example.split == "test"]
    if not test:
        raise DataError("Compression is judged on test clips, and the data has none for this model.")
    split = describe_split(data, "test", test)
    rows = _Runner(source, settings, examples, data, output, test, split, say).rows()
    rows = _timed(rows, output, settings.rounds, threads, say)
    chain = Chain(rows, split, rows[0].clips, environment(threads))
    report.write(chain, output)
    return chain


@dataclass
class _Runner:
    """The steps one after another, each kept in a folder with its row and what it was made by."""

    source: Path
    settings: ChainConfig
    examples: Sequence[Example]
    data: Path
    output: Path
    test: list[Example]
    split: str
    say: Callable[[str], None]
    original: Accuracy | None = None
    loaded: tuple[bytes, Checkpoint] | None = None
    """The last checkpoint that was read, by its content: the steps after it share what it computes once."""

    def rows(self) -> list[Row]:
        current = self.source
        digest = _digest(current, self.examples, self.settings.runtimes)
        rows = [self._finished("00_original", current, None, lambda folder: self.source, digest)]
        for place, values in enumerate(self.settings.steps, 1):
            kind, step = parse(_own(values), f"step {place}")
            settings = {key: value for key, value in values.items() if key != "limit"}
            digest = hashlib.sha256(f"{digest}{json.dumps(settings, sort_keys=True)}".encode()).hexdigest()
            name = f"{place:02d}_{values.get('name', kind)}"
            row = self._finished(name, current, self._allowed(place), partial(self._do, step, current), digest)
            rows.append(row)
            if row.refused:
                self.say(f"{name} is refused: {row.refused}. The last good model is {rows[-2].path}.")
                break
            if (self.output / row.path).is_dir():
                current = self.output / row.path
        return rows

    def _allowed(self, place: int) -> float | None:
        """The limit of a step: its own, the recipe's, or none where the next step mends what it does."""
        values = self.settings.steps[place - 1]
        if "limit" in values:
            return float(values["limit"])
        after = self.settings.steps[place]["do"] if place < len(self.settings.steps) else ""
        return None if after == "tune" and values["do"] in ("prune", "low_rank") else self.settings.limit

    def _finished(self, name: str, current: Path, limit: float | None, make: Callable[[Path], Path], digest: str) -> Row:
        """The row of a step: kept, or made now."""
        folder = self.output / name
        kept = folder / ROW
        if kept.exists():
            values = checkpoint.read_json(kept)
            if values.pop("digest", None) != digest:
                raise ConfigError(f"{self.output} holds another chain of compressions ({name} differs). Choose another folder.")
            self.say(f"{name}: done before")
            row = Row(**values)
            return dataclasses.replace(row, refused=_refusal(row.change, limit))
        self.say(f"{name}: begins")
        start = time.perf_counter()
        row = self._measured(name, make(folder), current, limit, folder, start)
        write_json(kept, {**asdict(row), "digest": digest})
        self.say(f"{name}: {row.accuracy:.1%}, {row.file_bytes / 1e3:.0f} kB, {row.agreement:.1%} same labels")
        return row

    def _do(self, step: Step, current: Path, folder: Path) -> Path:
        if not isinstance(step, Tune):  # a training goes on where it stopped; others begin again
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        work = Work(self._load(current), current, self.source, self.examples, self.data, folder, self.say)
        return perform(step, work)

    def _measured(self, name: str, made: Path, current: Path, limit: float | None, folder: Path, start: float) -> Row:
        is_file = not made.is_dir() or made.suffix == ".mlpackage"
        model = self._load(current if is_file else made)
        files = {_runtime_of(made): made} if is_file else _exported(model, made, folder, self.settings.runtimes, self.say)
        if not files:
            raise CheckpointError(f"{name} could be exported to none of {', '.join(self.settings.runtimes)}.")
        first = next(iter(files.values()))
        judged = measure_accuracy(first, self.test, self.split, name)
        if name.startswith("00_"):
            for failure in judged.scored.failures:
                self.say(f"Left out: {failure.error}")
        self.original = self.original or (judged if name.startswith("00_") else self._measure_original())
        difference = compare(self.original, judged)
        cost = model.merged_cost()
        return Row(
            name=name,
            path=str(made.relative_to(self.output)) if made.is_relative_to(self.output) else name,
            files={runtime: str(path.relative_to(self.output)) for runtime, path in files.items()},
            parameters=cost.parameters,
            macs=cost.macs,
            file_bytes=sum(file.stat().st_size for file in runtimes.files_of(first)),
            metric=judged.metric,
            clips=judged.clips,
            accuracy=judged.accuracy,
            low=judged.low,
            high=judged.high,
            change=difference.change,
            change_low=difference.low,
            change_high=difference.high,
            agreement=difference.agreement,
            seconds=time.perf_counter() - start,
            refused=_refusal(difference.change, limit),
        )

    def _load(self, folder: Path) -> Checkpoint:
        content = hashlib.sha256()
        for name in (checkpoint.CONFIG, checkpoint.WEIGHTS):
            content.update((folder / name).read_bytes())
        if self.loaded is None or self.loaded[0] != content.digest():
            self.loaded = content.digest(), checkpoint.load(folder)
        return self.loaded[1]

    def _measure_original(self) -> Accuracy:
        values = checkpoint.read_json(self.output / "00_original" / ROW)
        return measure_accuracy(self.output / next(iter(values["files"].values())), self.test, self.split, "00_original")


def load_recipe(path: Path) -> ChainConfig:
    """The recipe in a TOML file.

    Raises:
        ConfigError: it is missing, or a setting is refused.
    """
    return config.load(ChainConfig, config.read_toml(path), str(path))


def _own(values: dict[str, Any]) -> dict[str, Any]:
    """A step's settings without those that are the chain's."""
    return {key: value for key, value in values.items() if key not in ("name", "limit")}


def _digest(source: Path, examples: Sequence[Example], names: Sequence[str]) -> str:
    """A digest of what decides a chain besides its steps: the checkpoint, the clips, and the runtimes that it is tested in."""
    digest = hashlib.sha256(repr((digest_of(examples), tuple(names))).encode())
    for name in (checkpoint.WEIGHTS, checkpoint.CONFIG):
        digest.update((source / name).read_bytes())
    return digest.hexdigest()


def _refusal(change: float, limit: float | None) -> str:
    """Why a model whose accuracy changed so much is not kept, or empty."""
    return "" if limit is None else accuracy_refusal(change, limit) or ""


def _runtime_of(path: Path) -> str:
    return next(name for name, row in runtimes.RUNTIMES.items() if row.writes == path.suffix)


def _exported(
    model: checkpoint.Checkpoint, made: Path, folder: Path, names: Sequence[str], say: Callable[[str], None]
) -> dict[str, Path]:
    """The checkpoint as a float32 file for each runtime that is there."""
    files = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        try:
            step = Export(name)
            files[name] = step.run(Work(model, made, made, (), made, folder))
        except AudiorepError as error:
            say(f"Not exported to {name}: {error}")
    return files


def _timed(rows: list[Row], output: Path, rounds: int, threads: int, say: Callable[[str], None]) -> list[Row]:
    """The rows with the times of their files, all measured in turns."""
    owners = [(row.name, runtime, output / file) for row in rows for runtime, file in row.files.items()]
    first = {runtime: place for place, (_, runtime, _) in reversed(list(enumerate(owners)))}
    say(f"Timing {len(owners)} files in {rounds} rounds")
    found = timed([Deployed(path, runtime, first[runtime]) for _, runtime, path in owners], rounds, threads)
    measured: dict[str, dict[str, dict[str, float]]] = {row.name: {} for row in rows}
    for (name, runtime, _), timing in zip(owners, found, strict=True):
        if isinstance(timing, str):
            say(f"{name} could not be timed in {runtime}: {timing}")
        else:
            told = ("median_ms", "p90_ms", "peak_memory_mb", "ratio")
            measured[name][runtime] = {key: float(f"{getattr(timing, key):.4g}") for key in told}
    return [dataclasses.replace(row, timings=measured[row.name]) for row in rows]
