"""The command line: its commands by name, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

import audiorep
from audiorep import screen
from audiorep.commands import bench, compression, data, deploy, models, recognise, searching, training
from audiorep.commands.options import DONE, SOME_FAILED, WRONG_USAGE
from audiorep.errors import AudiorepError

app = typer.Typer(
    help="Recognise sounds fast on small machines.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True, rich_markup_mode=None)
models_app = typer.Typer(help="Look at networks and models.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")

for command in (
    recognise.predict,
    training.train,
    training.distil,
    recognise.evaluate,
    deploy.export,
    deploy.fuse,
    compression.quantize,
    compression.prune,
    compression.low_rank,
    compression.compress,
    compression.verify,
    bench.bench,
    searching.search,
    deploy.doctor,
):
    app.command()(command)
app.command("import")(training.import_)
data_app.command()(data.check)
data_app.command()(data.prepare)
models_app.command("list")(models.list_)
models_app.command()(models.info)


def main() -> None:
    """Runs the command line; what is refused becomes one sentence and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        app(prog_name="audiorep")
    except AudiorepError as error:
        screen.say(f"Error: {error}")
        sys.exit(WRONG_USAGE)
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(SOME_FAILED)
    except OSError as error:
        screen.say(f"Error: {error.filename or 'a file'} cannot be used: {error.strerror or error}.")
        sys.exit(WRONG_USAGE)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(audiorep.__version__)
        raise typer.Exit(DONE)


if __name__ == "__main__":
    main()
