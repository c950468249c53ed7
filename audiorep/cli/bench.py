"""The command `bench`: cost and speed of networks, side by side."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import Json, Threads
from audiorep.errors import ConfigError, require
from audiorep.files import reserve, write_json

if TYPE_CHECKING:
    from audiorep.benchmark.cases import Plan
    from audiorep.benchmark.end_to_end import Measured
    from audiorep.benchmark.layers import Profile
    from audiorep.benchmark.table import Bench


def bench(
    networks: Annotated[
        list[str] | None, typer.Argument(help="Architectures (with random weights) or checkpoint folders; default: arin_base.")
    ] = None,
    forms: Annotated[
        str, typer.Option(help="Forms of the network: training, merged (as the authors merge), fused; comma-separated.")
    ] = "merged,fused",
    runtimes: Annotated[
        str, typer.Option(help="Runtimes: eager, channels_last, compiled (all PyTorch), onnx, openvino; comma-separated.")
    ] = "eager,onnx",
    precisions: Annotated[str, typer.Option(help="Precisions: fp32, bf16, int8; comma-separated.")] = "fp32",
    batches: Annotated[str, typer.Option(help="Batch sizes in clips; comma-separated.")] = "1",
    baseline: Annotated[
        str | None,
        typer.Option(help="Case whose speed counts as 1, for example arin_base:merged:eager; default: the first case."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds of measurement; in each round every case runs once.")] = 20,
    given: Annotated[
        str, typer.Option("--input", help="Input of the model: spectrogram (network alone) or waveform (with its front end).")
    ] = "spectrogram",
    front_end: Annotated[
        str, typer.Option(help="Front end of the architectures: vggsound, light, speech_light …")
    ] = "vggsound",
    seconds: Annotated[float, typer.Option(help="Window of the architectures in seconds.")] = 5.12,
    classes: Annotated[int, typer.Option(min=1, help="Number of classes of the architectures.")] = 309,
    calibration: Annotated[Path | None, typer.Option(help="Folder of sounds that calibrate int8.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Path without suffix for the .json, .csv, .md and .png files.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run for about a minute: arin_nano with the light front end, five rounds.")
    ] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Show the time of each operator instead.")] = False,
    end_to_end: Annotated[
        Path | None, typer.Option("--end-to-end", help="Folder of sounds: measure from files to labels, and cold starts.")
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure parameters, MACs, memory, latency and throughput of networks, forms and runtimes, in alternating rounds."""
    require("torch", extra="train")
    names = networks or (["arin_nano"] if quick else ["arin_base"])
    if quick:
        front_end, rounds = "light" if front_end == "vggsound" else front_end, min(rounds, 5)
    settings: dict[str, Any] = {"forms": _split(forms), "runtimes": _split(runtimes), "precisions": _split(precisions)}
    settings |= {
        "batches": _whole_numbers(batches),
        "front_end": front_end,
        "seconds": seconds,
        "classes": classes,
        "input": given,
    }
    if output is not None:
        _check_writable(output)
    with terminal.stop_message("Stopped; nothing was written."):
        if end_to_end is not None:
            _end_to_end(_plan(names, settings), end_to_end, rounds, threads, output, as_json)
        elif layers:
            _layers(_plan(names, settings), threads, as_json)
        else:
            with terminal.progress("Measuring", None) as advance:
                settings |= {"baseline": baseline, "sounds": calibration}
                result = audiorep.bench(names, rounds=rounds, threads=threads, say=terminal.say, on_turn=advance, **settings)
            _show(result, output, as_json)


def _plan(networks: list[str], settings: dict[str, Any]) -> Plan:
    from audiorep.benchmark.cases import Plan

    return Plan(tuple(networks), **settings)


def _show(result: Bench, output: Path | None, as_json: bool) -> None:
    from audiorep.benchmark import table

    if as_json:
        print(table.as_json(result))
    else:
        _show_rows(result)
    if output is not None:
        for path in table.write(result, output, terminal.typed_command()):
            terminal.say(f"Written: {path}")


def _show_rows(result: Bench) -> None:
    from audiorep.benchmark import table
    from audiorep.benchmark.environment import in_words

    terminal.show_table(table.HEADER, [table.cells(row) for row in result.rows], right=set(range(4, len(table.HEADER))))
    print(f"Speed over {result.baseline} at the same batch, median of {result.rounds} rounds; {in_words(result.environment)}")
    for case in result.missing:
        print(f"Not measured: {case.network}, {case.form}, {case.runtime}, {case.precision}: {case.reason}")


def _layers(plan: Plan, threads: int | None, as_json: bool) -> None:
    from audiorep.benchmark.layers import profiles
    from audiorep.runtimes import cores

    for profile in profiles(plan, threads or cores() or 1, terminal.say):
        if profile.missing:
            terminal.say(f"Not measured: {profile.title}: {profile.missing}.")
        elif as_json:
            operators = [vars(layer) for layer in profile.layers]
            print(json.dumps({"case": profile.title, "batch": profile.batch, "layers": operators}))
        else:
            _show_profile(profile)


def _show_profile(profile: Profile) -> None:
    """Prints the time of each kind of operator, and the slowest operators."""
    from audiorep.benchmark.layers import by_kind

    layers = profile.layers
    total = sum(layer.milliseconds for layer in layers)
    print(f"\n{profile.title}, batch {profile.batch}: {total:.2f} ms in {len(layers)} operators")
    for rows in (by_kind(layers), sorted(layers, key=lambda layer: -layer.milliseconds)[:15]):
        cells = [[r.kind, r.name[-60:], f"{r.milliseconds:.3f}", f"{r.share:.1%}"] for r in rows]
        terminal.show_table(["kind", "operator", "ms", "share"], cells, right={2, 3})
        print()


def _end_to_end(plan: Plan, folder: Path, rounds: int, threads: int | None, output: Path | None, as_json: bool) -> None:
    from audiorep.benchmark.end_to_end import measure
    from audiorep.benchmark.environment import environment
    from audiorep.runtimes import cores

    used = threads or cores() or 1
    with terminal.progress("Labelling", None) as advance:
        results = measure(plan, folder, rounds, used, terminal.say, advance)
    values = [asdict(result) for result in results]
    record = {"command": terminal.typed_command(), "rounds": rounds, "environment": environment(used), "results": values}
    if output is not None:
        write_json(output.with_name(output.name + ".json"), record)
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
        return
    for result in results:
        _show_measured(result)


def _show_measured(result: Measured) -> None:
    print(f"{result.network}, {result.files} files")
    cells = [[r.name, f"{r.files_per_second:.1f}", f"{r.ratio:.2f}×", f"{r.same_label:.0%}"] for r in result.to_labels]
    terminal.show_table(["files to labels", "files/s", "speed", "same label"], cells, right={1, 2, 3})
    cells = [[row.name, f"{row.seconds:.2f}", f"{row.peak_memory_mb:.0f}"] for row in result.cold_start]
    terminal.show_table(["cold start, one file", "seconds", "peak MB"], cells, right={1, 2})


def _check_writable(output: Path) -> None:
    """Raises an error for an output that cannot be written, before anything is measured."""
    if not output.name:
        raise ConfigError(f"{output} is not a name for files; give one, for example results/mine.")
    reserve(output.with_name(f"{output.name}.json"))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _split(text))
    except ValueError:
        raise ConfigError(f"--batches {text!r} is not a list of whole numbers; give for example 1,8.") from None
