"""The command `listen`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import SOME_FAILED, Hop, Json, Model, NoUnknown, Precision, RuntimeName, share
from audiorep.cli.predict import event_settings
from audiorep.escape import visible

if TYPE_CHECKING:
    from audiorep.listen.listener import Listener
    from audiorep.listen.outlets import Readers
    from audiorep.listen.reports import Report

SECRET = "AUDIOREP_WEBHOOK_SECRET"


def listen(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="mic or mic:WHICH for a microphone, - for samples on standard input (a WAV stream, or raw with --rate), "
            "addresses that ffmpeg reads (rtsp://…, https://…), and files. NAME=SOURCE gives one a name.",
            show_default=False,
        ),
    ] = None,
    model: Model = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="File (.csv, .jsonl, .audacity.txt or .raven.txt) that grows by a line for each event; may be given several "
            "times.",
        ),
    ] = None,
    mqtt: Annotated[str | None, typer.Option(help="Broker to publish to, such as mqtt://USER@HOST/BASE.")] = None,
    home_assistant: Annotated[
        bool, typer.Option("--home-assistant", help="Announce a sensor for each sound to Home Assistant, through --mqtt.")
    ] = False,
    webhook: Annotated[
        list[str] | None,
        typer.Option(help=f"Address to post to; signed if {SECRET} is set in the environment; may be given several times."),
    ] = None,
    snippets: Annotated[Path | None, typer.Option(help="Folder for the sound of each event, as FLAC files.")] = None,
    before: Annotated[float, typer.Option(help="Seconds of a snippet before its event.")] = 1.0,
    after: Annotated[float, typer.Option(help="Seconds of a snippet after its event.")] = 1.0,
    longest: Annotated[float, typer.Option(help="Seconds of a snippet in all, at most.")] = 30.0,
    events: Annotated[Path | None, typer.Option(help="TOML file that says when windows become an event.")] = None,
    threshold: Annotated[
        float | None, typer.Option(callback=share, help="Score from which a window counts; default: the model's thresholds.")
    ] = None,
    hop: Hop = None,
    rate: Annotated[int | None, typer.Option(help="Hz of raw samples on standard input.")] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of raw samples on standard input.")] = 1,
    format: Annotated[str, typer.Option(help="Raw samples on standard input: s16le, s32le, f32le or u8.")] = "s16le",
    realtime: Annotated[bool, typer.Option("--realtime", help="Hear files in the time that they last.")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End with an address or microphone that ends or fails; default: try again.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Number of processor threads.")] = 1,
    runtime: RuntimeName = None,
    precision: Precision = "fp32",
    no_unknown: NoUnknown = False,
    as_json: Json = False,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List the microphones, and end.")] = False,
) -> None:
    """Listen to live sound, and print each sound when it begins and when it ends."""
    if list_devices:
        _list_devices(as_json)
        return
    if not sources:
        raise typer.BadParameter("Missing argument: give a source, such as mic, an address, - or a file.")
    if home_assistant and mqtt is None:
        raise typer.BadParameter("--home-assistant needs a broker: add --mqtt.")
    from audiorep.listen.choose import source_of
    from audiorep.listen.listener import Listener
    from audiorep.listen.mqtt import Broker
    from audiorep.listen.outlets import Readers
    from audiorep.listen.snippets import SnippetConfig, SnippetSink
    from audiorep.listen.texts import file_sink, json_line, stream_sink
    from audiorep.listen.webhook import Webhook

    classifier = audiorep.load(model, threads, runtime, precision, unknown=not no_unknown).with_windows(None, hop)
    settings = event_settings(events, threshold, classifier.info)
    hz = classifier.info.sample_rate
    opened = [source_of(text, hz, rate, channels, format, realtime, not once) for text in sources]
    cut = SnippetConfig(before, after, longest) if snippets is not None else None
    names = [source.name for source in opened]
    listener = Listener(classifier, opened, settings, cut)
    readers = Readers(stream_sink(2, "standard error", lambda text: f"{visible(text)}\n"))
    try:
        line_of = json_line if as_json else lambda report: _line(report, len(names) > 1)
        readers.add(stream_sink(1, "standard output", line_of, lambda report: _is_printed(report, as_json)))
        for path in output or []:
            readers.add(file_sink(path, hz, len(names)))
        for address in webhook or []:
            readers.add(Webhook(address, os.environ.get(SECRET, "")))
        if mqtt is not None:
            labels = [label for known in classifier.info.labels.values() for label in known]
            readers.add(Broker(mqtt, names, labels, home_assistant, readers.say))
        if snippets is not None:
            readers.add(SnippetSink(snippets, readers.tell))
        failed = _hear(listener, readers)
    finally:
        readers.close()
    if failed:
        raise typer.Exit(SOME_FAILED)


def _hear(listener: Listener, readers: Readers) -> bool:
    """Whether a source failed."""
    failed = False

    def tell(report: Report) -> None:
        readers.tell(report)
        if (text := _trouble(report)) is not None:
            readers.say(text)

    try:
        for report in listener.run():
            failed |= report.error is not None
            tell(report)
    except KeyboardInterrupt as stop:
        for report in listener.close():
            tell(report)
        stop.add_note("Stopped; open events were ended.")
        raise
    return failed


def _list_devices(as_json: bool) -> None:
    from audiorep.listen.microphones import as_dict, devices

    found = devices()
    if as_json:
        print(json.dumps([as_dict(device) for device in found], ensure_ascii=False))
        return
    for device in found:
        about = f"{device.channels} {'channel' if device.channels == 1 else 'channels'}, {device.sample_rate} Hz"
        print(f"mic:{device.number:<3} {visible(device.name)}, {about}{', default' if device.is_default else ''}")
    if not found:
        terminal.say("There are no microphones.")


def _is_printed(report: Report, as_json: bool) -> bool:
    return report.is_told if as_json else report.event is not None


def _line(report: Report, several: bool) -> str:
    """An event in words: when it begins, and when it has ended."""
    event = report.event
    assert event is not None
    source = f"{report.source}  " if several else ""
    begin = _time(report, event.start)
    times = f"{begin:>10} …         " if event.is_open else f"{begin:>10} – {_time(report, event.end):<10}"
    return visible(f"{times}  {source}{event.label}  {event.score:.0%}") + "\n"


def _trouble(report: Report) -> str | None:
    if report.lost:
        return f"{_time(report, report.seconds)} {report.source} is lost and tried again: {report.lost.removesuffix('.')}."
    if report.gap is not None:
        reason = report.gap.reason.removesuffix(".")
        return f"{_time(report, report.seconds)} a gap of {report.gap.seconds:.1f} s in {report.source}: {reason}."
    return None if report.error is None else f"Error: {report.error}"


def _time(report: Report, seconds: float) -> str:
    at = report.at(seconds)
    return terminal.clock(seconds) if at is None else f"{at:%H:%M:%S}.{at.microsecond // 100_000}"
