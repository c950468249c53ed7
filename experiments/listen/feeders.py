"""What is heard when connections are killed and stall: how soon it goes on, and whether a sound is lost or told twice."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.goals import Figure, Goal, spread
from experiments.listen import markers
from experiments.listen.child import Child, Line
from experiments.listen.server import RATE, Connection, Server
from experiments.listen.sounds import Placed, Scene

BACK_SECONDS = 2.0  # within which sound is heard again once there is some
CONNECTED = (0.2, 6.0)  # seconds from the first sound of a connection to the next trouble
SILENT = (6.0, 12.0)  # seconds that a stall lasts; after 5 a connection is given up
ROUNDED = 1e-5  # seconds: times are told to the microsecond, and a stretch begins at a sum of two
LONGEST_SECONDS = 40.0  # to wait for sound
EARLY, LATE = markers.HOP_SECONDS + 0.03, 0.05  # of the beginning of an event against that of its tone


@dataclass(frozen=True)
class Trouble:
    """A connection that was killed or stalled."""

    kind: str
    data_at: float
    """When there was sound again."""
    back_at: float
    """When the line about the gap came out, with the first samples behind it."""


@dataclass(frozen=True)
class Stretch:
    """What was heard over one connection."""

    connection: Connection
    start: float
    """Seconds of the source's sound."""
    seconds: float

    @property
    def first(self) -> int:
        """Its first sample in the channel."""
        return self.connection.first

    @property
    def end(self) -> int:
        """The sample of the channel behind its last."""
        return self.first + round(self.seconds * RATE)


@dataclass
class Counts:
    """Tones against events."""

    tones: int = 0
    lost: int = 0
    doubled: int = 0
    cut_tones: int = 0
    """Tones of which a gap took a part; they may have an event or not."""
    strange_events: int = 0
    """Events of no tone that was heard."""
    gap_errors: list[float] = field(default_factory=list)
    """Seconds by which gaps were told too long or too short."""
    unheard: list[float] = field(default_factory=list)
    """Seconds that were sent before a gap and never came out of ffmpeg."""


def measure(small: bool) -> Figure:
    """All sources at the same time, each with its own troubles."""
    sources, kills, stalls = (2, 2, 1) if small else (10, 10, 2)
    names = [f"source{number}" for number in range(sources)]
    scenes = {name: Scene(markers.in_turn(1200, RATE, number)) for number, name in enumerate(names)}
    with tempfile.TemporaryDirectory() as folder, Server(scenes) as server:
        markers.write_model(Path(folder) / "tones.onnx")
        words = ("--model", Path(folder) / "tones.onnx", "--threshold", 0.5)
        with Child(*(server.address(name) for name in names), *words) as child:
            troubles = _make_trouble(server, child, names, kills, stalls)
            child.end(interrupt=True)
    assert child.process.returncode == 130, child.said
    counts = Counts()
    for name in names:
        _count(
            counts, scenes[name].placed, [each for each in child.lines if each.values["source"].endswith(name)], server, name
        )
    return _figure(troubles, counts, sources)


def _figure(troubles: list[Trouble], counts: Counts, sources: int) -> Figure:
    back = {kind: [t.back_at - t.data_at for t in troubles if t.kind == kind] for kind in ("closed", "killed", "stalled")}
    goals = [
        Goal(f"{kind} connections: seconds until heard again, most", max(values), BACK_SECONDS)
        for kind, values in back.items()
        if values
    ]
    goals += [
        Goal("tones without an event", counts.lost, 0),
        Goal("tones with two events", counts.doubled, 0),
        Goal("events of no tone", counts.strange_events, 0),
    ]
    errors = counts.gap_errors
    details: dict[str, Any] = {
        "sources": sources,
        "back_seconds": {kind: spread(values) for kind, values in back.items()},
        "tones_heard_wholly": counts.tones,
        "tones_cut_by_a_gap": counts.cut_tones,
        "gap_error_seconds": {**spread([abs(error) for error in errors]), "mean": round(sum(errors) / len(errors), 4)},
        "sent_and_unheard_seconds": spread(counts.unheard),
    }
    return Figure(goals, details)


