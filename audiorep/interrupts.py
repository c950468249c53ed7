"""SIGTERM and SIGHUP handled like Ctrl-C, as one exception, so that a run can save its results before it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

END_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask a process to end: Ctrl-C, a request by the system or a scheduler, a closing terminal (not on Windows)."""


class Interrupted(KeyboardInterrupt):
    """One of `END_SIGNALS` has arrived.

    It is a subclass because Python may end the process by SIGINT after a plain `KeyboardInterrupt`, whatever exit status is
    asked for.
    """


REPEAT_SECONDS = 2.0
"""Time in which a closing terminal or a scheduler may send several signals for one request."""


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Makes each of `END_SIGNALS` raise `Interrupted` in the main thread; yields the list of signals that did.

    A signal that the process ignores stays ignored (`nohup` starts a process that ignores SIGHUP), and a handler that other
    code installed stays in place. After a first signal, all but Ctrl-C are ignored for `REPEAT_SECONDS`, so that they do not
    disturb the clean-up.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    last = -REPEAT_SECONDS

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if number == signal.SIGINT or now - last >= REPEAT_SECONDS:
            last = now
            received.append(number)
            if hasattr(signal, "SIGCHLD"):  # the workers end too, and torch's handler would raise for each, even at exit
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            raise Interrupted

    before = {number: signal.getsignal(number) for number in END_SIGNALS}
    own = [number for number, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    for number in own:
        signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number in own:
            signal.signal(number, before[number])


@contextmanager
def delay_signals() -> Iterator[None]:
    """Delays `END_SIGNALS` until the block ends; if an exception ends the block, they are dropped.

    For the moments in which results are saved: a second Ctrl-C must not undo what the first one saves.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in END_SIGNALS}
    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
    if received:
        signal.raise_signal(received[0])


@contextmanager
def block_in_children() -> Iterator[None]:
    """Starts processes that do not receive Ctrl-C and SIGHUP, which a terminal sends to the whole group; the parent ends them.

    They still receive SIGTERM, by which process pools end their workers.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(END_SIGNALS) - {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def become_worker() -> None:
    """Makes this process a worker: it ignores Ctrl-C, and it ends when its parent ends.

    Without this, a worker whose parent was killed would go on writing into the files of the next run.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def find_interrupt(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that caused `error`, found in its chain of causes; None if there is none.

    Some libraries raise an error of their own when an interrupt reaches them.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error
