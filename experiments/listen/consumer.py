"""An hour of sound with very many events whose lines nobody reads: memory, hearing, and the count of what was lost."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.goals import Figure, Goal
from experiments.listen.child import Child, feed
from experiments.listen.sounds import CLIPS, Scene, scattered

RATE = 16_000
WARM_SECONDS = 120.0  # of sound, after which memory is taken for the first time
MOST_GROWTH_MB = 10.0
WORDS = ("-", "--rate", RATE, "--model", "nano", "--threshold", 0.02)
LOST = re.compile(r"(\d+) messages? for (.+) lost: ")


@dataclass(frozen=True)
class Run:
    """What came of an hour."""

    status: int
    lines: int
    """On standard output."""
    rows: int
    """In the file."""
    lost: dict[str, int]
    """{outlet: lines that the command said were lost}."""
    begun_mb: float
    most_mb: float
    seconds: float
    said: list[str]


def measure(small: bool) -> Figure:
    """The same sound with a reader and without one."""
    minutes = 3 if small else 60
    scene = Scene(scattered(CLIPS, RATE, 60 * minutes, (0.2, 1.5)))
    with tempfile.TemporaryDirectory() as folder:
        free, blocked = _with_reader(scene, minutes, Path(folder)), _blocked(scene, minutes, Path(folder))
    lost_lines, lost_rows = blocked.lost.get("standard output", 0), blocked.lost.get("fifo.jsonl", 0)
    lines = free.lines + free.lost.get("standard output", 0)  # the sound comes a hundred times faster than it lasts
    rows = free.rows + free.lost.get("rows.jsonl", 0)
    goals = [
        Goal("blocked: MB that memory grew", blocked.most_mb - blocked.begun_mb, MOST_GROWTH_MB),
        Goal("blocked: seconds for the sound, over those with a reader", blocked.seconds / free.seconds, 1.5),
        Goal("lines neither read nor counted as lost", abs(lines - blocked.lines - lost_lines), 0),
        Goal("rows of the file neither read nor counted as lost", abs(rows - blocked.rows - lost_rows), 0),
        Goal("exit status", blocked.status, 0),
    ]
    details = {
        "minutes_of_sound": minutes,
        "lines": lines,
        "rows": rows,
        "blocked": {"read_at_the_end": blocked.lines, "lost": blocked.lost, "most_mb": blocked.most_mb, "said": blocked.said},
        "with_a_reader": {"lost": free.lost, "growth_mb": free.most_mb - free.begun_mb, "seconds": free.seconds},
    }
    return Figure(goals, details)


def _with_reader(scene: Scene, minutes: int, folder: Path) -> Run:
    with Child(*WORDS, "-o", folder / "rows.jsonl") as child:
        held, seconds = _hour(child, scene, minutes)
        status = child.end()
    rows = (folder / "rows.jsonl").read_text().count("\n")
    return Run(status, len(child.lines), rows, _lost(child), held[0], max(held), seconds, child.said)


def _blocked(scene: Scene, minutes: int, folder: Path) -> Run:
    """Nobody reads standard output, nor the pipe that stands for a file, until the command has ended."""
    fifo = folder / "fifo.jsonl"
    os.mkfifo(fifo)
    place = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with Child(*WORDS, "-o", fifo, reads=False) as child:
            held, seconds = _hour(child, scene, minutes)
            status = child.end()
            assert child.process.stdout is not None
            lines, rows = child.process.stdout.read().count(b"\n"), _left(place).count(b"\n")
    finally:
        os.close(place)
    return Run(status, lines, rows, _lost(child), held[0], max(held), seconds, child.said)


def _hour(child: Child, scene: Scene, minutes: int) -> tuple[list[float], float]:
    """Writes the sound as fast as it is heard: the memory every minute after the first ones, and the seconds it took."""
    held: list[float] = []

    def pieces() -> Iterator[np.ndarray]:
        for number, piece in enumerate(scene.pieces(60 * minutes * RATE, RATE)):
            if number >= WARM_SECONDS and number % 60 == 0:
                held.append(child.memory_mb)
            yield piece

    begun = time.monotonic()
    feed(child.stdin, pieces(), None)
    return [*held, child.memory_mb], time.monotonic() - begun


def _lost(child: Child) -> dict[str, int]:
    """What it said, once a minute and at the end."""
    found: Counter[str] = Counter()
    for line in child.said:
        if match := LOST.search(line):
            found[Path(match[2]).name] += int(match[1])
    return dict(found)


def _left(place: int) -> bytes:
    """What a pipe still holds."""
    content = b""
    while more := os.read(place, 1 << 16):
        content += more
    return content
