"""The signals that ask a run to end, heard as Ctrl-C is: what is under way is finished or put away, never cut off."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl-C, the system's or a scheduler's request, and a terminal that closes; Windows has no SIGHUP."""


class Interrupted(KeyboardInterrupt):
    """One of the signals; a plain `KeyboardInterrupt` may make Python end itself by SIGINT whatever is decided later."""


TOGETHER = 2.0  # seconds; a closing terminal or a scheduler sends several within


@contextmanager
def heard() -> Iterator[list[int]]:
    """Within it each of the signals raises `Interrupted` in the main thread; gives those that did.

    One that the process was started to ignore, as `nohup` does with SIGHUP, stays ignored; a handler of others stays too.
    What follows at once does not disturb the end that the first one brings about, unless it is Ctrl-C.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    last = -TOGETHER

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if number == signal.SIGINT or now - last >= TOGETHER:
            last = now
            came.append(number)
            if hasattr(signal, "SIGCHLD"):  # workers end by the same signal, and torch's handler raises for each, even at exit
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            raise Interrupted

    before = {number: signal.getsignal(number) for number in ENDING}
    own = [number for number, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    for number in own:
        signal.signal(number, interrupt)
    try:
        yield came
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


def be_a_worker() -> None:
    """Leaves the end of this process to the one that started it: it ignores Ctrl-C, and ends when that one is gone.

    A worker whose parent was killed would write on into the files of the run that comes after.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error came of, where a library answers one with an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error
