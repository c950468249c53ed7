"""The commands `models list` and `models info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import Json
from audiorep.errors import require
from audiorep.escape import visible


def list_(as_json: Json = False) -> None:
    """List the architectures, with their parameters and multiply-accumulates (MACs) at the paper's input."""
    require("torch", extra="train")
    rows = []
    for row in audiorep.models.overview():
        if row.cost is None:
            terminal.say(f"{row.name} is left out. {row.missing}")
        else:
            rows.append((row.name, row.cost.parameters, row.cost.macs, row.about))
    if as_json:
        print(json.dumps([dict(zip(("name", "parameters", "macs", "about"), row, strict=True)) for row in rows]))
        return
    cells = [[name, f"{parameters:,}", f"{macs / 1e9:.3f} G", about] for name, parameters, macs, about in rows]
    terminal.show_table(["name", "parameters", "MACs", "about"], cells, right={1, 2})
    print("309 classes, input 512×128, before merging; audiorep fuse shows what merging saves")


def info(
    path: Annotated[
        Path | None, typer.Argument(help="Deployed model (.onnx) or checkpoint folder; default: the model in the package.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the description of a model: labels, sample rate, window, front end, license, provenance."""
    from audiorep.predict.classifier import BUNDLED

    classifier = audiorep.load(path)
    about = classifier.info
    values = {**vars(about), "task": about.task, "path": str(path or BUNDLED), "runs_on": classifier.session.device}
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
        return
    for key, value in values.items():
        if key == "labels":
            for head, labels in about.labels.items():
                print(f"{'labels ' + head:<16} {len(labels)}: {', '.join(map(visible, labels))}")
        elif value not in ({}, ""):
            text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
            print(f"{key:<16} {visible(text)}")
