"""The command line of measurements that consist of figures, each of which replaces its own part of a file in results/."""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from audiorep.benchmark.environment import environment
from audiorep.files import write_json
from experiments.goals import Figure

ROOT = Path(__file__).resolve().parent.parent


def run(name: str, figures: Mapping[str, Callable[[bool], Figure]], about: str) -> None:
    """Measures one figure, or all, and writes what was found into results/NAME.json."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=[*figures, "all", "table"])
    parser.add_argument("--small", action="store_true", help="a miniature of a few seconds")
    parser.add_argument("--output", type=Path, help=f"default: results/{name}.json")
    given = parser.parse_args()
    usual = ROOT / "results" / f"{name}.json"
    path = given.output or (None if given.small else usual)
    if given.figure == "table":
        print(table(json.loads((path or usual).read_text())))
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would the children
    for each in figures if given.figure == "all" else [given.figure]:
        load = os.getloadavg()[0]
        figure = figures[each](given.small)
        print(f"{each}\n{figure}", flush=True)
        if path is not None:
            command = " ".join([f"python -m experiments.{name}", each, *(["--small"] if given.small else [])])
            keep(path, each, figure, load, command)


def keep(path: Path, name: str, figure: Figure, load: float, command: str) -> None:
    """Replaces a figure in the file, and leaves the others."""
    found = json.loads(path.read_text()) if path.exists() else {}
    found[name] = {
        "command": command,
        "goals": [goal.as_dict() for goal in figure.goals],
        "result": figure.details,
        "load_before": load,
        "environment": environment(),
    }
    write_json(path, found)


def table(found: dict[str, Any]) -> str:
    """The goals of all figures, a row each."""
    rows = [
        f"| `{name}` | {goal['goal']} | {'≥' if goal.get('at_least') else '≤'} {goal['limit']:g} "
        f"| {goal['measured']:.3g}{'' if goal['met'] else ' (**not met**)'} |"
        for name, record in found.items()
        for goal in record["goals"]
    ]
    return "\n".join(["| figure | what is measured | goal | measured |", "|---|---|---|---|", *rows])
