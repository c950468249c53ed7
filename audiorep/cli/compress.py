"""Smaller models with proof: quantize, verify, and whole chains of compression."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiorep.cli import terminal
from audiorep.cli.options import SOME_FAILED, DataRoot, Folds, Format, Json, Threads, ValidFolds, share
from audiorep.errors import ConfigError, require

if TYPE_CHECKING:
    from audiorep.datasets import Example
    from audiorep.evaluation.compare import Difference, Judged
    from audiorep.models.checkpoint import Checkpoint as LoadedCheckpoint

UNTUNED = "untuned"
Tuned = Annotated[int, typer.Option("--tune", min=0, help="Epochs of training afterwards.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the result, a new one.", show_default=False)]
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.", show_default=False)]


def quantize(
    source: Checkpoint,
    data: DataRoot,
    output: Annotated[Path, typer.Option("--output", "-o", help="File: .onnx, or .xml for OpenVINO.", show_default=False)],
    loss: Annotated[
        float, typer.Option(help="Share of clips that int8 may lose on the clips it is chosen by.", callback=share)
    ] = 0.01,
    keep_float: Annotated[
        list[str] | None, typer.Option("--keep-float", help="Layer to leave in float32; may be given again.")
    ] = None,
    sensitivity: Annotated[
        Path | None, typer.Option(help="CSV file for what each layer costs; measured only if asked for or needed.")
    ] = None,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:
    """Make a static int8 model, calibrated, chosen and tested on real clips."""
    require("torch", extra="train")
    from audiorep.compress import int8
    from audiorep.evaluation.compare import compare, judge
    from audiorep.evaluation.evaluate import describe_split
    from audiorep.files import reserve
    from audiorep.models import checkpoint

    if output.suffix not in (".onnx", ".xml"):
        raise ConfigError(
            f"{output}: int8 models chosen by accuracy are written as .onnx or .xml; others with audiorep export."
        )
    if output.suffix == ".xml" and sensitivity is not None:
        raise ConfigError("--sensitivity is measured on .onnx models; NNCF, which makes .xml ones, keeps its own account.")
    reserve(output)
    if sensitivity is not None:
        reserve(sensitivity, source, output)
    model = checkpoint.load(source)
    examples = _examples(data, data_format, model.info.provenance, test_fold, valid_fold)
    sounds = int8.sounds_of(examples, model.info, terminal.say)
    shown: dict[str, Any] = {"path": str(output), "chosen_on": sounds.origin}
    try:
        if output.suffix == ".xml":
            shown["speed"] = int8.write_openvino(model, sounds, output, loss, keep_float or [])
        else:
            made = int8.write(model, sounds, output, loss, keep_float or [], sensitivity, terminal.say)
            shown |= {"setting": asdict(made.setting), "speed": made.speed}
    except KeyboardInterrupt as stop:
        stop.add_note("Stopped; nothing was written.")
        raise
    test = [example for example in examples if example.split == "test"]
    if test:
        split = describe_split(data, "test", test)
        first, second = judge(source, test, split), judge(output, test, split)
        difference = compare(first, second)
        shown |= _comparison(split, first, second, difference)
    if as_json:
        print(json.dumps(shown, ensure_ascii=False))
        return
    if test:
        _show_comparison(split, first, second, difference)
    slower = "; its gain is its size" if shown["speed"] < 1 else ""
    print(f"int8 has {shown['speed']:.2f} times float32's speed in this runtime, here{slower}")


def prune(
    source: Checkpoint,
    data: DataRoot,
    output: Output,
    keep: Annotated[float, typer.Option(help="Share of the cost that is left.")] = 0.5,
    by: Annotated[str, typer.Option(help="The cost: macs, parameters, or latency in ONNX Runtime here.")] = "macs",
    importance: Annotated[str, typer.Option(help="magnitude, norm (scale of the batch norm), or taylor.")] = "magnitude",
    scope: Annotated[
        str, typer.Option(help="Channels compete over the whole network (global) or each stage (stage).")
    ] = "global",
    multiple: Annotated[int, typer.Option(min=1, help="Channels of a layer remain a multiple of it.")] = 4,
    tune: Tuned = 0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
) -> None:
    """Make a checkpoint with fewer channels, and train it on if asked for."""
    values = {"keep": keep, "by": by, "importance": importance, "scope": scope, "multiple": multiple}
    _step({"do": "prune", **values}, source, _Clips(data, data_format, test_fold, valid_fold), output, tune)


def low_rank(
    source: Checkpoint,
    data: DataRoot,
    output: Output,
    keep: Annotated[float, typer.Option(help="Share of the cost that is left; 0: by --energy.")] = 0.0,
    by: Annotated[str, typer.Option(help="The cost: parameters, macs, or latency in ONNX Runtime here.")] = "parameters",
    energy: Annotated[float, typer.Option(help="Of each layer's response that is kept.")] = 0.99,
    tune: Tuned = 0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
) -> None:
    """Make a checkpoint whose pointwise layers are products of thinner ones, and train it on if asked for."""
    values = {"keep": keep, "by": by, "energy": energy}
    _step({"do": "low_rank", **values}, source, _Clips(data, data_format, test_fold, valid_fold), output, tune)


def compress(
    source: Checkpoint,
    data: DataRoot,
    recipe: Annotated[Path, typer.Option(help="TOML file of the steps.", show_default=False)],
    output: Output,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    threads: Threads = None,
) -> None:
    """Run a chain of compressions; the same command goes on where it stopped. Exit status 1 if a step lost too much."""
    require("lightning", extra="train")
    from audiorep.compress import chain
    from audiorep.models import checkpoint
    from audiorep.runtimes import cores
    from audiorep.training.fit import quieten

    settings = chain.load_recipe(recipe)
    provenance = checkpoint.load(source).info.provenance
    examples = _examples(data, data_format, provenance, test_fold, valid_fold)
    quieten()
    try:
        done = chain.run(source, settings, examples, data, output, threads or cores() or 1, terminal.say)
    except KeyboardInterrupt as stop:
        stop.add_note(f"Stopped. The same command goes on from the last whole step in {output}.")
        raise
    terminal.show_table(chain.HEADER, [chain.cells(row) for row in done.rows], right=set(range(1, len(chain.HEADER))))
    terminal.say(f"Kept: {output / done.best.path}\nReport: {output / chain.REPORT}.md, .json and .png")
    if refused := [row for row in done.rows if row.refused]:
        terminal.say(f"{refused[0].name} was refused: {refused[0].refused}.")
        raise typer.Exit(SOME_FAILED)


@dataclass(frozen=True)
class _Clips:
    """The data that a command is given."""

    data: Path
    format: str | None
    test_fold: list[int] | None
    valid_fold: list[int] | None


def _step(values: dict[str, Any], source: Path, clips: _Clips, output: Path, tune: int) -> None:
    """Runs a step, and a training after it where `tune` says for how many epochs; shows what that did on the test clips."""
    require("lightning", extra="train")
    from audiorep.compress import steps
    from audiorep.evaluation.compare import compare, judge
    from audiorep.evaluation.evaluate import describe_split
    from audiorep.files import refuse_inputs, reserve
    from audiorep.models import checkpoint
    from audiorep.training.fit import quieten

    model = checkpoint.load(source)
    _, step = steps.parse(values, "settings")
    refuse_inputs(output, source)
    small = output / UNTUNED if tune else output
    reserve(output / checkpoint.CONFIG)
    if output.exists() and any(path.name != small.name for path in output.iterdir()):
        raise ConfigError(f"{output} is not empty; name a new folder.")
    examples = _examples(clips.data, clips.format, model.info.provenance, clips.test_fold, clips.valid_fold)
    quieten()
    try:
        step.run(steps.Work(model, source, source, examples, clips.data, small, terminal.say))
        if tune:
            again = steps.Work(checkpoint.load(small), small, source, examples, clips.data, output, terminal.say)
            steps.Tune(epochs=tune).run(again)
    except KeyboardInterrupt as stop:
        stop.add_note(f"Stopped; what is in {output} is not finished.")
        raise
    costs = [_cost(checkpoint.load(folder)) for folder in (source, output)]
    print(
        ", ".join(
            f"{name} {before:,} to {after:,} ({after / before:.0%})"
            for name, before, after in zip(("parameters", "MACs"), *costs, strict=True)
        )
    )
    test = [example for example in examples if example.split == "test"]
    if test:
        split = describe_split(clips.data, "test", test)
        first, second = (judge(folder, test, split) for folder in (source, output))
        _show_comparison(split, first, second, compare(first, second))
    terminal.say(f"Checkpoint: {output}")


def _cost(model: LoadedCheckpoint) -> tuple[int, int]:
    """Parameters and multiply-accumulates of the merged network."""
    from audiorep import models

    cost = models.cost(model.fuse().model, tuple(model.example().shape))
    return cost.parameters, cost.macs


def verify(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="Checkpoint folder or model file: the original.", show_default=False)
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one, which should do as well.", show_default=False)],
    data: Annotated[Path, typer.Option(help="Labelled clips: as for evaluate.", show_default=False)],
    split: Annotated[str, typer.Option(help="train, valid, test, or all.")] = "test",
    loss: Annotated[float, typer.Option(help="Accuracy that B may lose, as a share: 0.01 is a point.", callback=share)] = 0.01,
    agreement: Annotated[
        float, typer.Option(help="Share of clips on which both must give the same label.", callback=share)
    ] = 0.0,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of timing a window, in which both take turns.")] = 10,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file for all numbers.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two models on the same labelled clips; exit status 1 if the second is worse than allowed."""
    require("torchmetrics", extra="train")
    from audiorep import datasets, runtimes
    from audiorep.evaluation.compare import compare, judge
    from audiorep.evaluation.evaluate import describe_split
    from audiorep.files import reserve, write_json
    from audiorep.predict.classifier import Classifier

    if output is not None:
        reserve(output, first, second)
    models = [Classifier(runtimes.open_session(path)) for path in (first, second)]
    everything = _examples(data, data_format, models[0].info.provenance, test_fold, valid_fold, whole=split == "all")
    examples = datasets.examples_in_split(everything, split, data)
    words = describe_split(data, split, examples)
    with terminal.progress("Comparing", None) as advance:
        one, other = (
            judge(model, examples, words, str(path), advance, seen=split == "train")
            for model, path in zip(models, (first, second), strict=True)
        )
    difference = compare(one, other)
    refusal = difference.refusal(loss, agreement)
    costs = _costs([first, second], rounds)
    values = {**_comparison(words, one, other, difference), "costs": costs, "passes": refusal is None}
    if output is not None:
        write_json(output, values)
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
    else:
        _show_comparison(words, one, other, difference)
        rows = [[cost["name"], f"{cost['bytes'] / 1e3:,.0f}", *_times_text(cost)] for cost in costs]
        terminal.show_table(["model", "kB", "runtime", "ms", "peak MB", "speed"], rows, right={1, 3, 4, 5})
    if refusal is not None:
        terminal.say(f"{second} does not pass for {first}: {refusal}.")
        raise typer.Exit(SOME_FAILED)


