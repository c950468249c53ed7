"""The command `serve`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import Threads
from audiorep.serve.config import ServeConfig, read_token

DEFAULT = ServeConfig()


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models, each a file, a checkpoint folder, a name in the package, or NAME=FILE; the first is the default. "
            "Default: nano and esc50.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = DEFAULT.host,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0: any that is free.")] = DEFAULT.port,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with a session of every model.")] = DEFAULT.workers,
    threads: Threads = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File whose first line clients must send as a token; other addresses need one.")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let everyone on the network ask without a token.")] = False,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file of a certificate, for https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="Web site whose pages may ask, such as https://example.org; may be given several times."),
    ] = None,
    body_bytes: Annotated[int, typer.Option(min=1, help="Largest request.")] = DEFAULT.body_bytes,
    seconds: Annotated[float, typer.Option(help="Longest sound.")] = DEFAULT.seconds,
    channels: Annotated[int, typer.Option(min=1, help="Most channels of a sound.")] = DEFAULT.channels,
    rate: Annotated[int, typer.Option(min=1, help="Highest sample rate of a sound in Hz.")] = DEFAULT.rate,
    queue: Annotated[
        int, typer.Option(min=1, help="Requests at a time in each process; more are answered 429.")
    ] = DEFAULT.queue,
    sockets: Annotated[int, typer.Option(min=1, help="Live streams at a time in each process.")] = DEFAULT.sockets,
    idle_seconds: Annotated[
        float, typer.Option(help="Longest silence of a client that has more to send, or that does not read.")
    ] = DEFAULT.idle_seconds,
    total_seconds: Annotated[float, typer.Option(help="Longest time for one request.")] = DEFAULT.total_seconds,
    drain_seconds: Annotated[
        float, typer.Option(help="Time to answer what is being heard, at the end.")
    ] = DEFAULT.drain_seconds,
    batch_windows: Annotated[
        int, typer.Option(min=0, help="Windows that the model hears at once; 0: what suits the device.")
    ] = DEFAULT.batch_windows,
    wait_seconds: Annotated[
        float, typer.Option(help="Time in which a batch may fill; negative: what suits the device.")
    ] = DEFAULT.wait_seconds,
    no_log: Annotated[bool, typer.Option("--no-log", help="Write no line for each request.")] = False,
    openapi: Annotated[bool, typer.Option("--openapi", help="Print the description of the API as JSON, and end.")] = False,
) -> None:
    """Serve models over HTTP and WebSockets, with a page for people."""
    from audiorep.serve.api import openapi as description

    if openapi:
        print(json.dumps(description(models or ()), ensure_ascii=False, indent=2))
        return
    config = ServeConfig(
        host,
        port,
        workers,
        threads or 0,
        "" if token_file is None else read_token(token_file),
        insecure,
        str(tls_certificate or ""),
        str(tls_key or ""),
        tuple(cors or ()),
        body_bytes,
        seconds,
        channels,
        rate,
        queue,
        sockets,
        idle_seconds,
        total_seconds,
        drain_seconds,
        batch_windows,
        wait_seconds,
        not no_log,
    )
    audiorep.serve(models or (), config, lambda address: terminal.say(f"Serving at {address} (Ctrl-C ends it)"))
