"""Events that a model tells against those that are there, as DCASE counts them (Mesaros et al., doi 10.3390/app6060162)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

COLLAR_SECONDS = 0.2
LENGTH_SHARE = 0.5  # of the reference's length, by which an offset may differ

Spans = np.ndarray
"""(events, 2) seconds at which the events of one label begin and end."""
Labelled = Mapping[str, Spans]
"""The events of one recording, by label."""


@dataclass(frozen=True)
class EventCounts:
    """How many events there are, were told and fit together, and the shares that follow.

    An event is matched with at most one reference of its label, so that as many as possible are matched.
    """

    references: int = 0
    """Events that are there."""
    events: int = 0
    """Events that were told."""
    matched: int = 0
    """Pairs whose onsets differ by at most 200 ms, and their offsets by at most that or half the reference's length."""
    onsets: int = 0
    """Pairs whose onsets differ by at most 200 ms."""
    overlapping: int = 0
    """Pairs that overlap."""
    false_alarms: int = 0
    """Events that were told and overlap no reference of their label."""

    def __add__(self, other: EventCounts) -> EventCounts:
        return EventCounts(*(getattr(self, row.name) + getattr(other, row.name) for row in fields(self)))

    @property
    def f1(self) -> float:
        """F1 of the matched pairs; NaN where no event is there or told."""
        return _share(2 * self.matched, self.references + self.events)

    @property
    def onset_f1(self) -> float:
        """F1 of the pairs with matching onsets."""
        return _share(2 * self.onsets, self.references + self.events)

    @property
    def precision(self) -> float:
        """Share of the events that are no false alarms; NaN where none was told."""
        return _share(self.events - self.false_alarms, self.events)

    @property
    def recall(self) -> float:
        """Share of the references that an event of their own overlaps; NaN where there are none."""
        return _share(self.overlapping, self.references)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a share of nothing is None."""
        shares = {name: getattr(self, name) for name in ("f1", "onset_f1", "precision", "recall")}
        return {**asdict(self), **{name: None if np.isnan(value) else value for name, value in shares.items()}}


def count_events(references: Iterable[Labelled], told: Iterable[Labelled]) -> dict[str, EventCounts]:
    """The counts of each label over recordings, with its references and the events that were told of each in turn."""
    found: dict[str, EventCounts] = {}
    for there, heard in zip(references, told, strict=True):
        for label in {**there, **heard}:
            counts = _count(there.get(label, np.zeros((0, 2))), heard.get(label, np.zeros((0, 2))))
            found[label] = found.get(label, EventCounts()) + counts
    return found


def overall(counts: Mapping[str, EventCounts]) -> EventCounts:
    """The sum of the counts of all labels."""
    return sum(counts.values(), EventCounts())


def macro(counts: Mapping[str, EventCounts], name: str) -> float:
    """The mean of `f1` or another share over the labels that have references; NaN where none has."""
    values = [getattr(each, name) for each in counts.values() if each.references]
    return float(np.mean(np.nan_to_num(values))) if values else float("nan")


def onsets_match(references: Spans, told: Spans) -> np.ndarray:
    """(references, events) whether the onsets match."""
    return np.abs(references[:, None, 0] - told[None, :, 0]) <= COLLAR_SECONDS


def offsets_match(references: Spans, told: Spans) -> np.ndarray:
    """(references, events) whether the offsets match."""
    allowed = np.maximum(COLLAR_SECONDS, LENGTH_SHARE * (references[:, 1] - references[:, 0]))
    return np.abs(references[:, None, 1] - told[None, :, 1]) <= allowed[:, None]


def overlaps(references: Spans, told: Spans) -> np.ndarray:
    """(references, events) whether they share some time."""
    return (references[:, None, 0] < told[None, :, 1]) & (told[None, :, 0] < references[:, None, 1])


def most_pairs(fits: np.ndarray) -> int:
    """The largest number of pairs of a row and a column that fit, each in one pair at most (augmenting paths, Kuhn 1955)."""
    partners: list[Sequence[int]] = [np.flatnonzero(row).tolist() for row in fits]
    row_of: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column in partners[row]:
            if column not in seen:
                seen.add(column)
                if column not in row_of or place(row_of[column], seen):
                    row_of[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(partners)))


def _count(references: Spans, told: Spans) -> EventCounts:
    onsets, shared = onsets_match(references, told), overlaps(references, told)
    return EventCounts(
        references=len(references),
        events=len(told),
        matched=most_pairs(onsets & offsets_match(references, told)),
        onsets=most_pairs(onsets),
        overlapping=most_pairs(shared),
        false_alarms=int((~shared.any(0)).sum()),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
