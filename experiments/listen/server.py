"""Live sound over HTTP in real time, from connections that can be cut and can fall silent."""

from __future__ import annotations

import http.server
import select
import struct
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from experiments.listen.sounds import Scene

RATE = 48_000  # ffmpeg holds the first 64 kB of a WAV stream back, which are two seconds at a third of this rate
STEP_SECONDS = 0.1
ENDLESS = 0xFFFFFFFF
HEADER = b"RIFF" + struct.pack("<I", ENDLESS) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
HEADER += b"data" + struct.pack("<I", ENDLESS)


@dataclass(eq=False)
class Connection:
    """What was sent to one listener."""

    opened: float
    """Seconds of the monotonic clock."""
    first: int = -1
    """The channel's sample that was sent first; -1 before that."""
    cut: threading.Event = field(default_factory=threading.Event)
    sent: list[int] = field(default_factory=list)
    """The channel's samples up to which it was sent, at each of `times`."""
    times: list[float] = field(default_factory=list)

    def time_of(self, sample: int) -> float:
        """When a sample of the channel was sent."""
        return self.times[min(bisect_left(self.sent, sample + 1), len(self.times) - 1)]


class Channel:
    """A sound that goes on whether anybody listens or not."""

    def __init__(self, scene: Scene, begun: float) -> None:
        self.scene, self.begun = scene, begun
        self.connections: list[Connection] = []
        self.silent = threading.Event()

    @property
    def now(self) -> int:
        """Samples since the server began."""
        return int((time.monotonic() - self.begun) * RATE)

    def cut(self) -> None:
        """Closes the connections that there are."""
        for connection in list(self.connections):
            connection.cut.set()


class Server:
    """Each channel at an address of its own: `/name`."""

    def __init__(self, scenes: Mapping[str, Scene]) -> None:
        begun = time.monotonic()
        self.channels = {name: Channel(scene, begun) for name, scene in scenes.items()}
        channels = self.channels

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                channel = channels[self.path[1:]]
                channel.connections.append(connection := Connection(time.monotonic()))
                with suppress(OSError):
                    _serve(self, channel, connection)

            def log_message(self, *words: object) -> None:
                pass

        class Listening(http.server.ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._server = Listening(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for channel in self.channels.values():
            channel.cut()

    def address(self, name: str) -> str:
        """Of a channel."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"


def _serve(handler: http.server.BaseHTTPRequestHandler, channel: Channel, connection: Connection) -> None:
    """Sends what the channel sounds like now, until the connection is cut or its reader goes.

    A channel that falls silent sends nothing more on the connections that it has; those opened meanwhile wait.
    """
    while channel.silent.is_set():
        if _is_gone(handler) or connection.cut.is_set():
            return
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(HEADER)
    connection.first = at = channel.now
    while not connection.cut.wait(STEP_SECONDS):
        if channel.silent.is_set():
            _wait_until_gone(handler, connection)
            return
        now = channel.now
        connection.sent.append(now)
        connection.times.append(time.monotonic())
        handler.wfile.write(channel.scene.samples(at, now - at).astype("<i2").tobytes())
        at = now


def _wait_until_gone(handler: http.server.BaseHTTPRequestHandler, connection: Connection) -> None:
    while not _is_gone(handler) and not connection.cut.is_set():
        pass


def _is_gone(handler: http.server.BaseHTTPRequestHandler) -> bool:
    """Whether the reader has closed the connection; looks for a moment."""
    readable, _, _ = select.select([handler.connection], [], [], 0.05)
    return bool(readable) and not handler.connection.recv(1)