def _costs(models: list[Path], rounds: int) -> list[dict[str, Any]]:
    """Each model's bytes, and the times of a window in its own runtime, both taking turns; speed is over the first's."""
    from audiorep import runtimes
    from audiorep.benchmark.deployed import Deployed, timed
    from audiorep.models import checkpoint

    engines = [runtimes.able_to_open(path)[0] for path in models]
    deployed = [Deployed(path, engine, 0) for path, engine in zip(models, engines, strict=True)]
    found = timed(deployed, rounds, runtimes.cores() or 1)
    costs = []
    for path, engine, timing in zip(models, engines, found, strict=True):
        files = [path / checkpoint.WEIGHTS] if path.is_dir() and path.suffix != ".mlpackage" else runtimes.files_of(path)
        cost: dict[str, Any] = {"name": str(path), "bytes": sum(file.stat().st_size for file in files), "runtime": engine}
        if isinstance(timing, str):
            cost["not_timed"] = timing
        else:
            cost |= {key: getattr(timing, key) for key in ("median_ms", "p90_ms", "peak_memory_mb")} | {"speed": timing.ratio}
        costs.append(cost)
    return costs


def _times_text(cost: dict[str, Any]) -> list[str]:
    if "not_timed" in cost:
        return [cost["runtime"], "-", "-", cost["not_timed"]]
    return [cost["runtime"], f"{cost['median_ms']:.2f}", f"{cost['peak_memory_mb']:.0f}", f"{cost['speed']:.2f}"]


