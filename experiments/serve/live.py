"""How soon a server is ready, and how many live streams it hears."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any

import numpy as np
import soundfile

from experiments.goals import Figure, Goal, p99, spread
from experiments.serve.servers import ROOT, ours, running

STREAMS = 200
PIECE_SECONDS = 0.25


def start(small: bool) -> Figure:
    """From the start of the process to its first answer."""
    times = []
    for _ in range(2 if small else 15):
        with running(ours("nano")) as server:
            times.append(server.ready_seconds)
    return Figure([Goal("median seconds to the first answer", statistics.median(times), 1.0)], {"seconds": spread(times)})


def streams(small: bool) -> Figure:
    """Live streams that send in real time: how late a window's line is after the sample that completes it was sent."""
    count, seconds = (5, 4.0) if small else (STREAMS, 60.0)
    with running(ours("nano")) as server:
        late, windows = asyncio.run(_listen(server.port, count, seconds))
    expected = count * (int((seconds - 0.975) / 0.4875 + 1e-6) + 1)
    return Figure(
        [
            Goal("99th percentile of a window's delay in ms", 1e3 * p99(late), 500.0),
            Goal("windows that did not come", expected - windows, 0),
        ],
        {"streams": count, "seconds": seconds, "windows": windows, "delay_seconds": spread(late)},
    )


async def _listen(port: int, count: int, seconds: float) -> tuple[list[float], int]:
    import websockets

    samples, rate = soundfile.read(ROOT / "samples" / "recording.flac", dtype="float32")
    late: list[float] = []

    async def one(number: int) -> int:
        await asyncio.sleep(number / count)
        sound = np.resize(np.roll(samples, -number * 4_000), int(seconds * rate))
        address = f"ws://127.0.0.1:{port}/v1/listen?rate={rate}&top=3&events=false"
        async with websockets.connect(address, compression=None, max_queue=None) as socket:
            await socket.recv()
            begun = time.monotonic()
            sending = asyncio.create_task(_send(socket, sound, rate, begun))
            windows = 0
            async for text in socket:
                values = json.loads(text)
                if values["type"] == "window":
                    windows += 1
                    whole = min(np.ceil(values["end"] / PIECE_SECONDS) * PIECE_SECONDS, seconds)
                    late.append(time.monotonic() - begun - whole)
            await sending
        return windows

    found = await asyncio.gather(*(one(number) for number in range(count)))
    return late, sum(found)


async def _send(socket: Any, sound: np.ndarray, rate: int, begun: float) -> None:
    step = int(PIECE_SECONDS * rate)
    for first in range(0, len(sound), step):
        piece = sound[first : first + step]
        await asyncio.sleep(max(0.0, begun + (first + len(piece)) / rate - time.monotonic()))
        await socket.send(piece.astype("<f4").tobytes())
    await socket.send('{"type": "end"}')
