"""The commands `embed` and `similar`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import SOME_FAILED, Json, Model, RuntimeName, Threads
from audiorep.errors import ConfigError
from audiorep.escape import visible

if TYPE_CHECKING:
    from audiorep.embeddings.search import Match

INDEX_HELP = "Folder of an index, which audiorep embed makes."


def embed(
    paths: Annotated[
        list[str],
        typer.Argument(help="Sound files, folders (searched recursively), or patterns.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the index; one that exists goes on.", show_default=False)
    ],
    model: Model = None,
    threads: Threads = None,
    runtime: RuntimeName = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Put what a model hears in a collection into an index, to search it."""
    from audiorep.audio import sources
    from audiorep.embeddings.api import collect, named

    classifier = audiorep.load(model, threads, runtime)
    passed_over: list[Path] = []
    files = list(sources.find(paths, passed_over.append))
    if passed_over:
        terminal.say(visible(sources.describe_passed_over(passed_over)))
    with (
        terminal.stop_message("Stopped; the sounds that were heard to their end are in the index."),
        terminal.progress("Listening", terminal.total_seconds(files)) as advance,
    ):
        done = collect(files, output, classifier, named(model), advance)
    for failure in done.failures:
        terminal.say(f"Error: {failure.error}")
    if as_json:
        print(json.dumps({"added": done.added, "kept": done.kept, "failed": len(done.failures)}))
    else:
        print(f"{done.added} sounds added, {done.kept} were there already: {visible(str(output))}")
    if done.failures:
        raise typer.Exit(SOME_FAILED)


def similar(
    index: Annotated[Path, typer.Argument(help=INDEX_HELP, show_default=False)],
    sound: Annotated[Path, typer.Argument(help="Sound to look for.", show_default=False)],
    start: Annotated[float, typer.Option(min=0, help="Seconds at which it begins in the file.")] = 0.0,
    end: Annotated[float | None, typer.Option(min=0, help="Seconds at which it ends; default: with the file.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Results.")] = 10,
    windows: Annotated[
        bool, typer.Option("--windows", help="Several places of a file may be results; default: its best one.")
    ] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="File (.csv, .jsonl or .html with players); may be given several times."),
    ] = None,
    clips: Annotated[Path | None, typer.Option(help="Folder for the places as sound files (.flac).")] = None,
    around: Annotated[float, typer.Option(min=0, help="Seconds before and after each place in clips and players.")] = 1.0,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Model of the index; default: the one that it names.")
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Find the places of a collection that sound most like a sound."""
    from audiorep.embeddings import tables
    from audiorep.embeddings.api import model_of

    if end is not None and end <= start:
        raise ConfigError(f"The sound ends at {end:g} s and begins at {start:g} s; it must end later.")
    place = audiorep.Stretch(sound, start, end)
    writers = [tables.writer(path) for path in output or []]
    with audiorep.Index(index) as searched:
        found = audiorep.similar(searched, place, count, model_of(searched, model, threads), per_sound=not windows)
    for write in writers:
        write(place, found, around)
    failures = [] if clips is None else tables.write_clips(clips, found, around)
    if as_json:
        print(json.dumps([tables.as_dict(match) for match in found], ensure_ascii=False))
    else:
        _show(found)
    for failure in failures:
        terminal.say(f"Error: {failure}")
    if failures:
        raise typer.Exit(SOME_FAILED)


def _show(found: list[Match]) -> None:
    for match in found:
        print(f"{match.score:.3f}  {terminal.clock(match.start)} – {terminal.clock(match.end)}  {visible(str(match.path))}")
    if not found:
        terminal.say("Nothing is in the index but that sound.")
