"""Settings of events that keep a wish, chosen on scores of windows that are kept, by the tracker that hears live sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from audiorep.evaluation.event_metrics import Spans, most_pairs, overlaps
from audiorep.evaluation.intervals import rate_bound, wilson_bound
from audiorep.evaluation.soundscapes import SECONDS, Label
from audiorep.predict.events import EventConfig, EventTracker
from audiorep.predict.results import Recording

BOUND = 0.84
"""Standard deviations by which the wish is kept: in four of five cases."""
OWN_EVENTS = 10
"""Events of a label at which they count as much for its threshold as those of all labels."""
THRESHOLDS = (
    *(0.999, 0.998, 0.995, 0.99, 0.98, 0.97, 0.96),
    *(0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1),
    *(0.05, 0.03, 0.02, 0.01),
)
"""Scores from which a window may count, highest first."""
MOST_EVENTS = 5  # told for each that is there; lower thresholds, which tell more, are not tried
CONFIRM = ((1, 1), (2, 2), (2, 3))
HANG_SECONDS = (0.0, 0.5, 1.0)
OFF_SHARES = (0.7, 0.5, 0.3)
"""Of `on`, from which an open event stays open; the first is what the setting 0 stands for."""
COSTS = np.geomspace(0.02, 1000, 48)
"""What a wrong event may cost, where a right one gains 1."""


@dataclass(frozen=True)
class Wish:
    """What the events are to keep: one of the two."""

    false_alarms: float | None = None
    """False alarms an hour, of all labels together."""
    precision: float | None = None
    """Share of the events that are no false alarms."""

    def is_kept(self, events: int, false_alarms: int, hours: float, z: float = BOUND) -> bool:
        """Whether it is kept for sure by so many events, of which some are false alarms."""
        if self.false_alarms is not None:
            return rate_bound(false_alarms, z) / hours <= self.false_alarms
        assert self.precision is not None
        return events > 0 and float(wilson_bound(1 - false_alarms / events, events, -z)) >= self.precision

    @property
    def in_words(self) -> str:
        """Such as `at most 1 false alarm an hour`."""
        if self.false_alarms is None:
            return f"a precision of at least {self.precision:g}"
        return f"at most {self.false_alarms:g} false alarm{'' if self.false_alarms == 1 else 's'} an hour"


@dataclass(frozen=True)
class Chosen:
    """Settings by which the wish is kept."""

    common: EventConfig
    """For all labels, with `on`."""
    on: np.ndarray
    """(K,) the threshold of each label."""
    off_share: float
    """Of `on`, from which an open event stays open."""
    f1: float
    """F1 of overlapping pairs in parts by thresholds from the others."""


@dataclass(frozen=True)
class _Columns:
    """The scores of labels in soundscapes that all last as long, side by side: for a tracker, each is a label."""

    starts: np.ndarray
    """(W,) seconds."""
    ends: np.ndarray
    scores: np.ndarray
    """(W, columns)."""
    labels: np.ndarray
    """(columns,) the number of each column's label."""
    parts: np.ndarray
    """(columns,) the part of each column's soundscape."""
    references: list[Spans]
    """The events that are there, of each column."""


@dataclass(frozen=True)
class _Table:
    """What each threshold would give for each label in each part, (thresholds, parts, K)."""

    events: np.ndarray
    overlapping: np.ndarray
    false_alarms: np.ndarray
    there: np.ndarray
    """(parts, K) references."""


@dataclass(frozen=True)
class _Counts:
    """What thresholds give, of all labels together."""

    events: int
    overlapping: int
    false_alarms: int
    f1: float


def choose(
    recordings: Sequence[Recording],
    references: Sequence[dict[Label, Spans]],
    parts: Sequence[int],
    labels: Sequence[Label],
    wish: Wish,
) -> Chosen | None:
    """The settings that keep the wish with the best F1 of events that overlap their references; None where none keep it.

    A right event gains 1 and a wrong one costs something; each label has the threshold at which it gains most. The dearer a
    wrong event, the fewer there are, so the cost is what is searched for. A label of few events is judged by those of all, too.
    Cost and common settings are judged in each part by thresholds from the others: by those from the same clips, every wish
    would seem to be kept.

    Args:
        recordings: soundscapes of the same length.
        references: the events that are in each.
        parts: the part of each, from 0; no two parts have clips of one recording.
        labels: K (head, label) that may become events.
        wish: what is to be kept.
    """
    columns = _side_by_side(recordings, references, parts, labels)
    hours, best_f1 = len(recordings) * SECONDS / 3600, 0.0
    best: Chosen | None = None
    for (confirm, of), hang, off_share in product(CONFIRM, HANG_SECONDS, OFF_SHARES):
        common = EventConfig(confirm=confirm, of=of, hang_seconds=hang)
        table = _tried(columns, common, off_share, len(labels))
        for cost in COSTS:
            found = _on_others(table, cost)
            if found.f1 > best_f1 and wish.is_kept(found.events, found.false_alarms, hours):
                own, shared = _most_gain(table, cost, np.ones(len(table.there), bool))
                best_f1 = found.f1
                best = Chosen(_with_on(common, THRESHOLDS[shared], off_share), np.array(THRESHOLDS)[own], off_share, best_f1)
    return best


