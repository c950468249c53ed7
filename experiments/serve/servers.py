"""The servers that are compared, each as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from audiorep.shipped import SHIPPED

ROOT = Path(__file__).resolve().parent.parent.parent
LIT_PYTHON = "LITSERVE_PYTHON"
"""The environment variable with the Python that has LitServe, which may need other versions than this package's."""
STARTING = 60.0  # seconds


Command = tuple[list[str], dict[str, str], str]
"""A command line, what its environment has besides ours, and where sounds are sent."""


@dataclass
class Server:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    port: int
    path: str
    """Where sounds are sent."""
    ready_seconds: float
    """From its start to the first answer."""

    def processes(self) -> list[int]:
        """It and its children."""
        found = [self.process.pid]
        for number in found:
            for task in Path(f"/proc/{number}/task").iterdir():
                with suppress(OSError):
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def memory_mb(self) -> float:
        """Memory of all its processes that is in use now."""
        total = 0.0
        for number in self.processes():
            with suppress(OSError, IndexError):
                total += int(Path(f"/proc/{number}/status").read_text().split("RssAnon:")[1].split()[0]) / 1e3
        return total

    def is_well(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None


def ours(*words: object) -> Command:
    """This package's server."""
    return ([sys.executable, "-m", "audiorep.cli", "serve", "--no-log", *map(str, words), "--port", "PORT"], {}, "/v1/classify")


def plain(hear: str = "session", model: str = "nano") -> Command:
    """A plain handler."""
    command = [sys.executable, "-m", "uvicorn", "experiments.serve.plain:app", "--port", "PORT", "--log-level", "error"]
    return command, {"PLAIN": hear, "PLAIN_MODEL": model}, "/classify"


def lit(model: str = "nano") -> Command:
    """LitServe."""
    python = os.environ.get(LIT_PYTHON, sys.executable)
    return [python, str(Path(__file__).parent / "lit.py"), "PORT", str(SHIPPED[model].file)], {}, "/classify"


@contextmanager
def running(server: Command) -> Iterator[Server]:
    """A server that answers; it is ended with its children when the context is left."""
    command, environment, path = server
    port = free_port()
    began = time.monotonic()
    process = subprocess.Popen(
        [str(port) if word == "PORT" else word for word in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not answers(port):
            if process.poll() is not None or time.monotonic() - began > STARTING:
                raise RuntimeError(f"{' '.join(command)} did not start")
            time.sleep(0.005)
        yield Server(process, port, path, time.monotonic() - began)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    """Whether a server answers there, anything."""
    for path in ("readyz", "health", "docs"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            continue
        except OSError:
            return False
    return False


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
        return number
