"""The command `listen`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import SOME_FAILED, Hop, Json, Model, NoUnknown, Precision, RuntimeName, Threads, share
from audiorep.cli.predict import event_settings
from audiorep.escape import visible

if TYPE_CHECKING:
    from audiorep.listen.listener import Report
    from audiorep.listen.outlets import Outlet


def listen(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="- for samples on standard input (a WAV stream, or raw with --rate), addresses that ffmpeg reads "
            "(rtsp://…, https://…), and files.",
            show_default=False,
        ),
    ],
    model: Model = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="File (.csv or .jsonl) that grows by a line for each event; may be given several times."
        ),
    ] = None,
    events: Annotated[Path | None, typer.Option(help="TOML file that says when windows become an event.")] = None,
    threshold: Annotated[
        float | None, typer.Option(callback=share, help="Score from which a window counts; default: the model's thresholds.")
    ] = None,
    hop: Hop = None,
    rate: Annotated[int | None, typer.Option(help="Hz of raw samples on standard input.")] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of raw samples on standard input.")] = 1,
    format: Annotated[str, typer.Option(help="Raw samples on standard input: s16le, s32le, f32le or u8.")] = "s16le",
    realtime: Annotated[bool, typer.Option("--realtime", help="Hear files in the time that they last.")] = False,
    once: Annotated[bool, typer.Option("--once", help="End with an address that ends or fails; default: try again.")] = False,
    threads: Threads = None,
    runtime: RuntimeName = None,
    precision: Precision = "fp32",
    no_unknown: NoUnknown = False,
    as_json: Json = False,
) -> None:
    """Listen to live sound, and print each sound when it begins and when it ends."""
    from audiorep.listen.listener import Listener
    from audiorep.listen.sources import source_of

    classifier = audiorep.load(model, threads, runtime, precision, unknown=not no_unknown).with_windows(None, hop)
    settings = event_settings(events, threshold, classifier.info)
    hz = classifier.info.sample_rate
    opened = [source_of(text, hz, rate, channels, format, realtime, not once) for text in sources]
    listener, failed = Listener(classifier, opened, settings), False
    with _outlets(output or [], as_json, several=len(sources) > 1) as tell:
        try:
            for report in listener.run():
                failed |= report.error is not None
                tell(report)
        except KeyboardInterrupt as stop:
            for report in listener.close():
                tell(report)
            stop.add_note("Stopped; open events were ended.")
            raise
    if failed:
        raise typer.Exit(SOME_FAILED)


@contextmanager
def _outlets(paths: list[Path], as_json: bool, several: bool) -> Iterator[Callable[[Report], None]]:
    """Tells a report to the terminal and to files; at the end, says which lines were lost."""
    from audiorep.listen.outlets import Outlet, as_dict, file_outlet

    files = [file_outlet(path) for path in paths]
    screen = Outlet("standard output", _print)

    def tell(report: Report) -> None:
        if as_json:
            screen.put(json.dumps(as_dict(report), ensure_ascii=False) + "\n")
        elif report.event is not None:
            screen.put(_line(report, several) + "\n")
        if report.gap is not None or report.error is not None:
            terminal.say(_trouble(report))
        if report.event is not None and not report.event.is_open:
            for outlet, line_of in files:
                outlet.put(line_of(report))

    try:
        yield tell
    finally:
        for outlet in (screen, *(outlet for outlet, _ in files)):
            outlet.close()
            _say_lost(outlet)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say_lost(outlet: Outlet) -> None:
    if outlet.lost:
        why = f" ({outlet.error.strerror})" if outlet.error is not None else ", since its reader was too slow"
        terminal.say(f"{outlet.lost} lines for {outlet.name} were lost{why}.")


def _line(report: Report, several: bool) -> str:
    """An event in words: when it begins, and when it has ended."""
    event = report.event
    assert event is not None
    source = f"{report.source}  " if several else ""
    begin = _time(report, event.start)
    times = f"{begin:>10} …         " if event.is_open else f"{begin:>10} – {_time(report, event.end):<10}"
    return visible(f"{times}  {source}{event.label}  {event.score:.0%}")


def _trouble(report: Report) -> str:
    if report.gap is not None:
        return f"{_time(report, report.seconds)} a gap of {report.gap.seconds:.1f} s in {report.source}: {report.gap.reason}."
    return f"Error: {report.error}"


def _time(report: Report, seconds: float) -> str:
    at = report.at(seconds)
    return terminal.clock(seconds) if at is None else f"{at:%H:%M:%S}.{at.microsecond // 100_000}"
