"""Measures live listening through the real command, and keeps each figure in results/listen.json.

    python -m experiments.listen onset      from a sound to the line about it, in real time (10 minutes)
    python -m experiments.listen streams    32 live streams at four windows a second (3 minutes)
    python -m experiments.listen replay     24 hours of a stream as fast as they are heard: times and memory (10 minutes)
    python -m experiments.listen consumer   an hour of sound whose lines nobody reads: memory and lost lines (1 minute)
    python -m experiments.listen feeders    100 killed and 20 stalled connections: what is heard again, and when (2 minutes)
    python -m experiments.listen all        one after the other
    python -m experiments.listen table      what was measured, as a table for the documentation

Each replaces its own part of the file. `--small` is a miniature of a few seconds, and is not kept unless `--output` names a
file. Linux; `streams` and `feeders` need ffmpeg. Close other programs first.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audiorep.benchmark.environment import environment
from audiorep.files import write_json
from experiments.listen import consumer, feeders, onset, replay, streams
from experiments.listen.child import ROOT
from experiments.listen.goals import Figure

FIGURES: dict[str, Callable[[bool], Figure]] = {
    "onset": onset.measure,
    "streams": streams.measure,
    "replay": replay.measure,
    "consumer": consumer.measure,
    "feeders": feeders.measure,
}


def main() -> None:
    """Measures one figure, or all, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=[*FIGURES, "all", "table"])
    parser.add_argument("--small", action="store_true", help="a miniature of a few seconds")
    parser.add_argument("--output", type=Path, help="default: results/listen.json")
    given = parser.parse_args()
    path = given.output or (None if given.small else ROOT / "results" / "listen.json")
    if given.figure == "table":
        print(table(json.loads((path or ROOT / "results" / "listen.json").read_text())))
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would the children
    for name in FIGURES if given.figure == "all" else [given.figure]:
        load = os.getloadavg()[0]
        figure = FIGURES[name](given.small)
        print(f"{name}\n{figure}", flush=True)
        if path is not None:
            keep(path, name, figure, load, given.small)


def keep(path: Path, name: str, figure: Figure, load: float, small: bool) -> None:
    """Replaces a figure in the file, and leaves the others."""
    found = json.loads(path.read_text()) if path.exists() else {}
    found[name] = {
        "command": " ".join(["python -m experiments.listen", name, *(["--small"] if small else [])]),
        "goals": [goal.as_dict() for goal in figure.goals],
        "result": figure.details,
        "load_before": load,
        "environment": environment(),
    }
    write_json(path, found)


def table(found: dict[str, Any]) -> str:
    """The goals of all figures, a row each."""
    rows = [
        f"| `{name}` | {goal['goal']} | {goal['limit']:g} | {goal['measured']:.3g}{'' if goal['met'] else ' (**not met**)'} |"
        for name, record in found.items()
        for goal in record["goals"]
    ]
    return "\n".join(["| figure | what is measured | at most | measured |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    main()
