"""Made-up reports of a source."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from audiorep.listen.feeds import Gap
from audiorep.listen.reports import Report, Snippet
from audiorep.predict.events import Event

BEGAN = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)


def event(
    label: str = "siren", start: float = 1.0, end: float = 2.5, is_open: bool = False, source: str = "yard", score: float = 0.9
) -> Report:
    return Report(source, end + 0.5, BEGAN, event=Event(label, start, end, score, end + 0.5, is_open), head="label")


def gap(seconds: float = 3.0) -> Report:
    return Report("yard", 7.0, BEGAN, gap=Gap(seconds, "the line was cut"))


def snippet(seconds: float = 1.0, label: str = "siren", rate: int = 8000) -> Report:
    return Report("yard", 9.0, BEGAN, snippet=Snippet(label, 2.0, 0.5, np.ones((round(seconds * rate), 1), np.int16), rate))
