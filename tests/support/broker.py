"""A real MQTT broker for the tests, as a process, and a client that hears everything."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import processes

PROGRAM = Path(sys.prefix) / "bin" / "amqtt"
needs_broker = pytest.mark.skipif(
    shutil.which(str(PROGRAM)) is None, reason="the broker amqtt is not installed; it is part of audiorep[dev]"
)


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@contextmanager
def broker(folder: Path, port: int, anonymous: bool = True) -> Iterator[None]:
    """A broker that listens at `port`."""
    settings = folder / f"broker{port}.yaml"
    settings.write_text(
        f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n"
        "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n"
        f"    allow_anonymous: {str(anonymous).lower()}\n"
    )
    words = [str(PROGRAM), "-c", str(settings)]
    with processes.started(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        until(lambda: _listens(port), 30)
        yield


def _listens(port: int) -> bool:
    with socket.socket() as place:
        return place.connect_ex(("127.0.0.1", port)) == 0


class Observer:
    """Hears every topic of a broker."""

    def __init__(self, port: int) -> None:
        import paho.mqtt.client as mqtt

        self.heard: list[tuple[str, str, bool]] = []
        """(topic, payload, whether the broker had kept it)"""
        subscribed = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda client, data, m: self.heard.append((m.topic, m.payload.decode(), bool(m.retain)))
        self.client.on_connect = lambda client, *about: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *about: subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(10)

    def payloads(self, topic: str) -> list[str]:
        return [payload for heard, payload, _ in self.heard if heard == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
