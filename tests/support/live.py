"""A made-up model that hears how loud it is, and a live source that does what it is told."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from audiorep.errors import AudioError
from audiorep.info import EMBEDDING
from audiorep.listen.listener import Listener
from audiorep.listen.reports import Report
from audiorep.listen.sources import StalledError
from audiorep.predict.events import EventConfig
from audiorep.runtimes import Session
from support.info import RATE, make_info


class Loud(Session):
    """Says how loud a window is: the score of `loud` is its peak."""

    device = "none"

    def __init__(self) -> None:
        self.info = make_info(labels={"label": ["loud", "quiet"]}, activation="sigmoid")
        self.batches: list[int] = []

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        self.batches.append(len(waveform))
        peak = np.abs(waveform).max(axis=1)
        return {output: np.stack([peak, 1 - peak], 1) for output in outputs if output != EMBEDDING}


ONLY_LOUD = EventConfig(on=0.5, allow=("loud",))


class Script:
    """A live source that does what it is told: samples, pauses (a number of seconds), an error, or an end."""

    name, has_clock = "script", True

    def __init__(self, *connections: list[object], is_live: bool = True) -> None:
        self.is_live = is_live
        self._connections = list(connections)
        self.opened = self.closed = 0

    def open(self) -> Script:
        if not self._connections or isinstance(self._connections[0], Exception):
            raise self._connections.pop(0) if self._connections else AudioError("script is over.")  # type: ignore[misc]
        self.opened += 1
        self._steps, self.sample_rate = list(self._connections.pop(0)), RATE
        return self

    def read(self, seconds: float) -> np.ndarray | None:
        if not self._steps:
            return None
        step = self._steps[0]
        if isinstance(step, float):
            time.sleep(min(step, seconds))
            self._steps[0] = step - seconds
            if step <= seconds:
                self._steps.pop(0)
            raise StalledError
        self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step  # type: ignore[return-value]

    def close(self) -> None:
        self.closed += 1


def level(value: float, seconds: float) -> np.ndarray:
    return np.full((round(seconds * RATE), 1), value, np.float32)


def reports(listener: Listener, count: int | None = None, seconds: float = 20.0) -> list[Report]:
    """What it reports but losses, until there are so many, or all have ended."""
    found: list[Report] = []
    deadline = time.monotonic() + seconds
    for report in listener.run():
        found += [] if report.lost else [report]
        if len(found) == count or time.monotonic() > deadline:
            break
    return found


def told(found: list[Report]) -> list[tuple[str, float, float, bool]]:
    return [
        (report.event.label, report.event.start, report.event.end, report.event.is_open)
        for report in found
        if report.event is not None
    ]
