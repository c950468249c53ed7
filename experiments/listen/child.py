"""`audiorep listen` as a child process, with the time of each line that it writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Line:
    """A line of `--json`."""

    at: float
    """Seconds of the monotonic clock at which it came out."""
    values: dict[str, Any]

    @property
    def begins(self) -> bool:
        """Whether it tells that a sound begins."""
        return "label" in self.values and self.values["end"] is None

    @property
    def ends(self) -> bool:
        """Whether it tells that a sound has ended."""
        return "label" in self.values and self.values["end"] is not None

    @property
    def is_gap(self) -> bool:
        """Whether it tells a gap."""
        return "gap_seconds" in self.values


class Child:
    """The command with `--json`; its lines are read as they come, or not at all.

    Linux only: processor time and memory are read from /proc.
    """

    def __init__(self, *words: object, reads: bool = True) -> None:
        command = [sys.executable, "-m", "audiorep.cli", "listen", "--json", *map(str, words)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT, bufsize=0)
        self.lines: list[Line] = []
        self.said: list[str] = []
        self._threads = [threading.Thread(target=self._hear_errors, daemon=True)]
        self._threads += [threading.Thread(target=self._read, daemon=True)] if reads else []
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def stdin(self) -> IO[bytes]:
        """Where its sound is written."""
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the process, without its children."""
        return cpu_seconds(self.process.pid)

    @property
    def memory_mb(self) -> float:
        """Memory that it holds now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1e3

    def children(self) -> dict[int, str]:
        """{process: its command line} of the processes that it started and that run."""
        found = {}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(OSError):
                for number in (task / "children").read_text().split():
                    found[int(number)] = Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ")
        return found

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether it came about in that time."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end and self.process.poll() is None:
            time.sleep(0.02)
        return condition()

    def end(self, interrupt: bool = False, seconds: float = 120.0) -> int:
        """The exit status, after the end of its input or an interrupt."""
        if interrupt:
            self.process.send_signal(signal.SIGINT)
        with suppress(BrokenPipeError):
            self.stdin.close()
        status = self.process.wait(seconds)
        for thread in self._threads:
            thread.join(seconds)
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        with os.fdopen(os.dup(self.process.stdout.fileno())) as text:
            for line in text:
                self.lines.append(Line(time.monotonic(), json.loads(line)))

    def _hear_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.decode().strip())


def cpu_seconds(process: int) -> float:
    """User and system time of a process; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK


def feed(pipe: IO[bytes], pieces: Iterable[np.ndarray], rate: int | None) -> list[float]:
    """Writes pieces (n,) of int16, and gives the time just before each was written.

    Args:
        pipe: standard input of a child.
        pieces: the sound.
        rate: Hz, for a piece to be written when its last sample would have been recorded; None: as fast as they are read.
    """
    begun, given, times = time.monotonic(), 0, []
    for piece in pieces:
        given += len(piece)
        if rate is not None:
            time.sleep(max(0.0, begun + given / rate - time.monotonic()))
        times.append(time.monotonic())
        content = memoryview(piece.astype("<i2").tobytes())
        while content:
            content = content[pipe.write(content) :]
    return times
