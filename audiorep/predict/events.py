"""Events in the scores of consecutive windows: when a sound begins and when it ends. Numpy alone, and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep.config import Config, failed, refuse
from audiorep.errors import ConfigError
from audiorep.escape import visible
from audiorep.untrusted import brief, is_number, is_text, is_whole

if TYPE_CHECKING:
    from audiorep.info.model_info import ModelInfo

LONGEST_MEMORY = 1000  # windows that confirm an event
MOST_SECONDS = 86_400.0
_EXACT = 1e-6  # seconds within which two times are the same
NUMBERS = ("on", "off", "sure", "least_seconds", "hang_seconds", "pause_seconds", "level_db")
"""Settings that are numbers, whole or not."""
OF_LABELS = ("on", "off", "confirm", "of", "sure", "least_seconds", "hang_seconds", "pause_seconds")
"""Settings that a label may have of its own."""


@dataclass(frozen=True)
class EventConfig(Config):
    """When windows become an event, for all labels, or for one in `labels`.

    >>> audiorep.EventConfig(on=0.6, confirm=2, of=3, labels={"siren": {"on": 0.3, "sure": 0.5}}).of_label("siren").on
    0.3
    """

    on: float = 0.0
    """Score from which a window counts; 0: the label's own threshold in the model, or 0.5 where it has none."""
    off: float = 0.0
    """Score from which a window keeps an open event open, at most `on`; 0: 0.7 of `on`."""
    confirm: int = 1
    """Windows that must count before an event begins."""
    of: int = 1
    """Last windows among which they are."""
    sure: float = 1.0
    """Score of a single window that begins an event at once."""
    least_seconds: float = 0.0
    """Length that an event must reach to be told."""
    hang_seconds: float = 0.0
    """Length of a gap that does not end an event."""
    pause_seconds: float = 0.0
    """Time from the end of an event in which no other of its label begins."""
    level_db: float = -200.0
    """Peak level of a window, against full scale, below which it counts for no label."""
    allow: tuple[str, ...] = ()
    """The only labels that become events; empty: all."""
    deny: tuple[str, ...] = ()
    """Labels that do not; the model's `unknown` never does, unless it is in `allow`."""
    labels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{label: settings of its own}, but for `level_db` and the lists."""

    def __post_init__(self) -> None:
        refuse([(not problem, problem) for problem in self._type_problems()], "events: ")
        refuse(self._checks(), "events: ")
        for label in self.labels:
            self.of_label(label)

    def of_label(self, label: str) -> EventConfig:
        """The settings of a label: these, or those with its own in place of the common ones.

        Raises:
            ConfigError: its own settings are not allowed; the text names it.
        """
        if not (own := self.labels.get(label)):
            return self
        if strange := [key for key in own if key not in OF_LABELS]:
            raise ConfigError(f"events: {visible(label)}: {visible(str(strange[0]))} is no setting of a label.")
        common = {name: getattr(self, name) for name in OF_LABELS}
        try:
            return EventConfig(**{**common, **own})
        except ConfigError as error:
            raise ConfigError(f"events: {visible(label)}: {str(error).removeprefix('events: ')}") from None

    def longest_delay(self, window_seconds: float, hop_seconds: float) -> float:
        """Seconds by which an event may have begun before it is told."""
        each = [self, *(self.of_label(label) for label in self.labels)]
        return window_seconds + max(own.of * hop_seconds + own.least_seconds + own.hang_seconds for own in each)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EventConfig:
        """The settings in a table, such as that of a TOML file.

        Raises:
            ConfigError: a key is no setting, or a value is not allowed.
        """
        known = {row.name for row in fields(cls)}
        if strange := [key for key in values if key not in known]:
            raise ConfigError(f"events: {visible(str(strange[0]))} is no setting; known are {', '.join(sorted(known))}.")
        given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**given)

    def _type_problems(self) -> list[str]:
        numbers = {name: getattr(self, name) for name in NUMBERS}
        whole = {"confirm": self.confirm, "of": self.of}
        lists = {"allow": self.allow, "deny": self.deny}
        tables = isinstance(self.labels, Mapping) and all(isinstance(own, Mapping) for own in self.labels.values())
        return failed(
            [
                *((is_number(value), f"{name} is {brief(value)}; a number is needed") for name, value in numbers.items()),
                *((is_whole(value), f"{name} is {brief(value)}; a whole number is needed") for name, value in whole.items()),
                *(
                    (isinstance(names, tuple) and all(is_text(name) for name in names), f"{name} is no list of labels")
                    for name, names in lists.items()
                ),
                (tables, f"labels are {brief(self.labels)}; a table for each label is needed"),
            ]
        )

    def _checks(self) -> list[tuple[bool, str]]:
        seconds = {name: getattr(self, name) for name in ("least_seconds", "hang_seconds", "pause_seconds")}
        return [
            (0 <= self.on <= 1, f"on is {self.on:g}; 0 to 1 is allowed"),
            (0 <= self.off <= (self.on or 1), f"off is {self.off:g}; 0 to on, which is {self.on:g}, is allowed"),
            (0 < self.sure <= 1, f"sure is {self.sure:g}; above 0 to 1 is allowed"),
            (
                1 <= self.confirm <= self.of <= LONGEST_MEMORY,
                f"confirm is {brief(self.confirm)} of {brief(self.of)} windows; 1 to {LONGEST_MEMORY}, and at most all, are "
                "allowed",
            ),
            *((0 <= v <= MOST_SECONDS, f"{n} is {v:g}; 0 to {MOST_SECONDS:g} is allowed") for n, v in seconds.items()),
            (-400 <= self.level_db <= 0, f"level_db is {self.level_db:g}; -400 to 0 is allowed"),
        ]


@dataclass(frozen=True)
class Event:
    """A sound that was heard, or is being heard."""

    label: str
    start: float
    """Seconds."""
    end: float
    """Seconds; of an event that is still open, up to where it was heard."""
    score: float
    """The highest score of its windows."""
    decided: float
    """Seconds up to which the sound had been heard when this was told."""
    is_open: bool = False
    """Whether it has begun and not ended. Every event is told twice: open, and then with its end."""


class EventTracker:
    """The events of one head, from its windows one after the other.

    An event covers the *new part* of each of its windows: what no window before it held. So a sound is not said to have begun
    before the window that heard it first was the first to hold it. An event begins with the first of the windows that confirm
    it. It ends with the last window that keeps it open.

    >>> tracker = audiorep.EventTracker(["siren"], audiorep.EventConfig(on=0.5))
    >>> tracker.push(0.0, 1.0, np.array([0.1]))
    []
    >>> [event.start for event in tracker.push(0.5, 1.5, np.array([0.8]))]
    [1.0]
    >>> [(event.start, event.end) for event in tracker.push(1.0, 2.0, np.array([0.2]))]
    [(1.0, 1.5)]

    Args:
        labels: K class names.
        config: the settings.
        thresholds: (K,) scores that stand for `config.on` where that is 0.
        unknown: the label of sounds of no class, if there is one.
    """

    def __init__(
        self,
        labels: Sequence[str],
        config: EventConfig | None = None,
        thresholds: Iterable[float] | None = None,
        unknown: str = "",
    ) -> None:
        config = config or EventConfig()
        self.labels = list(labels)
        own = [config.of_label(label) for label in labels]
        given = np.array([row.on for row in own])
        limits = np.full(len(own), 0.5) if thresholds is None else np.fromiter(thresholds, float)
        self._on = np.where(given > 0, given, np.where(limits > 0, limits, 0.5))
        off = np.array([row.off for row in own])
        self._off = np.where(off > 0, np.minimum(off, self._on), 0.7 * self._on)
        self._confirm, of = np.array([row.confirm for row in own]), np.array([row.of for row in own])
        self._recent = np.arange(of.max())[:, None] >= of.max() - of  # (windows, K)
        self._sure = np.array([row.sure for row in own])
        self._least, self._hang, self._pause = (
            np.array([getattr(row, name) for row in own]) for name in ("least_seconds", "hang_seconds", "pause_seconds")
        )
        refused = {*config.deny, *({unknown} - {*config.allow})}
        allowed = {*(config.allow or labels)}
        self._heeded = np.array([label not in refused and label in allowed for label in labels])
        self._level = 10 ** (config.level_db / 20)
        self.reset()

    def reset(self) -> None:
        """Forgets all windows and open events: the next window is the first."""
        windows, labels = self._recent.shape
        self._hits = np.zeros((windows, labels))  # scores of recent windows where they count, else 0
        self._new = np.full(windows, -np.inf)  # where the new part of each recent window begins
        self._heard = -np.inf
        self._open, self._told = np.zeros(labels, bool), np.zeros(labels, bool)
        self._start, self._end, self._best = np.zeros(labels), np.zeros(labels), np.zeros(labels)
        self._free = np.full(labels, -np.inf)  # from when on the next event may begin

    def push(self, start: float, end: float, scores: np.ndarray, peak: float = 1.0) -> list[Event]:
        """The events that a window decides: those that end, and those that begin.

        Args:
            start: seconds at which the window begins, no earlier than the window before.
            end: seconds at which it ends.
            scores: (K,).
            peak: its largest magnitude, 1 at full scale.
        """
        new, self._heard = min(max(start, self._heard), end), max(end, self._heard)
        scores = np.where(self._heeded, scores, 0.0) if peak >= self._level else np.zeros(len(self.labels))
        ended = self._close(self._open & (new - self._end > self._hang + _EXACT), end)  # nothing was heard between
        self._keep(end, scores)
        ended += self._close(self._open & (end - self._end > self._hang + _EXACT), end)
        self._begin(new, end, scores)
        begun = self._open & ~self._told & (self._end - self._start >= self._least - _EXACT)
        self._told |= begun
        return [*ended, *self._events(begun, end, is_open=True)]

    def flush(self) -> list[Event]:
        """Ends the open events where they were last heard; the next window is the first of another stretch."""
        ended = self._close(self._open, self._heard)
        self.reset()
        return ended

    def _keep(self, end: float, scores: np.ndarray) -> None:
        kept = self._open & (scores >= self._off)
        self._end[kept] = end
        self._best = np.where(kept, np.maximum(self._best, scores), self._best)

    def _close(self, closing: np.ndarray, now: float) -> list[Event]:
        ended = self._events(closing & self._told, now, is_open=False)
        self._free[closing & self._told] = (self._end + self._pause)[closing & self._told]
        self._hits[:, closing] = 0
        self._open &= ~closing
        self._told &= ~closing
        return ended

    def _begin(self, new: float, end: float, scores: np.ndarray) -> None:
        hits = (scores >= self._on) & (new >= self._free - _EXACT)
        self._hits, self._new = np.roll(self._hits, -1, 0), np.roll(self._new, -1)
        self._hits[-1], self._new[-1] = np.where(hits, scores, 0), new
        counted = np.where(self._recent, self._hits, 0)
        enough = ((counted > 0).sum(0) >= self._confirm) | (scores >= self._sure)
        begins = hits & ~self._open & enough
        self._start = np.where(begins, self._new[(counted > 0).argmax(0)], self._start)
        self._end = np.where(begins, end, self._end)
        self._best = np.where(begins, counted.max(0), self._best)
        self._open |= begins

    def _events(self, which: np.ndarray, now: float, is_open: bool) -> list[Event]:
        return [
            Event(self.labels[k], float(self._start[k]), float(self._end[k]), float(self._best[k]), float(now), is_open)
            for k in np.flatnonzero(which)
        ]


def trackers(info: ModelInfo, config: EventConfig | None = None) -> dict[str, EventTracker]:
    """{head: its tracker} for a model; without the heads that hold no label of `config.allow`.

    Raises:
        ConfigError: the settings name a label of no head.
    """
    config, known = config or EventConfig(), {name for names in info.labels.values() for name in names}
    if strange := sorted({*config.allow, *config.deny, *config.labels} - {*known, info.unknown}):
        raise ConfigError(f"events: {visible(strange[0])} is no label of the model.")
    return {
        head: EventTracker(names, config, info.threshold(head), info.unknown)
        for head, names in info.labels.items()
        if not config.allow or {*config.allow} & {*names}
    }
