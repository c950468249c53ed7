"""What networks cost and how fast they run, side by side."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiorep.cli import terminal
from audiorep.cli.options import Json, Threads
from audiorep.errors import ConfigError, require
from audiorep.files import reserve, write_json

if TYPE_CHECKING:
    from audiorep.benchmark.cases import Plan
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
    from audiorep.benchmark.cases import Plan
    from audiorep.runtimes import cores

    names = tuple(networks or (["arin_nano"] if quick else ["arin_base"]))
    plan = Plan(names, _split(forms), _split(runtimes), _split(precisions), _whole(batches), front_end, seconds, classes, given)
    if quick:
        plan, rounds = replace(plan, front_end="light" if front_end == "vggsound" else front_end), min(rounds, 5)
    used = threads or cores() or 1
    if output is not None:
        _check_writable(output)
    try:
        if end_to_end is not None:
            _end_to_end(plan, end_to_end, rounds, used, output, as_json)
        elif layers:
            _layers(plan, used, as_json)
        else:
            _side_by_side(plan, rounds, used, baseline, calibration, output, as_json)
    except KeyboardInterrupt as stop:
        stop.add_note("Stopped; nothing was written.")
        raise


def _side_by_side(
    plan: Plan,
    rounds: int,
    threads: int,
    baseline: str | None,
    calibration: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    from audiorep.benchmark import table

    with terminal.progress("Measuring", None) as advance:
        done = table.run(
            plan,
            rounds=rounds,
            threads=threads,
            baseline=baseline,
            sounds=calibration,
            say=terminal.say,
            advance=advance,
        )
    if as_json:
        print(table.as_json(done))
    else:
        _show(done)
    if output is not None:
        for path in table.write(done, output, terminal.typed_command()):
            terminal.say(f"Written: {path}")


def _show(done: Bench) -> None:
    from audiorep.benchmark import table
    from audiorep.benchmark.environment import in_words

    terminal.show_table(table.HEADER, [table.cells(row) for row in done.rows], right=set(range(4, len(table.HEADER))))
    print(f"Speed over {done.baseline} at the same batch, median of {done.rounds} rounds; {in_words(done.environment)}")
    for case in done.missing:
        print(f"Not measured: {case.network}, {case.form}, {case.runtime}, {case.precision}: {case.reason}")


def _layers(plan: Plan, threads: int, as_json: bool) -> None:
    from audiorep.benchmark import layers
    from audiorep.benchmark.cases import Case, cases
    from audiorep.benchmark.engines import UnavailableError

    with tempfile.TemporaryDirectory() as folder:
        for case in cases(plan, Path(folder), threads, None, terminal.say):
            title = f"{case.network}, {case.form}, {case.runtime}, {case.precision}"
            try:
                if not isinstance(case, Case):
                    raise UnavailableError(case.reason)
                found = layers.layers(case, threads)
            except UnavailableError as error:
                terminal.say(f"Not measured: {title}: {error}.")
                continue
            if as_json:
                print(json.dumps({"case": title, "batch": case.batch, "layers": [vars(layer) for layer in found]}))
                continue
            print(
                f"\n{title}, batch {case.batch}: {sum(layer.milliseconds for layer in found):.2f} ms in {len(found)} operators"
            )
            for rows in (layers.by_kind(found), sorted(found, key=lambda layer: -layer.milliseconds)[:15]):
                cells = [[r.kind, r.name[-60:], f"{r.milliseconds:.3f}", f"{r.share:.1%}"] for r in rows]
                terminal.show_table(["kind", "operator", "ms", "share"], cells, right={2, 3})
                print()


def _end_to_end(plan: Plan, folder: Path, rounds: int, threads: int, output: Path | None, as_json: bool) -> None:
    from audiorep.benchmark import end_to_end
    from audiorep.benchmark.cases import made_up
    from audiorep.benchmark.environment import environment
    from audiorep.models import checkpoint

    runtimes = [name for name in plan.runtimes if name in ("onnx", "openvino")]
    if not runtimes:
        raise ConfigError("--end-to-end measures the runtimes onnx and openvino against the usual way in eager PyTorch.")
    files = end_to_end.sounds_in(folder, end_to_end.MOST)
    results: list[dict[str, Any]] = []
    for name in plan.networks:
        with tempfile.TemporaryDirectory() as scratch, terminal.progress(f"Labelling, {Path(name).name}", None) as advance:
            source = Path(name)
            if not source.is_dir():
                made = made_up(name, plan.front_end, plan.seconds, plan.classes)
                source = Path(scratch) / name
                checkpoint.save(source, made.network, made.info, name)
            terminal.say(f"Making ready: {name}, {', '.join(runtimes)}")
            exported = end_to_end.exported(source, runtimes, Path(scratch))
            ways = end_to_end.ways_of(source, runtimes, threads, exported)
            if end_to_end.USUAL not in ways:
                terminal.say(f"Without librosa there is no usual way to measure; speeds are over {runtimes[0]}.")
            paths = end_to_end.files_to_labels(ways, files, rounds, advance)
            starts = [end_to_end.cold_start(exported[runtime], files[0], runtime) for runtime in runtimes]
        results.append({"network": Path(name).name, "files": len(files), "to_labels": paths, "cold_start": starts})
    shown = [
        {**r, "to_labels": [vars(row) for row in r["to_labels"]], "cold_start": [vars(row) for row in r["cold_start"]]}
        for r in results
    ]
    record = {"command": terminal.typed_command(), "rounds": rounds, "environment": environment(threads), "results": shown}
    if output is not None:
        write_json(output.with_name(output.name + ".json"), record)
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
        return
    for result in results:
        print(f"{result['network']}, {result['files']} files")
        cells = [
            [row.name, f"{row.files_per_second:.1f}", f"{row.ratio:.2f}×", f"{row.same_label:.0%}"]
            for row in result["to_labels"]
        ]
        terminal.show_table(["files to labels", "files/s", "speed", "same label"], cells, right={1, 2, 3})
        cells = [[row.name, f"{row.seconds:.2f}", f"{row.peak_memory_mb:.0f}"] for row in result["cold_start"]]
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
