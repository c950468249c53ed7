"""Clients of a server, many in one process: raw HTTP over connections that stay open, so that they cost next to nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

BORDER = "border-of-the-form"


@dataclass(frozen=True)
class Reply:
    """What a request got."""

    began: float
    """Seconds of the monotonic clock."""
    seconds: float
    status: int
    body: bytes
    request: int
    """Which of the requests it was."""


def raw(path: str, content: bytes, more: str = "") -> bytes:
    """A request with a body."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n{more}\r\n".encode() + content


def form(path: str, content: bytes) -> bytes:
    """A request with a form of one file."""
    head = f'--{BORDER}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    body = head.encode() + content + f"\r\n--{BORDER}--\r\n".encode()
    return raw(path, body, f"Content-Type: multipart/form-data; boundary={BORDER}\r\n")


class Connection:
    """A connection that stays open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, content: bytes, number: int = 0) -> Reply:
        """The answer to a request; status 0 where the connection was lost."""
        began = time.monotonic()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
            reader, writer = self._streams
            writer.write(content)
            status, body, keep = await _answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            status, body, keep = 0, b"", False
        seconds = time.monotonic() - began
        if not keep:
            self.close()
        return Reply(began, seconds, status, body, number)

    def close(self) -> None:
        """Closes it; the next request opens it again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = 0
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    body = await reader.readexactly(length) if length else b""
    return int(head.split(b" ", 2)[1]), body, b"connection: close" not in head


async def busy(port: int, requests: Sequence[bytes], clients: int, until: Callable[[int, float], bool]) -> list[Reply]:
    """The replies to clients that ask again as soon as they are answered, until `until(replies, seconds)`."""
    found: list[Reply] = []
    began = time.monotonic()

    async def client(number: int) -> None:
        connection = Connection(port)
        turn = number
        while not until(len(found), time.monotonic() - began):
            found.append(await connection.ask(requests[turn % len(requests)], turn % len(requests)))
            turn += clients
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return found


async def steady(port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int = 256) -> list[Reply]:
    """The replies to requests that come at random, `rate` a second, whether those before were answered or not.

    A request that finds all connections in use waits for one, and its time counts from when it came.
    """
    chance = Random(0)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    every = [Connection(port) for _ in range(connections)]
    for connection in every:
        free.put_nowait(connection)
    found: list[Reply] = []

    async def one(number: int, came: float) -> None:
        connection = await free.get()
        reply = await connection.ask(requests[number % len(requests)], number % len(requests))
        free.put_nowait(connection)
        found.append(Reply(came, time.monotonic() - came, reply.status, reply.body, reply.request))

    tasks = set()
    began, at, number = time.monotonic(), 0.0, 0
    while at < seconds:
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        task = asyncio.create_task(one(number, time.monotonic()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        at, number = at + chance.expovariate(rate), number + 1
    await asyncio.gather(*tasks)
    for connection in every:
        connection.close()
    return found
