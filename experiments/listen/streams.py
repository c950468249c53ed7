"""What 32 live streams at four windows a second cost, how late they are heard, and whether all of them is."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from experiments.goals import Figure, Goal, p99, spread
from experiments.listen.child import Child, Line, cpu_seconds
from experiments.listen.server import RATE, Connection, Server
from experiments.listen.sounds import CLIPS, Scene, scattered

HOP_SECONDS, WINDOW_SECONDS = 0.25, 0.975
MOST_SHARE = 0.5  # of two cores
MOST_SECONDS = HOP_SECONDS + 0.1
START_SECONDS = 60.0  # in which all must be heard
SETTLE_SECONDS = 10.0  # between the last source's first sound and the measurement: what waited at the start is heard


def measure(small: bool) -> Figure:
    """All streams through ffmpeg, in one process of ours."""
    count, seconds, settle = (4, 6.0, 2.0) if small else (32, 120.0, SETTLE_SECONDS)
    names = [f"stream{number:02}" for number in range(count)]
    scenes = {name: Scene(scattered(CLIPS, RATE, 600, (0.5, 6.0), number)) for number, name in enumerate(names)}
    with Server(scenes) as server:
        words = [server.address(name) for name in names]
        with Child(*words, "--model", "nano", "--hop", HOP_SECONDS) as child:
            assert child.wait_for(lambda: _heard(server) == count, START_SECONDS), child.said
            time.sleep(settle)
            cost = _cost(child, seconds)
            for channel in server.channels.values():
                channel.cut()  # its line about the gap says how much was heard
            ended = child.wait_for(lambda: len(_first_gaps(child)) == count, START_SECONDS)
            child.end(interrupt=True)
        assert ended, child.said
        connections = {address: server.channels[name].connections[0] for name, address in zip(names, words, strict=True)}
    return _figure(child, connections, cost, count)


def _figure(child: Child, connections: dict[str, Connection], cost: dict[str, float], count: int) -> Figure:
    gaps = _first_gaps(child)
    unheard = [(each.sent[-1] - each.first) / RATE - gaps[name].values["seconds"] for name, each in connections.items()]
    slow = sum("too slow" in line.values["reason"] for line in child.lines if line.is_gap)
    begun = [line for line in child.lines if line.begins and 0 < line.at - cost["begun"] < cost["seconds"]]
    delays = [_delay(line, connections[line.values["source"]]) for line in begun]
    share = cost["ours"] / cost["seconds"] / 2
    goals = [
        Goal("share of two processor cores", share, MOST_SHARE),
        Goal("gaps because the model was too slow", slow, 0),
        Goal("seconds of a stream that were sent and not heard, most", max(unheard), 0.1),
        Goal("seconds from the sample that decides to the line, p99", p99(delays), MOST_SECONDS),
    ]
    details: dict[str, Any] = {
        "streams": count,
        "hop_seconds": HOP_SECONDS,
        "seconds": cost["seconds"],
        "windows_heard": sum(_windows(line.values["seconds"]) for line in gaps.values()),
        "share_of_two_cores_of_ffmpeg": cost["ffmpeg"] / cost["seconds"] / 2,
        "share_of_two_cores_of_the_server": cost["server"] / cost["seconds"] / 2,
        "memory_mb": cost["memory_mb"],
        "decided_to_line": spread(delays),
        "events": dict(Counter(line.values["label"] for line in begun).most_common(5)),
    }
    return Figure(goals, details)


def _heard(server: Server) -> int:
    """Streams of which something was sent."""
    return sum(bool(channel.connections and channel.connections[0].sent) for channel in server.channels.values())


def _first_gaps(child: Child) -> dict[str, Line]:
    """{source: the line about its first gap}."""
    return {line.values["source"]: line for line in reversed(child.lines) if line.is_gap}


def _cost(child: Child, seconds: float) -> dict[str, float]:
    """Processor time of our process, of its ffmpegs and of this one, which serves, in so many seconds."""
    feeders = list(child.children())
    clocks: dict[str, Callable[[], float]] = {
        "ours": lambda: child.cpu_seconds,
        "ffmpeg": lambda: sum(map(cpu_seconds, feeders)),
        "server": lambda: cpu_seconds(os.getpid()),
    }
    before, begun = {name: clock() for name, clock in clocks.items()}, time.monotonic()
    time.sleep(seconds)
    used = {name: clock() - before[name] for name, clock in clocks.items()}
    return {**used, "seconds": time.monotonic() - begun, "begun": begun, "memory_mb": child.memory_mb}


def _delay(line: Line, connection: Connection) -> float:
    """From when the last sample of the window that decided was sent; ffmpeg's share is part of it."""
    return line.at - connection.time_of(connection.first + round(line.values["decided"] * RATE) - 1)


def _windows(seconds: float) -> int:
    return int((seconds - WINDOW_SECONDS) // HOP_SECONDS) + 1
