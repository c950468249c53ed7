"""Readers that are slow, stuck or gone: what they lose is counted and said, and nobody waits for them."""

from __future__ import annotations

import threading
import time

import pytest
from support.reports import event, snippet

from audiorep.listen import outlets
from audiorep.listen.outlets import Outlet, Readers
from audiorep.listen.reports import Report


class Sink:
    """Keeps what is written, after waiting for `free`; fails with `error`."""

    name = "reader"

    def __init__(self, is_free: bool = True, error: OSError | None = None) -> None:
        self.free, self.error = threading.Event(), error
        self.written: list[object] = []
        self.lost: list[object] = []
        self.closed = 0
        if is_free:
            self.free.set()

    def wants(self, thing: object) -> bool:
        return thing != "of no interest"

    def write(self, thing: object, closing: threading.Event) -> None:
        self.free.wait(20)
        if self.error is not None:
            raise self.error
        self.written.append(thing)

    def missed(self, thing: object) -> None:
        self.lost.append(thing)

    def close(self) -> None:
        self.closed += 1


def test_a_stuck_reader_loses_the_oldest_and_stalls_nobody(monkeypatch):
    monkeypatch.setattr(outlets, "MOST_KEPT", 5)
    sink, said = Sink(is_free=False), []
    outlet: Outlet[str] = Outlet(sink, said.append)
    begun = time.monotonic()
    for number in range(100):
        outlet.put(str(number))
    assert time.monotonic() - begun < 1
    assert 94 <= outlet.lost <= 95
    assert said == ["1 message for reader lost: its reader is too slow."]  # once a minute
    sink.free.set()
    outlet.close()
    assert sink.written[-5:] == ["95", "96", "97", "98", "99"]
    assert outlet.lost == len(sink.lost) == 100 - len(sink.written)
    assert said[1:] == [f"{outlet.lost - 1} messages for reader lost: its reader is too slow."]
    assert sink.closed == 1


def test_what_a_reader_does_not_want_is_not_lost(monkeypatch):
    monkeypatch.setattr(outlets, "MOST_KEPT", 1)
    sink = Sink(is_free=False)
    outlet: Outlet[str] = Outlet(sink)
    for _ in range(5):
        outlet.put("of no interest")
    outlet.put("a")
    sink.free.set()
    outlet.close()
    assert (outlet.lost, sink.written) == (0, ["a"])


def test_a_reader_that_never_moves_again_does_not_hold_the_end(monkeypatch):
    monkeypatch.setattr(outlets, "CLOSE_SECONDS", 0.2)
    sink, said = Sink(is_free=False), []
    outlet: Outlet[str] = Outlet(sink, said.append)
    outlet.put("a")
    outlet.put("b")
    begun = time.monotonic()
    outlet.close()
    assert time.monotonic() - begun < 2
    assert outlet.lost == 2  # one of them was being written
    assert said[-1].startswith(("1 message", "2 messages"))
    sink.free.set()


def test_a_gone_reader_is_counted_with_the_reason():
    sink, said = Sink(error=BrokenPipeError(32, "Broken pipe")), []
    outlet: Outlet[str] = Outlet(sink, said.append)
    outlet.put("a")
    outlet.close()
    assert (outlet.lost, sink.lost) == (1, ["a"])
    assert said == ["1 message for reader lost: Broken pipe."]


def test_sound_that_waits_is_bounded_by_its_size(monkeypatch):
    monkeypatch.setattr(outlets, "MOST_BYTES", 100_000)
    sink = Sink(is_free=False)
    outlet: Outlet[Report] = Outlet(sink)
    for _ in range(20):
        outlet.put(snippet(seconds=1.0))  # 16,000 bytes
    assert 20 - outlet.lost <= 7
    outlet.put(snippet(seconds=60.0))  # one that is too large alone is kept
    sink.free.set()
    outlet.close()
    assert len(sink.written[-1].snippet.samples) == 480_000


def test_readers_are_told_the_same_and_the_last_may_still_tell_the_others():
    first, people, told = Sink(), Sink(), []
    readers = Readers(people)
    readers.add(first)

    class Last(Sink):
        def write(self, thing: object, closing: threading.Event) -> None:
            closing.wait(5)  # until the end
            told.append(thing)
            if len(told) == 1:
                readers.tell(event("second"))

    readers.add(Last())
    readers.tell(event("first"))
    readers.close()
    assert [report.event.label for report in first.written] == ["first", "second"]
    assert people.closed == first.closed == 1


@pytest.mark.parametrize("count", [1, 3])
def test_people_are_told_what_each_reader_loses(count):
    people = Sink()
    readers = Readers(people)
    for _ in range(count):
        readers.add(Sink(error=OSError(28, "No space left on device")))
    readers.tell(event())
    readers.close()
    assert people.written == ["1 message for reader lost: No space left on device."] * count
