"""What clients wait at 80 % load, and what happens at ten times what can be heard."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np

from experiments.goals import Figure, Goal, p99, spread
from experiments.serve import client, sounds
from experiments.serve.servers import Server, ours, running

CLIENTS = 16


def load(small: bool) -> Figure:
    """The times to an answer when requests come at random at 80 % of the highest rate."""
    seconds = 2.0 if small else 60.0
    with running(ours("nano")) as server:
        highest = capacity(server, 1.0 if small else 8.0)
        replies = asyncio.run(client.steady(server.port, requests_of(server), 0.8 * highest, seconds))
    times = [reply.seconds for reply in replies if reply.status == 200]
    median = float(np.median(times))
    return Figure(
        [
            Goal("99th percentile of the time to an answer, against the median", p99(times) / median, 3.0),
            Goal("requests that were refused or lost at that load", sum(reply.status != 200 for reply in replies), 0),
        ],
        {"highest_rate": round(highest, 1), "requests": len(replies), "seconds": spread(times)},
    )


def overload(small: bool) -> Figure:
    """Ten times the highest rate for a while: refusals in time, bounded memory, and how soon all is as before."""
    seconds = 2.0 if small else 20.0
    with running(ours("nano")) as server:
        highest = capacity(server, 1.0 if small else 8.0)
        calm = asyncio.run(client.steady(server.port, requests_of(server), 0.3 * highest, 1.0 if small else 5.0))
        before = server.memory_mb()
        with watched(server) as memory:
            crowd = asyncio.run(client.steady(server.port, requests_of(server), 10 * highest, seconds, connections=2000))
        ended = time.monotonic()
        after = asyncio.run(client.steady(server.port, requests_of(server), 0.3 * highest, 1.0 if small else 5.0))
    refused = [reply.seconds for reply in crowd if reply.status == 429]
    usual = p99([reply.seconds for reply in calm])
    slow = [reply.began + reply.seconds - ended for reply in after if reply.seconds > 1.5 * usual or reply.status != 200]
    return Figure(
        [
            Goal("99th percentile of the time to a refusal in ms", 1e3 * p99(refused), 20.0),
            Goal("growth of memory in MB", max(memory) - before, 50.0),
            Goal("seconds until answers come as before", max([0.0, *slow]), 1.0),
            Goal("requests that got neither an answer nor a refusal", sum(r.status not in (200, 429) for r in crowd), 0),
        ],
        {
            "highest_rate": round(highest, 1),
            "sent_per_second": round(len(crowd) / seconds, 1),
            "answered": sum(reply.status == 200 for reply in crowd),
            "refused": len(refused),
            "refusal_ms": {name: round(1e3 * value, 2) for name, value in spread(refused).items() if name != "count"},
            "memory_mb": {"before": round(before, 1), "largest": round(max(memory), 1)},
        },
    )


def capacity(server: Server, seconds: float) -> float:
    """Clips a second that are answered to clients who never wait."""
    replies = asyncio.run(client.busy(server.port, requests_of(server), CLIENTS, lambda _, spent: spent > seconds))
    return sum(reply.status == 200 for reply in replies) / seconds


def requests_of(server: Server) -> list[bytes]:
    """The clips as requests."""
    return [client.raw(server.path, sounds.compressed(clip)) for clip in sounds.clips()]


class watched:  # noqa: N801 (a context)
    """The memory of a server, ten times a second, while the context lasts."""

    def __init__(self, server: Server) -> None:
        self._server, self._found, self._ended = server, [server.memory_mb()], threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> list[float]:
        self._thread.start()
        return self._found

    def __exit__(self, *error: Any) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._found.append(self._server.memory_mb())
