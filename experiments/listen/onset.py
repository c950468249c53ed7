"""How long after a sound the line about it comes out, from samples that are written to the command in real time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import audiorep
from experiments.goals import Figure, Goal, p99, spread
from experiments.listen.child import Child, feed
from experiments.listen.sounds import CLIPS, Placed, Scene, scattered

RATE, PIECE = 16_000, 320
START_SECONDS = 5.0  # of quiet, in which the command starts
MOST_SECONDS = 0.1  # beyond a hop
SETTINGS = {"nano": 'on = 0.1\ndeny = ["Silence"]\n', "esc50": "on = 0.1\n"}
"""Low thresholds make many events."""


def measure(small: bool) -> Figure:
    """Both models, each alone; in miniature one."""
    seconds, models = (6.0, ["nano"]) if small else (300.0, list(SETTINGS))
    found = {model: _measure(model, seconds) for model in models}
    goals = [
        Goal(
            f"{model}: seconds from the sample that decides to the line, p99",
            p99(found[model]["decided_to_line"]),
            audiorep.load(model).info.hop_seconds + MOST_SECONDS,
        )
        for model in models
    ]
    rows = {
        model: {name: spread(values) if isinstance(values, list) else values for name, values in row.items()}
        for model, row in found.items()
    }
    return Figure(goals, {"seconds": seconds, "piece_ms": 1000 * PIECE / RATE, **rows})


def _measure(model: str, seconds: float) -> dict[str, Any]:
    placed = [
        Placed(each.name, each.first + round(START_SECONDS * RATE), each.samples)
        for each in scattered(CLIPS, RATE, seconds, (1.0, 2.5))
    ]
    total = round((seconds + START_SECONDS) * RATE)
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.toml"
        events.write_text(SETTINGS[model])
        with Child("-", "--rate", RATE, "--model", model, "--events", events) as child:
            written = feed(child.stdin, Scene(placed).pieces(total, PIECE), RATE)
            status = child.end()
    assert status == 0, child.said
    begun = [line for line in child.lines if line.begins]
    last = {line.values["decided"]: line.at for line in begun}  # of several events in a window, the last line
    first_lines = [_first(each, last) for each in placed]
    return {
        "decided_to_line": [line.at - written[_piece(line.values["decided"])] for line in begun],
        "onset_to_line": [at - written[p.first // PIECE] for p, at in zip(placed, first_lines, strict=True) if at is not None],
        "sounds": len(placed),
        "sounds_without_event": first_lines.count(None),
        "windows_that_decide": len(last),
    }


def _piece(seconds: float) -> int:
    """The piece with the last sample before a time."""
    return (round(seconds * RATE) - 1) // PIECE


def _first(each: Placed, last: dict[float, float]) -> float | None:
    """When the first event was told that was decided while a sound was heard, or in the window behind it."""
    inside = (at for decided, at in last.items() if each.first < decided * RATE <= each.end + RATE)
    return next(inside, None)
