"""How many clips of five seconds a second are answered to 16 clients, against LitServe and two plain handlers, in turns."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from contextlib import ExitStack

from experiments.goals import Figure, Goal
from experiments.serve import client, sounds
from experiments.serve.servers import Command, Server, lit, ours, plain, running

CLIENTS = 16
SERVERS: dict[str, Callable[[], Command]] = {
    "audiorep": lambda: ours("nano"),
    "audiorep, two processes": lambda: ours("nano", "--workers", 2),
    "LitServe, two workers, batches of 4": lit,
    "FastAPI and ONNX Runtime": lambda: plain("session"),
    "FastAPI and a Classifier": lambda: plain("classifier"),
}


def measure(small: bool) -> Figure:
    """Rounds in which each server has its turn, while the others idle."""
    rounds, seconds = (1, 1.0) if small else (7, 6.0)
    clips = sounds.clips()
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    failed: dict[str, int] = dict.fromkeys(SERVERS, 0)
    with ExitStack() as all_of_them:
        started = {name: all_of_them.enter_context(running(make())) for name, make in SERVERS.items()}
        for server in started.values():
            turn(server, clips, 1.0)
        for place in range(rounds):
            order = list(started.items())
            for name, server in order if place % 2 == 0 else reversed(order):
                good, bad = turn(server, clips, seconds)
                rates[name].append(good / seconds)
                failed[name] += bad
    medians = {name: statistics.median(found) for name, found in rates.items()}
    best = max(medians["audiorep"], medians["audiorep, two processes"])
    return Figure(
        [
            Goal("clips a second against LitServe", best / medians["LitServe, two workers, batches of 4"], 2.0, at_least=True),
            Goal(
                "clips a second against FastAPI and ONNX Runtime",
                best / medians["FastAPI and ONNX Runtime"],
                1.5,
                at_least=True,
            ),
            Goal(
                "clips a second against FastAPI and a Classifier",
                best / medians["FastAPI and a Classifier"],
                1.5,
                at_least=True,
            ),
        ],
        {
            "clients": CLIENTS,
            "clips_per_second": {name: round(value, 1) for name, value in medians.items()},
            "rounds": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
            "not_answered": failed,
        },
    )


def turn(server: Server, clips: list[bytes], seconds: float) -> tuple[int, int]:
    """How many requests were answered, and how many were not."""
    requests = [client.form(server.path, clip) for clip in clips]
    replies = asyncio.run(client.busy(server.port, requests, CLIENTS, lambda _, spent: spent > seconds))
    good = sum(reply.status == 200 for reply in replies)
    return good, len(replies) - good
