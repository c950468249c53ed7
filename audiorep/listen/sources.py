"""What a source of live sound must be able to do."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class StalledError(Exception):
    """Nothing arrived in time."""


class LostError(Exception):
    """Some of what arrived was lost before it could be read; the text says why."""


class Opened(Protocol):
    """A source that is being read."""

    sample_rate: int
    """Hz."""

    def read(self, seconds: float) -> np.ndarray | None:
        """(n, C) floats that have arrived; None at the end.

        Raises:
            AudioError: the source failed.
            StalledError: nothing arrived in so many seconds.
            LostError: what `read` gives next does not follow what it gave before.
        """
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class Source(Protocol):
    """Something to listen to."""

    name: str
    is_live: bool
    """Whether it goes on while nobody reads, so that what is not read in time is lost, and a new connection may be tried."""
    has_clock: bool
    """Whether its samples are of now, and so have a time of day."""

    def open(self) -> Opened:
        """A connection to it.

        Raises:
            AudioError: there is none.
        """
        ...
