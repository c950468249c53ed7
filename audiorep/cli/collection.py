"""The commands for collections and few examples: `embed`, `similar`, `duplicates`, `map`, `suggest`, `teach`, `head export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import SOME_FAILED, Json, Model, RuntimeName, Threads, share
from audiorep.errors import ConfigError
from audiorep.escape import visible

if TYPE_CHECKING:
    from audiorep.audio.decode import Stretch
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
    vectors: Annotated[
        Path | None, typer.Option(help="File for all vectors of the index (.npy with a .csv beside it, or .parquet).")
    ] = None,
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="Build what similar --approximate asks, and measure how much it finds.")
    ] = False,
    model: Model = None,
    threads: Threads = None,
    runtime: RuntimeName = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Put what a model hears in a collection into an index, to search it."""
    from audiorep.embeddings import approximate, export
    from audiorep.embeddings.api import collect, named

    if neighbours:
        approximate.check()
    if vectors is not None:
        export.check(vectors)
    classifier = audiorep.load(model, threads, runtime)
    files = terminal.sounds_in(paths)
    with (
        terminal.stop_message("Stopped; the sounds that were heard to their end are in the index."),
        terminal.progress("Listening", terminal.total_seconds(files)) as advance,
    ):
        done = collect(files, output, classifier, named(model), advance)
    for failure in done.failures:
        terminal.say(f"Error: {failure.error}")
    if vectors is not None:
        with audiorep.Index(output) as index:
            terminal.say(f"Written: {visible(str(vectors))}, {export.write(index, vectors)} vectors")
    if neighbours:
        with audiorep.Index(output) as index:
            built = approximate.build(index, threads or 2)
        terminal.say(f"Neighbours of {built.rows} windows: {built.recall:.1%} of the exact first ten are found.")
    if as_json:
        print(json.dumps({"added": done.added, "kept": done.kept, "failed": len(done.failures)}))
    else:
        print(f"{_sounds(done.added)} added, {done.kept} were there already: {visible(str(output))}")
    if done.failures:
        raise typer.Exit(SOME_FAILED)


def _sounds(count: int) -> str:
    return f"{count} {'sound' if count == 1 else 'sounds'}"


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
        typer.Option("--output", "-o", help="File (.csv, .jsonl or .html with players), or folder for Audacity's labels."),
    ] = None,
    clips: Annotated[Path | None, typer.Option(help="Folder for the places as sound files (.flac).")] = None,
    around: Annotated[float, typer.Option(min=0, help="Seconds before and after each place in clips and players.")] = 1.0,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Ask the neighbours that embed --neighbours built; for millions of windows.")
    ] = False,
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
        found = audiorep.similar(
            searched, place, count, model_of(searched, model, threads), per_sound=not windows, approximate=approximate
        )
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


def duplicates(
    index: Annotated[Path, typer.Argument(help=INDEX_HELP, show_default=False)],
    above: Annotated[float, typer.Option(callback=share, help="Least likeness of two sounds.")] = 0.98,
    as_json: Json = False,
) -> None:
    """List the sounds that a collection holds twice: the same, encoded again, cut, or louder."""
    from audiorep.embeddings.duplicates import duplicates as pairs_of

    with audiorep.Index(index) as searched:
        pairs = pairs_of(searched, above)
    if as_json:
        rows = [{"first": str(pair.first), "second": str(pair.second), "score": round(pair.score, 4)} for pair in pairs]
        print(json.dumps(rows, ensure_ascii=False))
        return
    for pair in pairs:
        print(f"{pair.score:.3f}  {visible(str(pair.first))}  {visible(str(pair.second))}")
    terminal.say(f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} of sounds that are alike from beginning to end.")


def map_(
    index: Annotated[Path, typer.Argument(help=INDEX_HELP, show_default=False)],
    output: Annotated[
        list[Path], typer.Option("--output", "-o", help="Picture (.png) or page (.html); may be given several times.")
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Table with columns path and label, for the colours; default: the folders' names.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Colour each sound by the score of this label in its best window.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Model that gives the scores (.onnx); default: the index's own.")
    ] = None,
    method: Annotated[
        Literal["pca", "umap"], typer.Option(help="Principal components, or UMAP, which needs pip install 'audiorep[umap]'.")
    ] = "pca",
) -> None:
    """Draw a collection as a map on which sounds that are alike lie near each other."""
    from audiorep.embeddings import drawing, plane, scores
    from audiorep.files import write_text

    if model is not None and score is None:
        raise ConfigError("--model gives scores; name the label with --score.")
    for path in output:
        drawing.check(path)
    names = None if labels is None else plane.labels_of(labels)
    with audiorep.Index(index) as searched:
        scored = None if score is None else scores.of_label(searched, score, model)
        found = plane.of_index(searched, names, method, scored)
    title = f"A map of {len(found.paths)} sounds" if score is None else f"Scores of {score} in {len(found.paths)} sounds"
    for path in output:
        if path.suffix.lower() == ".png":
            drawing.draw(found, path, title)
        else:
            write_text(path, drawing.as_page(found, title))
        terminal.say(f"Written: {visible(str(path))}")


