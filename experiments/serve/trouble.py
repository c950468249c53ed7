"""Clients that leave, and bodies that are damaged: nothing is lost, mixed up or broken by them."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile

import audiorep
from experiments.goals import Figure, Goal
from experiments.serve import client, crowd, sounds
from experiments.serve.servers import ROOT, Server, ours, running

CLIENTS = 32


def aborted(small: bool) -> Figure:
    """Requests of which a fifth is left by its client at a random moment; each of the others gets its own answer."""
    count = 500 if small else 100_000
    parts = [_second(clip) for clip in sounds.clips()]  # a second each: the answers matter here, not the hearing
    clips = [sounds.wav(part) for part in parts]
    classifier = audiorep.load("nano")
    expected = [classifier(_second(clip), sounds.RATE).top(3) for clip in clips]
    with running(ours("nano")) as server:
        before = server.memory_mb()
        tally = asyncio.run(_aborting(server, clips, expected, count))
        after = server.memory_mb()
        well = server.is_well()
    return Figure(
        [
            Goal("requests without an answer", tally["lost"], 0),
            Goal("requests with another's answer", tally["mixed"], 0),
            Goal("servers that ended", 0 if well else 1, 0),
        ],
        {**tally, "memory_mb": {"before": round(before, 1), "after": round(after, 1)}},
    )


async def _aborting(server: Server, clips: list[bytes], expected: list[list[tuple[str, float]]], count: int) -> dict[str, int]:
    requests = [client.raw(server.path, clip) for clip in clips]
    tally = {"requests": 0, "answered": 0, "left": 0, "lost": 0, "mixed": 0}

    async def one(seed: int) -> None:
        chance, connection = Random(seed), client.Connection(server.port)
        while tally["requests"] < count:
            tally["requests"] += 1
            number = chance.randrange(len(requests))
            if chance.random() < 0.2:
                tally["left"] += 1
                await _leave(server.port, requests[number], chance)
                continue
            reply = await connection.ask(requests[number], number)
            if reply.status != 200:
                tally["lost"] += 1
            elif not _is_own(json.loads(reply.body), expected[number]):
                tally["mixed"] += 1
            else:
                tally["answered"] += 1
        connection.close()

    await asyncio.gather(*(one(seed) for seed in range(CLIENTS)))
    return tally


async def _leave(port: int, request: bytes, chance: Random) -> None:
    """A client that goes while it sends, or while it waits."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request[: chance.randrange(1, len(request))] if chance.random() < 0.5 else request)
        await asyncio.sleep(chance.random() * 0.05)
        writer.transport.abort()


def _is_own(found: dict[str, Any], expected: list[tuple[str, float]]) -> bool:
    labels = found["file"]["label"][: len(expected)]
    return all(
        label == other and abs(score - value) < 1e-4 for (label, score), (other, value) in zip(labels, expected, strict=True)
    )


def _second(clip: bytes) -> np.ndarray:
    """(N,) the first second of a clip."""
    samples: np.ndarray = soundfile.read(io.BytesIO(clip), dtype="float32")[0]
    return samples[: sounds.RATE]


async def _each_once(port: int, requests: list[bytes]) -> list[client.Reply]:
    """The replies to requests, eight at a time."""
    waiting = iter(requests)

    async def one() -> list[client.Reply]:
        connection = client.Connection(port)
        found = [await connection.ask(request) for request in waiting]
        connection.close()
        return found

    return [reply for found in await asyncio.gather(*(one() for _ in range(8))) for reply in found]


def hostile(small: bool) -> Figure:
    """Damaged, cut, lying and joined sound files of every kind, as the fuzzer makes them, sent as bodies."""
    sys.path[:0] = [str(ROOT / "tests")]
    kinds: Any = importlib.import_module("fuzz.sounds")
    count = 50 if small else 10_000
    tally: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as text, running(ours("nano", "--seconds", 120)) as server:
        seeds = Path(text) / "seeds"
        seeds.mkdir()
        kinds.prepare(seeds)
        bodies = kinds.bodies(seeds, count)
        replies = []
        for first in range(0, count, 200):
            some = [client.raw(server.path, next(bodies)) for _ in range(min(200, count - first))]
            replies += asyncio.run(_each_once(server.port, some))
        for reply in replies:
            tally[str(reply.status)] = tally.get(str(reply.status), 0) + 1
        well = server.is_well() and crowd.capacity(server, 1.0) > 0
    failed = sum(number for status, number in tally.items() if status.startswith("5") or status == "0")
    return Figure(
        [Goal("failures of the server (5xx, or no answer)", failed, 0), Goal("servers that ended", 0 if well else 1, 0)],
        {"bodies": len(replies), "statuses": dict(sorted(tally.items()))},
    )
