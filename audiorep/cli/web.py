"""The command `web`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import Json
from audiorep.escape import visible


def web(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…",
            help="Exported .onnx files, NAME=FILE, or nano or esc50, which are in the package; the first is the default.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the site; one that exists is brought up to date.", show_default=False),
    ],
    webgpu: Annotated[
        bool, typer.Option("--webgpu", help="Add ONNX Runtime's build with WebGPU, for devices on which it is faster.")
    ] = False,
    runtime: Annotated[
        Path | None,
        typer.Option(
            help="Folder dist of npm's package onnxruntime-web; default: fetched once from the registry, or from "
            "NPM_CONFIG_REGISTRY, and kept in the cache."
        ),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a folder with a page that recognizes sounds in the browser, for any web server: no sound leaves the device."""
    with terminal.stop_message("Stopped."):
        made = audiorep.web(models, output, webgpu=webgpu, runtime=runtime, say=terminal.say)
    if as_json:
        print(json.dumps({**vars(made), "path": str(made.path)}, ensure_ascii=False))
        return
    print(f"{visible(str(made.path))}: {made.files} files, {made.bytes / 1e6:.2f} MB, with {', '.join(made.models)}")
    terminal.say(f"To try it: python -m http.server --directory {visible(str(made.path))}, and open http://localhost:8000")
