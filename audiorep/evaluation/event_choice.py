"""Settings of events that keep a wish, chosen on scores of windows that are kept, by the tracker that hears live sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    *(0.05, 0.02),
)
"""Scores from which a window may count, highest first."""
CONFIRM = ((1, 1), (2, 2), (2, 3))
HANG_SECONDS = (0.0, 1.0)
OFF = (0.0, 0.3)
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
    if not any(map(len, columns.references)):
        return None
    hours, best_f1 = len(recordings) * SECONDS / 3600, 0.0
    best: Chosen | None = None
    for (confirm, of), hang, off in product(CONFIRM, HANG_SECONDS, OFF):
        common = EventConfig(off=off, confirm=confirm, of=of, hang_seconds=hang)
        table = _tried(columns, common, len(labels))
        for cost in COSTS:
            found = _on_others(table, cost)
            if found.f1 > best_f1 and wish.is_kept(found.events, found.false_alarms, hours):
                own, shared = _most_gain(table, cost, np.ones(len(table.there), bool))
                on = THRESHOLDS[shared]
                best_f1, settings = found.f1, replace(common, on=on, off=min(off, on))
                best = Chosen(settings, np.array(THRESHOLDS)[own], best_f1)
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
    return _Columns(first.starts, ends, np.array(scores).T, np.array(numbers), np.array(of_parts), spans)


def _tried(columns: _Columns, common: EventConfig, labels: int) -> _Table:
    """The counts at each threshold."""
    there = np.zeros((int(columns.parts.max()) + 1, labels), int)
    np.add.at(there, (columns.parts, columns.labels), [len(spans) for spans in columns.references])
    counts = np.zeros((3, len(THRESHOLDS), *there.shape), int)  # events, overlapping pairs, false alarms
    rows, places, spans = _events(columns, common, np.array(THRESHOLDS))
    np.add.at(counts[0], (rows, columns.parts[places], columns.labels[places]), 1)
    counts[2] = counts[0]
    borders = np.flatnonzero(np.diff(rows * len(columns.labels) + places, prepend=-1))
    for first, last in zip(borders, np.append(borders[1:], len(rows)), strict=True):
        place = places[first]
        if len(columns.references[place]):
            shared, where = (
                overlaps(columns.references[place], spans[first:last]),
                (rows[first], columns.parts[place], columns.labels[place]),
            )
            counts[1][where] += most_pairs(shared)
            counts[2][where] -= int(shared.any(0).sum())
    return _Table(counts[0], counts[1], counts[2], there)


def _events(columns: _Columns, config: EventConfig, on: np.ndarray) -> tuple[np.ndarray, np.ndarray, Spans]:
    """The events of each column at each threshold, in the order of these and of the columns.

    Returns:
        (events,) the row of the threshold; (events,) the column; (events, 2) seconds at which they begin and end.
    """
    rows, places = np.nonzero(columns.scores.max(0) >= on[:, None])
    if not len(rows):
        return rows, places, np.zeros((0, 2))
    tracker, told = EventTracker(list(map(str, range(len(rows)))), config, on[rows]), []
    for start, end, scores in zip(columns.starts, columns.ends, columns.scores, strict=True):
        told += tracker.push(float(start), float(end), scores[places])
    told += tracker.flush()
    found = np.array(sorted((int(event.label), event.start, event.end) for event in told if not event.is_open))
    found = found.reshape(-1, 3)
    which = found[:, 0].astype(int)
    return rows[which], places[which], found[:, 1:]
