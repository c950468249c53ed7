"""Several sources and one model: events with the time of day, from sound that never ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from audiorep.errors import AudioError, ConfigError
from audiorep.listen.feeds import Arrival, Ended, Feed, Gap, Lost, Piece
from audiorep.listen.reports import Report
from audiorep.listen.snippets import SnippetConfig, SnippetCutter
from audiorep.listen.sources import Source
from audiorep.predict.classifier import Classifier
from audiorep.predict.events import Event, EventConfig, trackers
from audiorep.predict.stream import CutWindow, Stream, StreamWindow

WAIT_SECONDS = 1.0  # for something to arrive, between looks


class Listener:
    """Hears sources at the same time and reports their events, gaps and ends, in the order of each source's sound.

    The windows of all sources are heard together, a few in a call. A source's clock is its samples: its first one is given
    the time of day once, and all later times count from there.

    Args:
        classifier: the model; its hop decides how often each source is heard.
        sources: what to listen to.
        config: when windows become an event; default: `EventConfig()`.
        snippets: how much of each event's sound is cut out and reported; None: nothing.

    Raises:
        ConfigError: the settings name a label that the model does not have, or two sources have the same name.
    """

    def __init__(
        self,
        classifier: Classifier,
        sources: Sequence[Source],
        config: EventConfig | None = None,
        snippets: SnippetConfig | None = None,
    ) -> None:
        names = [source.name for source in sources]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ConfigError(f"Two sources are named {twice}. Give one another name: second={twice}")
        self._classifier = classifier
        self._arrived = threading.Event()
        self._hearings = [_Hearing(classifier, Feed(source, self._arrived), config, snippets) for source in sources]

    def run(self) -> Iterator[Report]:
        """Reports, until all sources have ended. When it is closed, or interrupted, open events end where they were heard."""
        for hearing in self._hearings:
            hearing.feed.start()
        try:
            while any(not hearing.ended for hearing in self._hearings):
                self._arrived.wait(WAIT_SECONDS)
                self._arrived.clear()
                yield from self._heard([(hearing, hearing.feed.take()) for hearing in self._hearings])
        finally:
            for hearing in self._hearings:
                hearing.feed.stop()

    def close(self) -> list[Report]:
        """Ends the events that are open, after `run` was left."""
        return [report for hearing in self._hearings for report in hearing.close()]

    def _heard(self, taken: list[tuple[_Hearing, list[Arrival]]]) -> Iterator[Report]:
        while any(arrivals for _, arrivals in taken):
            cut = [(hearing, window) for hearing, arrivals in taken for window in hearing.cut(arrivals)]
            heard = self._classifier.hear_windows([window for _, window in cut])
            for (hearing, _), window in zip(cut, heard, strict=True):
                yield from hearing.events(window)
            for hearing, arrivals in taken:
                yield from hearing.snippets()
                if arrivals:
                    yield from hearing.interrupted(arrivals.pop(0))


class _Hearing:
    """One source: its stream and the events of each head."""

    def __init__(self, classifier: Classifier, feed: Feed, config: EventConfig | None, snippets: SnippetConfig | None) -> None:
        self.feed, self.ended = feed, False
        self._classifier = classifier
        self._trackers = trackers(classifier.info, config)
        self._look_back = (config or EventConfig()).longest_delay(classifier.info.window_seconds, classifier.info.hop_seconds)
        self._snippets = snippets
        self._stream: Stream | None = None
        self._cutter: SnippetCutter | None = None
        self._began: datetime | None = None

    def cut(self, arrivals: list[Arrival]) -> list[CutWindow]:
        """The windows up to the first loss, gap or end, which stays in `arrivals`."""
        found: list[CutWindow] = []
        while arrivals and isinstance(arrivals[0], Piece):
            piece = arrivals.pop(0)
            assert isinstance(piece, Piece)
            if self._stream is None:
                self._begin(piece)
            assert self._stream is not None
            try:
                found += self._stream.cut(piece.samples)
            except AudioError as error:  # not numbers, for example; the source goes on
                arrivals.insert(0, Gap(piece.seconds, str(error)))
                break
            if self._cutter is not None:
                self._cutter.hear(piece.samples)
        if arrivals and self._stream is not None:
            found += self._stream.cut_rest()
        return found

    def events(self, window: StreamWindow) -> Iterator[Report]:
        """What a window decides."""
        for head, tracker in self._trackers.items():
            for event in tracker.push(window.start, window.end, window.scores[head], window.peak):
                yield self._told(event, head)

    def snippets(self) -> Iterator[Report]:
        """The sounds of events that are complete."""
        if self._cutter is not None:
            yield from (self._report(self.seconds, snippet=snippet, head=head) for head, snippet in self._cutter.complete())

    def interrupted(self, arrival: Arrival) -> Iterator[Report]:
        """What a loss, a gap or an end brings."""
        yield from self.close()
        if isinstance(arrival, Lost):
            yield self._report(self.seconds, lost=arrival.reason)
        elif isinstance(arrival, Gap):
            if self._stream is not None:
                yield self._report(self._stream.seconds, gap=arrival)
                self._stream.reset(arrival.seconds)
                if self._cutter is not None:
                    self._cutter.end(self.seconds)
        elif isinstance(arrival, Ended):
            self.ended = True
            yield self._report(self.seconds, error=arrival.error, ended=True)

    def close(self) -> list[Report]:
        """Ends the open events, and cuts out what was heard of them."""
        ended = [self._told(event, head) for head, tracker in self._trackers.items() for event in tracker.flush()]
        cut = [] if self._cutter is None else self._cutter.end(self.seconds)
        return [*ended, *(self._report(self.seconds, snippet=snippet, head=head) for head, snippet in cut)]

    @property
    def seconds(self) -> float:
        """Sound so far, and gaps."""
        return 0.0 if self._stream is None else self._stream.seconds

    def _begin(self, piece: Piece) -> None:
        self._stream = self._classifier.stream(piece.sample_rate)
        if self._snippets is not None:
            self._cutter = SnippetCutter(self._snippets, piece.sample_rate, self._look_back)
        if self.feed.source.has_clock:
            late = time.monotonic() - piece.arrived + piece.seconds
            self._began = datetime.now(UTC).astimezone() - timedelta(seconds=late)

    def _told(self, event: Event, head: str) -> Report:
        if self._cutter is not None:
            self._cutter.tell(event, head)
        return self._report(event.decided, event=event, head=head)

    def _report(self, seconds: float, **what: object) -> Report:
        return Report(self.feed.source.name, seconds, self._began, **what)  # type: ignore[arg-type]
