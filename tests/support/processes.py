"""Child processes of the tests: with the system's own answer to signals, a time limit, and an end whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

SECONDS = 300.0  # of a command that the tests run, on a loaded machine
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# A parent that ignores a signal (`nohup`, `&` in a script, many CI runners) hands that down, and a child would never end by it.
_LAUNCHER = """
import os, signal, sys
ignored = set(map(int, filter(None, sys.argv[1].split(","))))
for number in {ending}:
    signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {ending})
os.execvp(sys.argv[2], sys.argv[2:])
""".format(ending=[int(number) for number in ENDING])


def python(code: str, *arguments: object) -> list[str]:
    """The command line that runs `code`."""
    return [sys.executable, "-c", code, *map(str, arguments)]


def audiorep(*words: object) -> list[str]:
    """The command line of an `audiorep` command."""
    return [sys.executable, "-m", "audiorep.cli", *map(str, words)]


@contextmanager
def started(command: Sequence[str], ignored: Sequence[signal.Signals] = (), **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A child in a process group of its own, which is ended with all its children when the context is left.

    It ignores the signals `ignored`; to the others that end a process it answers as one that a terminal started.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, ",".join(str(int(number)) for number in ignored)]
    options = {"text": True, "start_new_session": True, **options}
    environment = {"PYTHONFAULTHANDLER": "1", **(options.pop("env", None) or os.environ)}
    process = subprocess.Popen([*launcher, *command], env=environment, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def ended(process: subprocess.Popen[str], seconds: float = SECONDS) -> tuple[str, str]:
    """What a child wrote until its end; one that does not end fails the test with the place where it stands."""
    try:
        said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # Python then says where each thread is
        with contextlib.suppress(subprocess.TimeoutExpired):
            said = process.communicate(timeout=10)
            raise AssertionError(f"{process.args} has not ended in {seconds:g} s. It wrote: {said}") from None
        raise AssertionError(f"{process.args} has not ended in {seconds:g} s, and bears SIGABRT.") from None
    return said[0] or "", said[1] or ""


def run(command: Sequence[str], seconds: float = SECONDS, **options: Any) -> subprocess.CompletedProcess[str]:
    """A child's end: its status and what it wrote."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
    with started(command, **options) as process:
        out, errors = ended(process, seconds)
    return subprocess.CompletedProcess(list(command), process.returncode, out, errors)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    """Waits for what a child is to bring about while it runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"{process.args} ended with status {process.returncode}"
        assert time.monotonic() < end, f"{process.args} did not get there in {seconds:g} s"
        time.sleep(0.01)
