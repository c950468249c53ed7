"""The commands `models list` and `models info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import audiorep
from audiorep.cli import terminal
from audiorep.cli.options import Json
from audiorep.errors import MissingExtraError, require
from audiorep.escape import visible


def list_(as_json: Json = False) -> None:
    """List the models in the package, and the architectures with their parameters and multiply-accumulates (MACs)."""
    from audiorep.shipped import SHIPPED

    ready: list[dict[str, Any]] = [
        {"name": row.name, "bytes": row.file.stat().st_size, "about": row.about} for row in SHIPPED.values()
    ]
    kinds = _architectures()
    if as_json:
        print(json.dumps({"models": ready, "architectures": kinds}, ensure_ascii=False))
        return
    shown = [[row["name"], f"{row['bytes'] / 1e6:.1f} MB", row["about"]] for row in ready]
    terminal.show_table(["in the package", "file", "recognizes"], shown, right={1})
    print("audiorep predict SOUNDS --model NAME\n")
    if kinds:
        cells = [[row["name"], f"{row['parameters']:,}", f"{row['macs'] / 1e9:.3f} G", row["about"]] for row in kinds]
        terminal.show_table(["architecture", "parameters", "MACs", "about"], cells, right={1, 2})
        print("309 classes, input 512×128, before merging; audiorep fuse shows what merging saves")


def _architectures() -> list[dict[str, Any]]:
    """A row for each architecture whose packages are installed; of the others a sentence is said."""
    try:
        require("torch", extra="train")
    except MissingExtraError as error:
        terminal.say(f"The architectures are left out. {error}")
        return []
    rows = []
    for row in audiorep.models.overview():
        if row.cost is None:
            terminal.say(f"{row.name} is left out. {row.missing}")
        else:
            rows.append({"name": row.name, "parameters": row.cost.parameters, "macs": row.cost.macs, "about": row.about})
    return rows


def info(
    path: Annotated[
        Path | None,
        typer.Argument(help="Deployed model (.onnx), checkpoint folder, or a name that models list shows; default: nano."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the description of a model: labels, sample rate, window, front end, license, provenance."""
    from audiorep import shipped

    classifier = audiorep.load(path)
    about = classifier.info
    values = {
        **vars(about),
        "task": about.task,
        "path": str(shipped.file_of(path or shipped.DEFAULT)),
        "runs_on": classifier.session.device,
    }
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
