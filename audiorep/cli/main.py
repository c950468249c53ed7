"""The command line: its commands, and how errors and signals end it."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperGroup

import audiorep
from audiorep import interrupts
from audiorep.cli import (
    bench,
    calibrate,
    collection,
    compress,
    data,
    deploy,
    listen,
    models,
    predict,
    search,
    serve,
    terminal,
    train,
    tune_events,
    web,
)
from audiorep.cli.options import DONE, SOME_FAILED, WRONG_USAGE
from audiorep.errors import AudiorepError


class _Commands(TyperGroup):
    """The commands. When one is stopped, the notes of its exception say which results were saved."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; Ctrl-C, SIGTERM and SIGHUP end it with one line and the exit status of a shell."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            terminal.say(" ".join(getattr(stop, "__notes__", ["Stopped."])))
            raise typer.Exit(INTERRUPTED) from None


INTERRUPTED = 128 + signal.SIGINT  # the exit status that a shell gives after Ctrl-C
WRITE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF}
"""Errors that mean, without the name of a file, that the standard output cannot be written."""

app = typer.Typer(
    cls=_Commands,
    help="Recognize sounds fast on small machines.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Check and copy data sets.", no_args_is_help=True, rich_markup_mode=None)
models_app = typer.Typer(help="Show networks and models.", no_args_is_help=True, rich_markup_mode=None)
head_app = typer.Typer(help="Take the layer of taught classes elsewhere.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")
app.add_typer(head_app, name="head")

for command in (
    predict.predict,
    listen.listen,
    serve.serve,
    collection.embed,
    collection.similar,
    collection.duplicates,
    collection.suggest,
    collection.teach,
    train.train,
    train.distil,
    predict.evaluate,
    calibrate.calibrate,
    tune_events.tune_events,
    deploy.export,
    deploy.fuse,
    compress.quantize,
    compress.prune,
    compress.low_rank,
    compress.compress,
    compress.verify,
    bench.bench,
    search.search,
    deploy.doctor,
    web.web,
):
    app.command()(command)
app.command("import")(train.import_)
app.command("map")(collection.map_)
head_app.command()(collection.export)
data_app.command()(data.check)
data_app.command()(data.prepare)
models_app.command("list")(models.list_)
models_app.command()(models.info)


def main() -> None:
    """Runs the command line; an error of the input becomes one sentence and exit status 2."""
    _open_streams()
    with interrupts.catch_signals() as signals:
        try:
            _run()
        except AudiorepError as error:
            _exit_with_error(str(error))
        except BrokenPipeError:  # the program that read our output has ended
            _discard_buffer(sys.stdout)
            sys.exit(SOME_FAILED)
        except OSError as error:
            _discard_buffer(sys.stdout)
            stream = "The standard output cannot be written" if error.errno in WRITE_ERRNOS else "A file cannot be used"
            _exit_with_error(f"{f'{error.filename} cannot be used' if error.filename else stream}: {error.strerror or error}.")
        except SystemExit as end:
            sys.exit(INTERRUPTED - signal.SIGINT + signals[0] if signals and end.code == INTERRUPTED else end.code)
        except BaseException:
            if not signals:
                raise
            terminal.say("Stopped.")  # a library turned the interrupt into an error of its own
            sys.exit(INTERRUPTED - signal.SIGINT + signals[0])


def _run() -> None:
    try:
        app(prog_name="audiorep")
    except SystemExit:
        sys.stdout.flush()  # an error of this write is reported here, and not by the interpreter as it ends
        raise


def _exit_with_error(sentence: str) -> NoReturn:
    with suppress(OSError):  # the error stream cannot be written either
        terminal.say(f"Error: {sentence}")
    sys.exit(WRONG_USAGE)


def _open_streams() -> None:
    """Lets both streams accept any text, and opens closed streams on the null device.

    The next file that is opened would otherwise get the descriptor of a closed stream.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be valid text


def _discard_buffer(stream: TextIO) -> None:
    """Sends buffered output that cannot be written to the null device, or the interpreter would try again as it ends."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(audiorep.__version__)
        raise typer.Exit(DONE)


if __name__ == "__main__":
    main()
