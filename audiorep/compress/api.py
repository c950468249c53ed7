"""`audiorep.quantize`, `prune`, `low_rank` and `compress`: smaller models, judged on labelled clips."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiorep import shipped
from audiorep.datasets.location import Data, Place, located
from audiorep.errors import ConfigError, require
from audiorep.files import refuse_inputs, reserve
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import checked, cores

if TYPE_CHECKING:
    from audiorep.benchmark.api import Comparison
    from audiorep.compress.report import Chain
    from audiorep.datasets import Example
    from audiorep.export.precision import Setting
    from audiorep.models.checkpoint import Checkpoint

UNTUNED = "untuned"  # folder of a checkpoint before it is trained on, in the result's
_Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Quantized:
    """An int8 model file, and what it costs in accuracy."""

    path: Path
    chosen_on: str
    """Which clips it was chosen by, in words."""
    speed: float
    """Float32's time of a window over int8's, in the same runtime on this machine."""
    setting: Setting | None
    """How it was made int8; None for OpenVINO's, which keeps its own account."""
    comparison: Comparison | None
    """Of the checkpoint and it on the test clips; None where there are none."""


@dataclass(frozen=True)
class Smaller:
    """A checkpoint with fewer parameters, and what that costs in accuracy."""

    path: Path
    parameters: tuple[int, int]
    """Of the merged network, before and after."""
    macs: tuple[int, int]
    """Multiply-accumulates of a window, before and after."""
    comparison: Comparison | None
    """Of both on the test clips; None where there are none."""


