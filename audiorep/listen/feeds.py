"""What arrives from a source, in a thread of its own, with the gaps in it."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from audiorep.errors import AudioError, AudiorepError
from audiorep.listen.sources import LostError, Opened, Source, StalledError

STALL_SECONDS = 5.0  # without a sample, after which a live source is given up and tried again
START_SECONDS = 15.0  # the same before the first sample of a connection
BURST_SECONDS = 10.0  # the most that is held back at the beginning of a connection
PAUSE_SECONDS = 0.05  # without a sample, after which nothing more is held back
LOOK_SECONDS = 0.25  # between looks whether to stop
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before a source is tried again; each wait is twice the one before
KEPT_SECONDS = 30.0  # of sound that the model has not heard yet


@dataclass(frozen=True, eq=False)
class Piece:
    """Samples that follow those before."""

    samples: np.ndarray
    """(n, C) floats at `sample_rate`."""
    sample_rate: int
    arrived: float
    """Seconds of the monotonic clock at which they came, or would have come, had they not been held back."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class Gap:
    """Sound that was not heard."""

    seconds: float
    reason: str


@dataclass(frozen=True)
class Lost:
    """A live source sends nothing more for now; when it does again, a gap tells how long it was."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """Nothing more comes."""

    error: AudiorepError | None = None


Arrival = Piece | Lost | Gap | Ended


class Feed:
    """Reads a source in a thread, and keeps what arrives until it is taken.

    Of a live source, what is too much to keep is lost from its beginning, and counted as a gap. Others wait. A live source
    that ends, fails or falls silent is tried again, with longer and longer pauses.
    """

    def __init__(self, source: Source, arrived: threading.Event) -> None:
        self.source = source
        self._arrived = arrived
        self._kept: deque[Arrival] = deque()
        self._seconds = self._lost = 0.0
        self._last = 0.0  # when the last samples came
        self._gap = ""  # why the next samples do not follow those before
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"listen {source.name}", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ends reading; what has arrived can still be taken."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(STALL_SECONDS)

    def take(self) -> list[Arrival]:
        """All that has arrived and was not taken."""
        with self._changed:
            found = list(self._kept)
            if self._lost:
                found.insert(0, Gap(self._lost, "the model was too slow"))
            self._kept.clear()
            self._seconds = self._lost = 0.0
            self._changed.notify_all()
        return found

    def _run(self) -> None:
        error: AudiorepError | None = None
        try:
            self._hear()
        except AudiorepError as failure:
            error = failure
        except Exception as failure:  # one source must not end the others
            error = AudioError(f"{self.source.name} cannot be heard ({type(failure).__name__}: {failure}).")
        self._put(Ended(error))

    def _hear(self) -> None:
        """Reads until the end, and of a live source again and again.

        Raises:
            AudiorepError: it cannot be opened at first, or fails and is not live.
        """
        wait = FIRST_WAIT
        while not self._stop.is_set():
            before = self._last
            try:
                reason = self._hear_once(self.source.open())
            except AudiorepError as error:
                if not self.source.is_live or not self._last:
                    raise
                reason = str(error)
            if not self.source.is_live:
                return
            if not self._gap and self._last and not self._stop.is_set():
                self._put(Lost(reason))
            self._gap = self._gap or reason
            wait = FIRST_WAIT if self._last > before else min(2 * wait, LONGEST_WAIT)
            self._stop.wait(wait)

    def _hear_once(self, opened: Opened) -> str:
        """Why it has ended."""
        quiet_since, patience = time.monotonic(), START_SECONDS
        try:
            while not self._stop.is_set():
                try:
                    if (samples := opened.read(LOOK_SECONDS)) is None:
                        return f"{self.source.name} ended"
                    if self.source.is_live and patience == START_SECONDS:
                        self._receive_burst(samples, opened)
                    else:
                        self._receive(samples, opened.sample_rate, time.monotonic())
                    quiet_since, patience = time.monotonic(), STALL_SECONDS
                    continue
                except LostError as lost:
                    self._gap = str(lost)
                    continue
                except StalledError:
                    pass
                if self.source.is_live and time.monotonic() - quiet_since > patience:
                    return f"{self.source.name} sent nothing for {patience:g} s"
        finally:
            opened.close()
        return "stopped"

    def _receive_burst(self, samples: np.ndarray, opened: Opened) -> None:
        """Receives the first samples of a connection and those that come at once behind them.

        They were held back on the way. When the last of them came tells when all were recorded.
        """
        found, rate = [samples], opened.sample_rate
        try:
            while sum(map(len, found)) < BURST_SECONDS * rate:
                begun = time.monotonic()
                with suppress(StalledError):
                    if (more := opened.read(PAUSE_SECONDS)) is not None:
                        found.append(more)
                        if time.monotonic() - begun < len(more) / rate / 2:  # or else it comes as it is recorded
                            continue
                break
        finally:
            left, now = sum(map(len, found)), time.monotonic()
            for each in found:
                left -= len(each)
                self._receive(each, rate, now - left / rate)

    def _receive(self, samples: np.ndarray, rate: int, arrived: float) -> None:
        if not len(samples):
            return
        piece = Piece(samples, rate, arrived)
        if self._gap:
            self._put(Gap(max(0.0, piece.arrived - self._last - piece.seconds), self._gap))
            self._gap = ""
        self._last = piece.arrived
        self._put(piece)

    def _put(self, arrival: Arrival) -> None:
        seconds = arrival.seconds if isinstance(arrival, Piece) else 0.0
        with self._changed:
            if not self.source.is_live:
                self._changed.wait_for(lambda: self._stop.is_set() or self._seconds < KEPT_SECONDS)
            self._kept.append(arrival)
            self._seconds += seconds
            while self.source.is_live and self._seconds > KEPT_SECONDS and not isinstance(oldest := self._kept[0], Ended):
                self._kept.popleft()
                self._lost += oldest.seconds if isinstance(oldest, Piece | Gap) else 0.0
                self._seconds -= oldest.seconds if isinstance(oldest, Piece) else 0.0
        self._arrived.set()