def _make_trouble(server: Server, child: Child, names: list[str], kills: int, stalls: int) -> list[Trouble]:
    """Starts all sources, troubles each, and gives what was done."""
    found: list[Trouble] = []
    assert child.wait_for(lambda: all(_is_heard(server, name) for name in names), LONGEST_SECONDS), child.said
    assert child.wait_for(lambda: len(_begun(child)) == len(names), LONGEST_SECONDS), child.said

    def trouble(name: str, seed: int) -> None:
        generator = random.Random(seed)
        kinds = ["stalled"] * stalls + [("closed", "killed")[number % 2] for number in range(kills)]
        generator.shuffle(kinds)
        for kind in kinds:
            found.append(_trouble(server, child, name, kind, generator))
            time.sleep(generator.uniform(*CONNECTED))

    threads = [threading.Thread(target=trouble, args=(name, seed)) for seed, name in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(names) * (kills + stalls), "a source did not come back"
    return found


def _begun(child: Child) -> set[str]:
    """Sources of which a sound was told: a first connection that ends before is an error."""
    return {line.values["source"] for line in list(child.lines)}


def _is_heard(server: Server, name: str) -> bool:
    connections = server.channels[name].connections
    return bool(connections and connections[-1].sent)


def _trouble(server: Server, child: Child, name: str, kind: str, generator: random.Random) -> Trouble:
    """One trouble, from its beginning until its source is heard again."""
    channel, begun = server.channels[name], time.monotonic()
    if kind == "stalled":
        channel.silent.set()
        time.sleep(generator.uniform(*SILENT))
        channel.silent.clear()
    elif kind == "closed":
        channel.cut()
    else:
        for number, command in child.children().items():
            if server.address(name) + " " in command:
                os.kill(number, signal.SIGKILL)
    data_at = begun if kind != "stalled" else time.monotonic()

    def gaps() -> list[Line]:
        return [x for x in list(child.lines) if x.at > begun and x.is_gap and x.values["source"].endswith(name)]

    assert child.wait_for(lambda: bool(gaps()), LONGEST_SECONDS), f"{name} was {kind} and is not heard again: {child.said}"
    return Trouble(kind, data_at, gaps()[0].at)


def _count(counts: Counts, tones: list[Placed], lines: list[Line], server: Server, name: str) -> None:
    """Adds what a source's lines say about its tones."""
    stretches = list(_stretches(lines, server.channels[name].connections))
    ended = [line.values for line in lines if line.ends]
    for stretch in stretches:
        events = [event for event in ended if stretch.start - ROUNDED <= event["start"] < stretch.start + stretch.seconds]
        begun = sum(stretch.start - ROUNDED <= x.values["start"] < stretch.start + stretch.seconds for x in lines if x.begins)
        counts.strange_events += abs(begun - len(events))
        for tone in [tone for tone in tones if tone.first < stretch.end and tone.end > stretch.first]:
            own = [event for event in events if _is_of(event, tone, stretch)]
            events = [event for event in events if event not in own]
            if tone.first >= stretch.first and tone.end <= stretch.end:
                counts.tones += 1
                counts.lost += not own
                counts.doubled += len(own) > 1
            else:
                counts.cut_tones += 1
        counts.strange_events += len(events)
        counts.unheard.append((stretch.connection.sent[-1] - stretch.end) / RATE)
    told = [line.values["gap_seconds"] for line in lines if line.is_gap]
    for before, after, seconds in zip(stretches, stretches[1:], told, strict=False):
        counts.gap_errors.append(seconds - (after.first - before.end) / RATE)


def _is_of(event: dict[str, Any], tone: Placed, stretch: Stretch) -> bool:
    """Whether an event is of a tone, and begins with the new part of the first window that holds some of it."""
    first = stretch.start + (tone.first - stretch.first) / RATE
    is_first_window = abs(event["start"] - stretch.start) < ROUNDED and first < stretch.start + markers.WINDOW_SECONDS
    return event["label"] == tone.name and (is_first_window or -EARLY < event["start"] - first < LATE)


def _stretches(lines: list[Line], connections: list[Connection]) -> Iterator[Stretch]:
    """What was heard before each gap, and over which connection: the newest when the gap before it was told."""
    start, known = 0.0, next(each for each in connections if each.sent)
    for line in [line for line in lines if line.is_gap]:
        yield Stretch(known, start, line.values["seconds"] - start)
        start = line.values["seconds"] + line.values["gap_seconds"]
        with suppress(IndexError):
            known = [each for each in connections if each.sent and each.times[0] < line.at][-1]