def _on_others(table: _Table, cost: float) -> _Counts:
    """What is told in each part by thresholds from the other parts."""
    parts = np.arange(len(table.there))
    rows = np.stack([_most_gain(table, cost, parts != part)[0] for part in parts])  # (parts, K)
    places = rows, parts[:, None], np.arange(rows.shape[1])
    events, overlapping, false_alarms = (
        int(counts[places].sum()) for counts in (table.events, table.overlapping, table.false_alarms)
    )
    return _Counts(events, overlapping, false_alarms, 2 * overlapping / max(events + int(table.there.sum()), 1))


def _most_gain(table: _Table, cost: float, parts: np.ndarray) -> tuple[np.ndarray, int]:
    """(K,) the row of each label's threshold, and the row of that of all labels together, by some of the parts."""
    right = table.overlapping[:, parts].sum(1)
    gain = right - cost * (table.events[:, parts].sum(1) - right)
    pooled = gain.sum(1) / max(int(table.there[parts].sum()), 1)
    return (gain + OWN_EVENTS * pooled[:, None]).argmax(0), int(pooled.argmax())


def _with_on(config: EventConfig, on: float, off_share: float) -> EventConfig:
    return EventConfig(on=on, off=off_of(on, off_share), confirm=config.confirm, of=config.of, hang_seconds=config.hang_seconds)


def off_of(on: float, off_share: float) -> float:
    """The setting `off`: 0 where it is the tracker's own share of `on`."""
    return 0.0 if off_share == OFF_SHARES[0] else round(off_share * on, 4)


def _side_by_side(
    recordings: Sequence[Recording],
    references: Sequence[dict[Label, Spans]],
    parts: Sequence[int],
    labels: Sequence[Label],
) -> _Columns:
    """The columns that reach the lowest threshold, or have references."""
    first, nothing = recordings[0], np.zeros((0, 2))
    scores, numbers, of_parts, spans = [], [], [], []
    for recording, there, part in zip(recordings, references, parts, strict=True):
        assert len(recording.starts) == len(first.starts)
        for number, (head, label) in enumerate(labels):
            column = recording.scores[head][:, recording.info.labels[head].index(label)]
            if column.max() >= THRESHOLDS[-1] or (head, label) in there:
                scores.append(column)
                numbers.append(number)
                of_parts.append(part)
                spans.append(there.get((head, label), nothing))
    ends = np.array([first.end(window) for window in range(len(first.starts))])
    return _Columns(first.starts, ends, np.stack(scores, 1), np.array(numbers), np.array(of_parts), spans)


def _tried(columns: _Columns, common: EventConfig, off_share: float, labels: int) -> _Table:
    """The counts at each threshold, down to where far too many events are told."""
    there = np.zeros((int(columns.parts.max()) + 1, labels), int)
    np.add.at(there, (columns.parts, columns.labels), [len(spans) for spans in columns.references])
    rows: list[np.ndarray] = []
    for on in THRESHOLDS:
        rows.append(_counts(columns, _with_on(common, on, off_share), there.shape))
        if rows[-1][0].sum() > MOST_EVENTS * max(int(there.sum()), 1):
            break
    events, overlapping, false_alarms = np.stack(rows, 1)
    return _Table(events, overlapping, false_alarms, there)


def _counts(columns: _Columns, config: EventConfig, shape: tuple[int, ...]) -> np.ndarray:
    """(3, parts, K) events, pairs of them that overlap references, and false alarms."""
    active = np.flatnonzero((columns.scores >= config.on).any(0))
    places, spans = _events(columns, active, config)
    counts = np.zeros((3, *shape), int)
    np.add.at(counts[0], (columns.parts[places], columns.labels[places]), 1)
    counts[2] = counts[0]
    borders = np.searchsorted(places, active, "left"), np.searchsorted(places, active, "right")
    for place, left, right in zip(active, *borders, strict=True):
        if len(columns.references[place]) and left < right:
            shared = overlaps(columns.references[place], spans[left:right])
            where = columns.parts[place], columns.labels[place]
            counts[1][where] += most_pairs(shared)
            counts[2][where] -= int(shared.any(0).sum())
    return counts


def _events(columns: _Columns, active: np.ndarray, config: EventConfig) -> tuple[np.ndarray, Spans]:
    """(events,) the column of each event, in order, and (events, 2) when they begin and end."""
    tracker = EventTracker(list(map(str, active)), config)
    told = []
    for start, end, scores in zip(columns.starts, columns.ends, columns.scores[:, active], strict=True):
        told += tracker.push(float(start), float(end), scores)
    told += tracker.flush()
    ended = [(int(event.label), event.start, event.end) for event in told if not event.is_open]
    rows = np.array(sorted(ended), float).reshape(-1, 3)
    return rows[:, 0].astype(int), rows[:, 1:]
