"""The sound of each event, cut out of what is heard, with some of what came before and after it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import soundfile

from audiorep.config import Config, refuse
from audiorep.escape import visible
from audiorep.files import WriteError, replacing
from audiorep.listen.reports import Report, Snippet
from audiorep.listen.topics import slug
from audiorep.predict.events import Event

LONGEST = 600.0  # seconds
FLAC_CHANNELS = 8


@dataclass(frozen=True)
class SnippetConfig(Config):
    """How much is cut out for an event."""

    before: float = 1.0
    """Seconds before the event begins; fewer where the source or a gap is nearer."""
    after: float = 1.0
    """Seconds after it ends."""
    longest: float = 30.0
    """Seconds in all; the end of what is longer is left out."""

    def __post_init__(self) -> None:
        values = {"before": self.before, "after": self.after, "longest": self.longest}
        checks = [(0 <= v <= LONGEST, f"{name} is {v:g} s; 0 to {LONGEST:g} is allowed") for name, v in values.items()]
        more = (self.longest > self.before, f"longest is {self.longest:g} s; more than before, {self.before:g} s, is needed")
        refuse([*checks, more], "snippets: ")


class SnippetCutter:
    """Keeps what one source sent as long as an event may need it, and cuts it out.

    Args:
        config: how much.
        sample_rate: Hz of the source.
        look_back: seconds by which an event may have begun before it is told.
    """

    def __init__(self, config: SnippetConfig, sample_rate: int, look_back: float) -> None:
        self._config, self._rate, self._look_back = config, sample_rate, look_back
        self._pieces: deque[np.ndarray] = deque()
        self._wanted: dict[tuple[str, str, float], Event] = {}
        self._origin = 0.0  # seconds of the source
        self._first = self._given = 0  # samples since then: of the oldest that is kept, and all

    def hear(self, samples: np.ndarray) -> None:
        """Takes what the source sent, (n, C) floats."""
        self._pieces.append(samples)
        self._given += len(samples)

    def tell(self, event: Event, head: str) -> None:
        """Takes an event, when it begins and when it has ended."""
        key = (head, event.label, event.start)
        if event.is_open or key in self._wanted:  # one that was cut out at its longest is not wanted again
            self._wanted[key] = event

    def complete(self) -> list[tuple[str, Snippet]]:
        """(head, snippet) of the events of which all is there; what no event needs any more is forgotten."""
        now = self._origin + self._given / self._rate
        found = self._cut([key for key, event in self._wanted.items() if self._bounds(event)[1] <= now])
        starts = (self._bounds(event)[0] for event in self._wanted.values())
        needed = self._sample(min([*starts, now - self._look_back - self._config.before]))
        while self._pieces and self._first + len(self._pieces[0]) <= needed:
            self._first += len(self._pieces.popleft())
        return found

    def end(self, now: float) -> list[tuple[str, Snippet]]:
        """The same of all others, as far as they were heard; the source goes on at `now` seconds."""
        found = self._cut(list(self._wanted))
        self._pieces.clear()
        self._origin, self._first, self._given = now, 0, 0
        return found

    def _bounds(self, event: Event) -> tuple[float, float]:
        """Where its snippet begins and ends, in seconds of the source."""
        first = event.start - self._config.before
        end = float("inf") if event.is_open else event.end + self._config.after
        return first, min(end, first + self._config.longest)

    def _cut(self, keys: list[tuple[str, str, float]]) -> list[tuple[str, Snippet]]:
        if not keys or not self._pieces:
            self._wanted = {key: event for key, event in self._wanted.items() if key not in keys}
            return []
        kept = np.concatenate(self._pieces)[:, :FLAC_CHANNELS]
        return [(key[0], self._snippet(self._wanted.pop(key), kept)) for key in keys]

    def _snippet(self, event: Event, kept: np.ndarray) -> Snippet:
        first, last = (self._sample(seconds) for seconds in self._bounds(event))
        first = max(first, self._first)
        cut = np.clip(kept[first - self._first : last - self._first], -1, 32767 / 32768)
        samples = (cut * 32768).round().astype(np.int16)
        return Snippet(event.label, event.start, event.start - self._origin - first / self._rate, samples, self._rate)

    def _sample(self, seconds: float) -> int:
        """The number of a sample since the origin, at most of the next one."""
        place = (seconds - self._origin) * self._rate
        return round(min(max(0.0, place), self._given))


class SnippetSink:
    """Writes snippets as FLAC files of 16 bits into a folder.

    Args:
        folder: where they go; it is made with the first.
        tell: is given each report again with the file, once that is written.
    """

    def __init__(self, folder: Path, tell: Callable[[Report], None]) -> None:
        self.name = str(folder)
        self._folder, self._tell = folder, tell

    def wants(self, report: Report) -> bool:
        """Whether it is a snippet that is not written yet."""
        return not report.is_told

    def write(self, report: Report, closing: threading.Event) -> None:
        """Writes the file of a snippet.

        Raises:
            OSError: it cannot be written.
        """
        snippet = report.snippet
        assert snippet is not None
        path = self._folder / f"{snippet_name(report)}.flac"
        try:
            with replacing(path) as partial:
                soundfile.write(partial, snippet.samples, snippet.sample_rate, format="FLAC")
        except (soundfile.SoundFileError, WriteError) as error:
            raise OSError(str(error)) from None
        self._tell(replace(report, snippet=replace(snippet, samples=snippet.samples[:0], path=path)))

    def missed(self, report: Report) -> None:
        """Nothing follows from a lost snippet."""

    def close(self) -> None:
        """Nothing is held."""


def snippet_name(report: Report) -> str:
    """Source, time of day (or seconds of the source), and label."""
    snippet = report.snippet
    assert snippet is not None
    at = report.at(snippet.start)
    time = f"{snippet.start:010.3f}" if at is None else _stamp(at)
    return visible(f"{slug(report.source)}_{time}_{slug(snippet.label)}")


def _stamp(at: datetime) -> str:
    return f"{at:%Y%m%dT%H%M%S}.{at.microsecond // 1000:03d}"
