"""The signals that ask a run to end, heard as Ctrl-C is: what is under way is finished or put away, never cut off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl-C, the system's or a scheduler's request, and a terminal that closes; Windows has no SIGHUP."""


class Interrupted(KeyboardInterrupt):
    """One of the signals in `ENDING`; `status` is the exit status that a shell gives to it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


@contextmanager
def heard() -> Iterator[None]:
    """Within it each of the signals raises `Interrupted` in the main thread.

    One that the process was started to ignore, as `nohup` does with SIGHUP, stays ignored; a handler of others stays too.
    Of those that follow the first only Ctrl-C counts: a closing terminal sends several, and the run is ending already.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    own = [number for number, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    first = True

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first or number == signal.SIGINT:
            first = False
            raise Interrupted(number)

    for number in own:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, before[number])


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes within it is heard at its end, unless an error ends it.

    For moments in which results take their names: a second Ctrl-C must not undo what the first one keeps.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in ENDING}
    heeded = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in heeded:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])
    if came:
        signal.raise_signal(came[0])


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that are started within never hear of Ctrl-C and SIGHUP, which reach all at once: the parent tells them.

    SIGTERM still ends them, which is how pools do it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(ENDING) - {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error came of, where a library answers one with an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def status_of(stop: KeyboardInterrupt) -> int:
    """The exit status of a run that was stopped: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return stop.status if isinstance(stop, Interrupted) else 128 + signal.SIGINT
