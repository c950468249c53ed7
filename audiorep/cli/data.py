"""The commands `data check` and `data prepare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import DONE, SOME_FAILED, DataRoot, Folds, Format, Json, ValidFolds, data_set
from audiorep.errors import ConfigError


def check(
    data: DataRoot,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File for all problems: .csv or .json.")] = None,
    shortest: Annotated[float, typer.Option(min=0.0, help="Length in seconds below which a clip is too short.")] = 0.1,
    test_fold: Folds = None,
    valid_fold: ValidFolds = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:
    """Find problems of a data set: unreadable, silent, clipped, duplicate, leaking clips … Exit status 1 if there are any."""
    from audiorep.datasets.problems import write

    if output is not None and output.suffix not in (".csv", ".json"):
        raise ConfigError(f"{output} must end in .csv or .json.")
    place = data_set(data, data_format, test_fold, valid_fold)
    checked = audiorep.check_data(place, shortest_seconds=shortest, say=terminal.say, progress=terminal.progress)
    if output is not None:
        write(checked.problems, output)
    if as_json:
        print(json.dumps([vars(problem) for problem in checked.problems], ensure_ascii=False))
    else:
        terminal.show_problems(checked)
    raise typer.Exit(SOME_FAILED if checked.problems else DONE)


def prepare(
    data: DataRoot,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the shards; a stopped run in it is continued.", show_default=False),
    ],
    sample_rate: Annotated[int, typer.Option(min=1, help="Sample rate of the clips in the shards, in Hz.")] = 16_000,
    shard_clips: Annotated[int, typer.Option(min=1, help="Clips in each shard.")] = 1000,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each processor.")] = None,
    data_format: Format = None,
    as_json: Json = False,
) -> None:
    """Copy a data set into large tar files of mono FLAC (WebDataset), which train faster from slow disks and networks."""
    with terminal.stop_message("Stopped; the same command continues."):
        made = audiorep.prepare_data(
            audiorep.Data(data, data_format),
            output,
            sample_rate=sample_rate,
            shard_clips=shard_clips,
            workers=workers,
            say=terminal.say,
            progress=terminal.progress,
        )
    done, failures = made.shards, made.shards.failures
    if as_json:
        print(json.dumps({"clips": done.clips, "shards": len(done.shards), "bytes": done.bytes, "failed": len(failures)}))
    else:
        print(f"{done.clips} clips in {len(done.shards)} shards, {done.bytes / 1e6:.1f} MB: {output}")
    for text in [*(failure.error for failure in failures[:5]), *(f"{path} {fault}" for path, fault in made.faults.items())]:
        terminal.say(f"Error: {text}")
    if failures:
        terminal.say(f"{len(failures)} of {done.clips + len(failures)} clips could not be read; {made.index} lists them.")
    raise typer.Exit(SOME_FAILED if failures or made.faults else DONE)
