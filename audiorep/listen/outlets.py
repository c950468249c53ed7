"""Bounded queues to readers that may be slow or gone, each with a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from audiorep.listen.reports import Report

MOST_KEPT = 1000  # things that wait for a slow reader
MOST_BYTES = 8_000_000  # of sound among them
CLOSE_SECONDS = 2.0  # for what is left at the end
SAY_SECONDS = 60.0  # between two complaints about a reader

T = TypeVar("T", contravariant=True)
Thing = TypeVar("Thing")


class Sink(Protocol[T]):
    """Where things go in the end."""

    name: str
    """For the user, without passwords."""

    def wants(self, thing: T) -> bool:
        """Whether it is written at all."""
        ...

    def write(self, thing: T, closing: threading.Event) -> None:
        """Hands it over; may take long, but not once `closing` is set.

        Raises:
            OSError: it is lost.
        """
        ...

    def missed(self, thing: T) -> None:
        """Is told of a thing that was lost before it could be written."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class Outlet(Generic[Thing]):
    """Hands things to a sink in a thread, so that a reader that is slow or gone never stalls hearing.

    The oldest of more than `MOST_KEPT` waiting things, or of more than `MOST_BYTES` of sound, are lost, counted and said.
    """

    def __init__(self, sink: Sink[Thing], say: Callable[[str], None] = lambda text: None) -> None:
        self.sink = sink
        self.lost = 0
        self.error: OSError | None = None
        self._say, self._said_lost, self._said_at = say, 0, -SAY_SECONDS
        self._kept: deque[Thing] = deque()
        self._bytes = 0
        self._writing = False
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"outlet {sink.name}", daemon=True)
        self._thread.start()

    def put(self, thing: Thing) -> None:
        """Gives a thing, if the sink wants it; never waits."""
        if not self.sink.wants(thing):
            return
        with self._changed:
            self._kept.append(thing)
            self._bytes += _size(thing)
            while len(self._kept) > MOST_KEPT or (self._bytes > MOST_BYTES and len(self._kept) > 1):
                self._lose(self._take(), None)
            self._changed.notify()

    def begin_close(self) -> None:
        """Tells the sink to hurry."""
        with self._changed:
            self._closing.set()
            self._changed.notify()

    def close(self) -> None:
        """Waits a moment for what is left; what a stuck reader does not take by then is lost."""
        self.begin_close()
        self._thread.join(CLOSE_SECONDS)
        with self._changed:
            while self._kept:
                self._lose(self._take(), self.error)
            self.lost += self._writing
            self._complain()
        if not self._thread.is_alive():
            with suppress(OSError):
                self.sink.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._kept or self._closing.is_set())
                if not self._kept:
                    return
                thing = self._take()
                self._writing = True
            try:
                self.sink.write(thing, self._closing)
            except OSError as error:
                with self._changed:
                    self._lose(thing, error)
            self._writing = False

    def _take(self) -> Thing:
        thing = self._kept.popleft()
        self._bytes -= _size(thing)
        return thing

    def _lose(self, thing: Thing, error: OSError | None) -> None:
        self.lost, self.error = self.lost + 1, error
        self.sink.missed(thing)
        if time.monotonic() - self._said_at >= SAY_SECONDS:
            self._complain()

    def _complain(self) -> None:
        if not (new := self.lost - self._said_lost):
            return
        why = "its reader is too slow" if self.error is None else self.error.strerror or str(self.error)
        self._said_lost, self._said_at = self.lost, time.monotonic()
        self._say(f"{new} {'message' if new == 1 else 'messages'} for {self.sink.name} lost: {why}.")


class Readers:
    """All outlets of one listening, and one for messages to people, which no report waits for either.

    Args:
        people: where messages go.
    """

    def __init__(self, people: Sink[str]) -> None:
        self._people = Outlet(people)
        self._outlets: list[Outlet[Report]] = []

    def add(self, sink: Sink[Report]) -> None:
        """Gives a reader all reports from now on."""
        self._outlets.append(Outlet(sink, self.say))

    def say(self, text: str) -> None:
        """Gives people a sentence; never waits."""
        self._people.put(text)

    def tell(self, report: Report) -> None:
        """Gives all readers a report; never waits."""
        for outlet in self._outlets:
            outlet.put(report)

    def close(self) -> None:
        """Waits a moment for what is left: first for the reader that was added last, which may still tell the others."""
        for outlet in self._outlets[-1:]:
            outlet.close()
        for outlet in self._outlets[:-1]:
            outlet.begin_close()
        for outlet in self._outlets[:-1]:
            outlet.close()
        self._people.close()


def _size(thing: object) -> int:
    return thing.snippet.samples.nbytes if isinstance(thing, Report) and thing.snippet is not None else 0
