"""A server in a process of its own, and what is asked of it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from support import SAMPLES, processes

SIREN = SAMPLES / "siren.flac"


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json()["error"]


@dataclass
class Served:
    """A server that runs."""

    process: subprocess.Popen[str]
    port: int
    log: list[str] = field(default_factory=list)
    """The lines that it wrote to standard error."""

    def read_log(self) -> None:
        """Reads the log to its end."""
        assert self.process.stderr is not None
        with suppress(ValueError):  # it is closed when the test ends
            self.log.extend(self.process.stderr)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, seconds: float = 60
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("POST", path, body, headers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def served(*words: object, **options: Any) -> Iterator[Served]:
    """A server on a free port, ready when the context begins."""
    command = processes.audiorep("serve", *words, "--port", 0)
    with processes.started(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"https?://\S+:(\d+)", line)
        assert found is not None, line + process.stderr.read()
        server = Served(process, int(found[1]))
        threading.Thread(target=server.read_log, daemon=True).start()  # a server waits for a log that nobody reads
        if "https" not in line:
            processes.wait_until(lambda: is_ready(server), process)
        yield server


def is_ready(server: Served) -> bool:
    try:
        return server.get("/readyz").status == 200
    except OSError:
        return False


def form(content: bytes, name: str, field: str = "file") -> tuple[bytes, dict[str, str]]:
    """A form with one file, and its header."""
    border = "----of-the-form"
    head = f'--{border}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{border}--\r\n".encode(), {
        "content-type": f"multipart/form-data; boundary={border}"
    }