def quantize(
    model: _Path,
    data: Place,
    output: _Path,
    *,
    loss: float = 0.01,
    keep_float: Sequence[str] = (),
    sensitivity: _Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Quantized:
    """Writes a static int8 model, calibrated on training clips, chosen on validation clips and tested on test clips.

    Args:
        model: the checkpoint folder.
        data: the clips it was trained on (see `audiorep.evaluate`).
        output: the file: `.onnx`, or `.xml` for OpenVINO.
        loss: share of clips that int8 may lose on the clips it is chosen by.
        keep_float: names of layers to leave in float32.
        sensitivity: a CSV file for what each layer costs; `.onnx` only.
        say: is told what is under way.

    Raises:
        ConfigError: int8 loses more than allowed, an unknown layer, or a place that cannot be written to.
        DataError: clips to calibrate on or to choose by are missing.

    >>> made = audiorep.quantize(checkpoint, clips, "int8.onnx", loss=0.5)
    >>> audiorep.load(made.path).info.provenance["precision"]
    'int8'
    """
    require("torch", extra="train")
    from audiorep.compress import int8
    from audiorep.compress.recalibrate import recalibrate
    from audiorep.models import checkpoint

    source, path, table = shipped.place(model), Path(output), None if sensitivity is None else Path(sensitivity)
    _check_int8_outputs(source, path, table)
    if not 0 <= loss <= 1:
        raise ConfigError(f"loss is {loss}; 0 to 1 is allowed.")
    loaded, place = checkpoint.load(source), located(data)
    examples = place.examples(place.splits(loaded.info.provenance), say)
    sounds = int8.sounds_of(examples, loaded.info, say)
    if path.suffix == ".xml":
        speed, setting = int8.write_openvino(loaded, sounds, path, loss, keep_float), None
    else:
        made = int8.write(loaded, sounds, path, loss, keep_float, table, say)
        speed, setting = made.speed, made.setting
    recalibrate(path, loaded.info, examples, say)
    compared = _compared((source, _classifier(loaded, source)), (path, Classifier.load(path)), place, examples)
    return Quantized(path, sounds.origin, speed, setting, compared)


def _check_int8_outputs(source: Path, path: Path, table: Path | None) -> None:
    if path.suffix not in (".onnx", ".xml"):
        raise ConfigError(f"{path}: int8 models chosen by accuracy are written as .onnx or .xml; others with audiorep export.")
    if path.suffix == ".xml" and table is not None:
        raise ConfigError("What each layer costs is measured for .onnx; NNCF, which makes .xml, keeps its own account.")
    reserve(path)
    if table is not None:
        reserve(table, source, path)


def prune(
    model: _Path,
    data: Place,
    output: _Path,
    *,
    tune: int = 0,
    say: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Smaller:
    """Writes a checkpoint with fewer channels, and trains it on if asked for.

    Args:
        model: the checkpoint folder.
        data: the clips it was trained on (see `audiorep.evaluate`).
        output: a new folder.
        tune: epochs of training afterwards.
        say: is told what is under way.
        **settings: fields of `audiorep.compress.steps.Prune`: keep, by, importance, scope, multiple.

    Raises:
        ConfigError: a setting that is refused, or a folder that is not empty.
        DataError: clips that the step needs are missing.

    >>> made = audiorep.prune(checkpoint, clips, "pruned", keep=0.7, by="parameters")
    >>> made.parameters[1] < made.parameters[0]
    True
    """
    return _step({"do": "prune", **settings}, shipped.place(model), located(data), Path(output), tune, say)


def low_rank(
    model: _Path,
    data: Place,
    output: _Path,
    *,
    tune: int = 0,
    say: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Smaller:
    """Writes a checkpoint whose pointwise layers are products of thinner ones, and trains it on if asked for.

    Args:
        model: the checkpoint folder.
        data: the clips it was trained on (see `audiorep.evaluate`).
        output: a new folder.
        tune: epochs of training afterwards.
        say: is told what is under way.
        **settings: fields of `audiorep.compress.steps.LowRank`: keep, by, energy, response.

    Raises:
        ConfigError, DataError: as `prune`.

    >>> made = audiorep.low_rank(checkpoint, clips, "thinner", energy=0.9)
    >>> made.parameters[1] <= made.parameters[0]
    True
    """
    return _step({"do": "low_rank", **settings}, shipped.place(model), located(data), Path(output), tune, say)


def compress(
    model: _Path,
    data: Place,
    recipe: _Path,
    output: _Path,
    *,
    threads: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Chain:
    """Runs a chain of compressions, or goes on where it stopped, and writes models and a report into a folder.

    Args:
        model: the checkpoint folder.
        data: the clips it was trained on (see `audiorep.evaluate`).
        recipe: a TOML file of the steps.
        output: the folder.
        threads: processor threads of timing; all, if not given.
        say: is told what is under way.

    Raises:
        ConfigError: a recipe that is refused, or a folder that holds another chain.
        DataError: there are no test clips, or a step's clips are missing.

    >>> done = audiorep.compress(checkpoint, clips, "chain.toml", "chain")
    >>> [row.name for row in done.rows]
    ['00_original', '01_export']
    """
    require("lightning", extra="train")
    from audiorep.compress import chain
    from audiorep.models import checkpoint
    from audiorep.training.fit import quieten

    source, place, settings = shipped.place(model), located(data), chain.load_recipe(Path(recipe))
    examples = place.examples(place.splits(checkpoint.load(source).info.provenance), say)
    quieten()
    return chain.run(source, settings, examples, place.root, Path(output), threads or cores() or 1, say)


def _step(values: dict[str, Any], source: Path, place: Data, output: Path, tune: int, say: Callable[[str], None]) -> Smaller:
    """Runs a step, and a training after it where `tune` says for how many epochs."""
    require("lightning", extra="train")
    from audiorep.compress import steps
    from audiorep.models import checkpoint
    from audiorep.training.fit import quieten

    model = checkpoint.load(source)
    _, step = steps.parse(values, "settings")
    small = output / UNTUNED if tune else output
    _check_folder(source, output, small)
    examples = place.examples(place.splits(model.info.provenance), say)
    quieten()
    steps.perform(step, steps.Work(model, source, source, examples, place.root, small, say))
    if tune:
        again = steps.Work(checkpoint.load(small), small, source, examples, place.root, output, say)
        steps.perform(steps.Tune(epochs=tune), again)
    made = checkpoint.load(output)
    before, after = model.merged_cost(), made.merged_cost()
    parameters, macs = (before.parameters, after.parameters), (before.macs, after.macs)
    compared = _compared((source, _classifier(model, source)), (output, _classifier(made, output)), place, examples)
    return Smaller(output, parameters, macs, compared)


def _check_folder(source: Path, output: Path, small: Path) -> None:
    from audiorep.models import checkpoint

    refuse_inputs(output, source)
    reserve(output / checkpoint.CONFIG)
    if output.exists() and any(path.name != small.name for path in output.iterdir()):
        raise ConfigError(f"{output} is not empty; name a new folder.")


def _classifier(model: Checkpoint, path: Path) -> Classifier:
    """A checkpoint that was read from `path` and is merged only once, whatever else needs it merged."""
    from audiorep.runtimes.torch import TorchSession

    return Classifier(checked(TorchSession(model), str(path)))


def _compared(
    first: tuple[Path, Classifier], second: tuple[Path, Classifier], place: Data, examples: Sequence[Example]
) -> Comparison | None:
    """Both models on the test clips, without times."""
    from audiorep.benchmark.api import compare_on
    from audiorep.evaluation.scored import describe_split

    test = [example for example in examples if example.split == "test"]
    if not test:
        return None
    models = [(str(path), classifier) for path, classifier in (first, second)]
    return compare_on(models, test, describe_split(place.root, "test", test))
