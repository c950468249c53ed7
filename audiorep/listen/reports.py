"""What is told of a source: its events, gaps, cut-out sounds and its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.errors import AudiorepError
from audiorep.listen.feeds import Gap
from audiorep.predict.events import Event


@dataclass(frozen=True, eq=False)
class Snippet:
    """The sound of an event, with what came before and after it."""

    label: str
    start: float
    """Seconds of the source's sound at which the event begins."""
    before: float
    """Seconds of the snippet before that."""
    samples: np.ndarray
    """(n, C) 16-bit integers; none once they are written."""
    sample_rate: int
    path: Path | None = None
    """The file, once it is written."""


@dataclass(frozen=True)
class Report:
    """Something that happened to a source."""

    source: str
    seconds: float
    """Seconds of the source's sound, gaps included, at which it happened."""
    began: datetime | None
    """When the source's first sample was heard; None for a file, which has no time of day."""
    event: Event | None = None
    head: str = ""
    """The head of the event."""
    lost: str = ""
    """Why a live source sends nothing for now."""
    gap: Gap | None = None
    snippet: Snippet | None = None
    error: AudiorepError | None = None
    """Why the source has ended, if it failed."""
    ended: bool = False
    """Whether nothing more comes from it."""

    def at(self, seconds: float) -> datetime | None:
        """The time of day at so many seconds of the source's sound."""
        return None if self.began is None else self.began + timedelta(seconds=seconds)

    @property
    def is_told(self) -> bool:
        """Whether readers are told: of a snippet, not before it is written."""
        return self.snippet is None or self.snippet.path is not None


def as_dict(report: Report) -> dict[str, Any]:
    """A report as plain values for JSON, times to the microsecond."""
    found = {"source": report.source, "time": iso(report.at(report.seconds)), "seconds": round(report.seconds, 6)}
    if report.event is not None:
        return {**found, **_event(report, report.event)}
    if report.lost:
        return {**found, "lost": report.lost}
    if report.gap is not None:
        return {**found, "gap_seconds": round(report.gap.seconds, 6), "reason": report.gap.reason}
    if (snippet := report.snippet) is not None:
        about = {"time": iso(report.at(snippet.start)), "start": round(snippet.start, 6), "head": report.head}
        return {**found, **about, "label": snippet.label, "snippet": str(snippet.path), "before": round(snippet.before, 6)}
    return {**found, "ended": report.ended, "error": "" if report.error is None else str(report.error)}


def _event(report: Report, event: Event) -> dict[str, Any]:
    return {
        "time": iso(report.at(event.start)),
        "start": round(event.start, 6),
        "end": None if event.is_open else round(event.end, 6),
        "head": report.head,
        "label": event.label,
        "score": round(event.score, 6),
        "decided": round(event.decided, 6),
    }


def iso(time: datetime | None) -> str | None:
    """A time of day to the millisecond, with its zone."""
    return None if time is None else time.isoformat(timespec="milliseconds")