def _examples(
    data: Path,
    data_format: str | None,
    provenance: dict[str, Any],
    test_fold: list[int] | None,
    valid_fold: list[int] | None,
    whole: bool = False,
) -> list[Example]:
    """The clips split as the model's were, or by the folds asked for."""
    from audiorep import datasets
    from audiorep.evaluation.evaluate import splits_of

    splits = datasets.Splits() if whole else splits_of(provenance, test_fold, valid_fold)
    found = list(datasets.examples(data, None, data_format, splits))
    terminal.tell(data, data_format)
    return found


def _comparison(split: str, first: Judged, second: Judged, difference: Difference) -> dict[str, Any]:
    return {"split": split, "first": first.summary(), "second": second.summary(), "difference": difference.summary()}


def _show_comparison(split: str, first: Judged, second: Judged, difference: Difference) -> None:
    for failure in first.scored.failures:
        terminal.say(f"Left out: {failure.error}")
    print(f"{split}, {first.clips} clips")
    rows = [[judged.name, f"{judged.accuracy:.1%}", f"{judged.low:.1%} – {judged.high:.1%}"] for judged in (first, second)]
    terminal.show_table(["model", first.metric.replace("_", " "), "95 % interval"], rows, right={1, 2})
    print(
        f"change {100 * difference.change:+.1f} points ({100 * difference.low:+.1f} to {100 * difference.high:+.1f}), "
        f"same label {difference.agreement:.1%}, scores differ by {difference.mean:.1e}, at most {difference.largest:.1e}"
    )