def suggest(
    index: Annotated[Path, typer.Argument(help=INDEX_HELP, show_default=False)],
    model: Annotated[Path, typer.Option("--model", "-m", help="Model that was taught the class.", show_default=False)],
    label: Annotated[str, typer.Option("--class", help="The class.", show_default=False)],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Places.")] = 20,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Table to fill in (.csv), or page with players (.html); may be given several times."
        ),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Table of an earlier round, filled in: its places are left out; may be given several times."),
    ] = None,
    around: Annotated[float, typer.Option(min=0, help="Seconds before and after each place in the players.")] = 1.0,
) -> None:
    """List the places of a collection that are worth a label next: likely and doubtful ones of a class that was taught."""
    from audiorep.embeddings import tables
    from audiorep.embeddings.suggest import labelled
    from audiorep.embeddings.suggest import suggest as places_of

    known = [place for table in labels or [] for places in labelled(table).values() for place in places]
    writers = [tables.suggestions_writer(path, label) for path in output or []]
    with audiorep.Index(index) as searched:
        found = places_of(searched, model, label, count, known)
    for write in writers:
        write(found, around)
    for row in found:
        place = f"{terminal.clock(row.start)} – {terminal.clock(row.end)}"
        print(f"{row.score:.2f}  {place}  {visible(str(row.path))}")
    if not found:
        terminal.say("Nothing is in the index but places that have a label.")


def teach(
    model: Annotated[Path, typer.Argument(help="Deployed model (.onnx), or nano or esc50.", show_default=False)],
    classes: Annotated[
        list[str] | None,
        typer.Argument(help="NAME=PATH for each new class: a folder, file or pattern with its clips.", show_default=False),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Model to write (.onnx).", show_default=False)],
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Table that suggest wrote, filled in; its label none is background; may be given several times."),
    ] = None,
    background: Annotated[
        list[Path] | None, typer.Option(help="Sounds of none of the classes; may be given several times.")
    ] = None,
    instead: Annotated[bool, typer.Option("--instead", help="Leave the old classes out.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Teach a model new classes from a few clips of each, in seconds."""
    given, others = _classes(classes or [], labels or [])
    with terminal.stop_message("Stopped; nothing was written."), terminal.progress("Listening", None) as advance:
        found = audiorep.teach(
            model, given, output, background=[*others, *(background or [])], instead=instead, on_progress=advance
        )
    if as_json:
        print(json.dumps(found.summary(), ensure_ascii=False))
    else:
        for row in found.classes:
            judged = (
                f", {row.right} told right by what the others taught" if found.accuracy is not None and row.clips > 1 else ""
            )
            print(f"{visible(row.name)}: {row.clips} {'clip' if row.clips == 1 else 'clips'}{judged}")
        if found.accuracy is not None:
            print(f"{found.accuracy:.0%} of the clips are told right.")
    for warning in found.warnings():
        terminal.say(f"Note: {warning}")
    for failure in found.failures:
        terminal.say(f"Error: {failure.error}")
    terminal.say(f"Written: {visible(str(output))}")
    if found.failures:
        raise typer.Exit(SOME_FAILED)


def _classes(words: list[str], tables: list[Path]) -> tuple[dict[str, list[Path | Stretch]], list[Path | Stretch]]:
    """({name: clips}, clips of no class), of words NAME=PATH and of tables; a name may come several times."""
    from audiorep.embeddings.suggest import NONE, labelled

    found: dict[str, list[Path | Stretch]] = {}
    for word in words:
        name, mark, path = word.partition("=")
        if not mark or not name or not path:
            raise ConfigError(f"{visible(word)} is no class; NAME=PATH is needed, such as jackdaw=clips/jackdaw.")
        found.setdefault(name, []).append(Path(path))
    for table in tables:
        for name, places in labelled(table).items():
            found.setdefault(name, []).extend(places)
    return found, found.pop(NONE, [])


def export(
    model: Annotated[Path, typer.Argument(help="Model that audiorep teach wrote.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write (.safetensors).", show_default=False)],
) -> None:
    """Write the layer of the classes that a model was taught, for other programs."""
    from audiorep.embeddings.head import export_head

    names = export_head(model, output)
    terminal.say(f"Written: {visible(str(output))}, {', '.join(map(visible, names))}")
