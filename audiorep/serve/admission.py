"""How many requests are served at a time; others are told at once when to try again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from audiorep.serve.refusals import TOO_MANY, Refusal

FIRST_GUESS = 0.1  # seconds for a request, before any was served
MEMORY = 0.1  # share of the newest request in the mean


class Admission:
    """Counts the requests that wait or are served, and refuses more than `most`.

    Args:
        most: requests at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0
        """Requests now."""
        self._seconds = FIRST_GUESS

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue.

        Raises:
            Refusal: there is none; the header `Retry-After` says in how many seconds there may be.
        """
        self.refuse_if_full()
        self.count += 1
        before, began = self.count, time.monotonic()
        try:
            yield
        finally:
            self.count -= 1
            self._seconds += MEMORY * ((time.monotonic() - began) / before - self._seconds)

    @property
    def is_full(self) -> bool:
        """Whether there is no place."""
        return self.count >= self._most

    def refuse_if_full(self) -> None:
        """Raises a Refusal if there is no place."""
        if self.is_full:
            wait = max(1, math.ceil(self._seconds * self.count))
            raise Refusal(
                TOO_MANY,
                f"{self.count} requests are waiting, as many as are allowed. Try again in {wait} s.",
                {"retry-after": str(wait)},
            )
