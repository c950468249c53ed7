"""What networks cost and how fast they run, side by side."""

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
        list[str] | None, typer.Argument(help="Architectures (random weights) and checkpoint folders; default: arin_base.")
    ] = None,
    forms: Annotated[str, typer.Option(help="training, merged (the authors' form), fused; comma-separated.")] = "merged,fused",
    runtimes: Annotated[
        str, typer.Option(help="eager, channels_last, compiled (PyTorch), onnx, openvino; comma-separated.")
    ] = "eager,onnx",
    precisions: Annotated[str, typer.Option(help="fp32, bf16, int8; comma-separated.")] = "fp32",
    batches: Annotated[str, typer.Option(help="Clips in a call; comma-separated.")] = "1",
    baseline: Annotated[
        str | None, typer.Option(help="Whose speed is 1, for example arin_base:merged:eager; default: the first.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Turns that each takes; all take theirs in every round.")] = 20,
    given: Annotated[
        str, typer.Option("--input", help="spectrogram: the network alone; waveform: the front end inside.")
    ] = "spectrogram",
    front_end: Annotated[str, typer.Option(help="Of architectures: vggsound, light, speech_light …")] = "vggsound",
    seconds: Annotated[float, typer.Option(help="Window of architectures.")] = 5.12,
    classes: Annotated[int, typer.Option(min=1, help="Of architectures.")] = 309,
    calibration: Annotated[Path | None, typer.Option(help="Folder of sounds to calibrate int8 on.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Name for .json, .csv, .md and .png files, without suffix.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A minute: arin_nano, its light front end, five rounds.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Where the time of each case goes, operator by operator.")] = False,
    end_to_end: Annotated[
        Path | None, typer.Option("--end-to-end", help="Folder of sounds: from files to labels, and cold starts.")
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure parameters, MACs, memory, latency and throughput of networks, forms and runtimes in one schedule of turns."""
    require("torch", extra="train")
    names = networks or (["arin_nano"] if quick else ["arin_base"])
    if quick:
        front_end, rounds = "light" if front_end == "vggsound" else front_end, min(rounds, 5)
    settings: dict[str, Any] = {"forms": _split(forms), "runtimes": _split(runtimes), "precisions": _split(precisions)}
    settings |= {"batches": _whole(batches), "front_end": front_end, "seconds": seconds, "classes": classes, "input": given}
    if output is not None:
        _check_writable(output)
    with terminal.stopping("Stopped; nothing was written."):
        if end_to_end is not None:
            _end_to_end(_plan(names, settings), end_to_end, rounds, threads, output, as_json)
        elif layers:
            _layers(_plan(names, settings), threads, as_json)
        else:
            with terminal.progress("Measuring", None) as advance:
                settings |= {"baseline": baseline, "sounds": calibration}
                done = audiorep.bench(names, rounds=rounds, threads=threads, say=terminal.say, on_turn=advance, **settings)
            _show(done, output, as_json)


def _plan(networks: list[str], settings: dict[str, Any]) -> Plan:
    from audiorep.benchmark.cases import Plan

    return Plan(tuple(networks), **settings)


def _show(done: Bench, output: Path | None, as_json: bool) -> None:
    from audiorep.benchmark import table

    if as_json:
        print(table.as_json(done))
    else:
        _show_rows(done)
    if output is not None:
        for path in table.write(done, output, terminal.typed_command()):
            terminal.say(f"Written: {path}")


def _show_rows(done: Bench) -> None:
    from audiorep.benchmark import table
    from audiorep.benchmark.environment import in_words

    terminal.show_table(table.HEADER, [table.cells(row) for row in done.rows], right=set(range(4, len(table.HEADER))))
    print(f"Speed over {done.baseline} at the same batch, median of {done.rounds} rounds; {in_words(done.environment)}")
    for case in done.missing:
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
    """The time of each kind of operator, and the slowest operators."""
    from audiorep.benchmark.layers import by_kind

    found = profile.layers
    total = sum(layer.milliseconds for layer in found)
    print(f"\n{profile.title}, batch {profile.batch}: {total:.2f} ms in {len(found)} operators")
    for rows in (by_kind(found), sorted(found, key=lambda layer: -layer.milliseconds)[:15]):
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
    shown = [asdict(result) for result in results]
    record = {"command": terminal.typed_command(), "rounds": rounds, "environment": environment(used), "results": shown}
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
    """Refuses a name before anything is measured, not after."""
    if not output.name:
        raise ConfigError(f"{output}: a name for the files is needed, for example results/mine.")
    reserve(output.with_name(f"{output.name}.json"))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _whole(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _split(text))
    except ValueError:
        raise ConfigError(f"--batches {text!r}: whole numbers are needed, for example 1,8.") from None
