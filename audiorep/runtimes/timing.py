"""Calls timed in turns, so that a machine that slows down meanwhile slows all of them alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

WARM_UP = 2  # calls; the first of some runtimes allocates and compiles

Turn = Callable[[], list[float]]
"""Makes a few calls, and gives the seconds of each."""
Times = list[list[float]]
"""For each round, the seconds of each call of one turn."""


def turn(call: Callable[[], object], seconds: float = 0.0) -> Turn:
    """A turn that makes one call, or as many as fill `seconds`.

    An uncounted call precedes each turn: the caches hold what ran before.
    """
    for _ in range(WARM_UP):
        call()
    calls = max(1, round(seconds / seconds_of(call))) if seconds else 1

    def run() -> list[float]:
        call()
        return [seconds_of(call) for _ in range(calls)]

    return run


def in_turns(
    turns: Sequence[Turn], rounds: int, pause: float = 0.0, advance: Callable[[float], None] = lambda amount: None
) -> list[Times]:
    """The times of each of `turns`; in every round all run, in another order.

    Args:
        turns: what is timed.
        rounds: how often each runs.
        pause: seconds before each turn, in which the threads of the turn before, which wait by spinning, fall asleep.
        advance: called after each turn.
    """
    times: list[Times] = [[] for _ in turns]
    places, shuffle = list(range(len(turns))), random.Random(0)
    for _ in range(rounds):
        shuffle.shuffle(places)
        for place in places:
            time.sleep(pause)
            times[place].append(turns[place]())
            advance(1.0)
    return times


def seconds_of(call: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median(times: Times) -> float:
    """The median seconds of a call, over all rounds."""
    return statistics.median(seconds for one in times for seconds in one)


def ratios(reference: Times, times: Times) -> list[float]:
    """For each round, the reference's median time over the other's: above 1, the other is faster."""
    return [statistics.median(slow) / statistics.median(fast) for slow, fast in zip(reference, times, strict=True)]


@dataclass(frozen=True)
class Speed:
    """How many times as fast as a reference something is, over rounds in which both took a turn."""

    median: float
    low: float
    """The tenth percentile."""
    high: float
    """The ninetieth."""


def speed(reference: Times, times: Times) -> Speed:
    """The speed of what took `times` over that of what took the times `reference` in the same rounds."""
    low, middle, high = (float(value) for value in np.quantile(ratios(reference, times), [0.1, 0.5, 0.9]))
    return Speed(middle, low, high)
