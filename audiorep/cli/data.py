"""Data sets looked at and copied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from audiorep.cli import terminal
from audiorep.cli.options import DONE, SOME_FAILED, DataRoot, Folds, Format, Json, ValidFolds
from audiorep.errors import ConfigError, DataError


def check(
    data: DataRoot,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Every problem as .csv or .json.")] = None,
    shortest: Annotated[float, typer.Option(min=0.0, help="Clips below these seconds are too short.")] = 0.1,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:
    """Find what is wrong with a data set: unreadable, silent, clipped, duplicate, leaking … Exit status 1 if anything is."""
    from audiorep import datasets
    from audiorep.datasets import shards
    from audiorep.datasets.problems import damaged_shards, find_problems, write

    if output is not None and output.suffix not in (".csv", ".json"):
        raise ConfigError(f"{output}: problems are written as .csv or .json.")
    splits = datasets.Splits(valid_folds=tuple(valid_fold or ()), test_folds=tuple(test_fold or ()))
    damaged = damaged_shards(data) if data_format in (None, "shards") and shards.is_at(data) else []
    try:
        examples = datasets.examples(data, format=data_format, splits=splits)
    except DataError:
        if not damaged:
            raise
        examples = []  # a shard is missing or cut off: its clips, and what they share with others, cannot be told
    terminal.say_notes(data, data_format)
    with terminal.progress("Checking", len(examples)) as advance:
        problems = [*damaged, *find_problems(examples, shortest, advance)]
    if output is not None:
        write(problems, output)
    if as_json:
        print(json.dumps([vars(problem) for problem in problems], ensure_ascii=False))
    else:
        terminal.show_problems(examples, problems)
    raise typer.Exit(SOME_FAILED if problems else DONE)


def prepare(
    data: DataRoot,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the shards; a stopped run there goes on.", show_default=False)
    ],
    sample_rate: Annotated[int, typer.Option(min=1, help="Hz of the clips in the shards.")] = 16_000,
    shard_clips: Annotated[int, typer.Option(min=1, help="Clips in each shard.")] = 1000,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a processor.")] = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:
    """Copy a data set into a few large tar files of mono FLAC (WebDataset), which train faster from slow or far disks."""
    from audiorep import datasets
    from audiorep.datasets import shards
    from audiorep.datasets.prepare import prepare as copy

    try:
        examples = datasets.listed_examples(data, data_format)
        terminal.say_notes(data, data_format)
        with terminal.progress("Preparing", len(examples)) as advance:
            done = copy(examples, datasets.labels(data, data_format), output, sample_rate, shard_clips, workers, advance)
        with terminal.progress("Reading back", done.clips) as advance:
            faults = shards.verify(output, advance)
    except KeyboardInterrupt as stop:
        stop.add_note("Stopped; the same command goes on.")
        raise
    if as_json:
        print(json.dumps({"clips": done.clips, "shards": len(done.shards), "bytes": done.bytes, "failed": len(done.failures)}))
    else:
        print(f"{done.clips} clips in {len(done.shards)} shards, {done.bytes / 1e6:.1f} MB: {output}")
    for text in [*(failure.error for failure in done.failures[:5]), *(f"{path} {fault}" for path, fault in faults.items())]:
        terminal.say(f"Error: {text}")
    if done.failures:
        terminal.say(f"{len(done.failures)} of {len(examples)} clips could not be read; {output / shards.INDEX} lists them.")
    raise typer.Exit(SOME_FAILED if done.failures or faults else DONE)
