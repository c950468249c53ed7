"""Time and memory of cases: they take turns, so that a machine that drifts hurts all alike."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiorep.benchmark.cases import Case
from audiorep.benchmark.engines import peak

WARM_UP = 2  # calls; the first of some runtimes allocates and compiles
SETTLE = 0.005  # seconds in which the waiting threads of the runtime before fall asleep
SHORTEST = 0.02  # seconds that a turn takes at least, so that fast networks are called several times


@dataclass(frozen=True)
class Timing:
    """How long calls of a case took."""

    median_ms: float
    """Of a call with the whole batch."""
    p90_ms: float
    throughput: float
    """Clips a second at the median."""
    ratio: float
    """Speed over the baseline's at the same batch size: the median over rounds; above 1 is faster."""
    ratio_low: float
    """The tenth percentile of the same."""
    ratio_high: float
    """The ninetieth."""


def timings(
    cases: Sequence[Case],
    rounds: int,
    baseline: Callable[[Case], Case],
    advance: Callable[[float], None] = lambda amount: None,
) -> list[Timing]:
    """The timing of each case over `rounds` rounds, in each of which all take a turn in another order."""
    turns = [_calls(case) for case in cases]
    seconds: list[list[float]] = [[] for _ in cases]
    each: list[list[float]] = [[] for _ in cases]
    order = list(range(len(cases)))
    shuffle = random.Random(0)
    for _ in range(rounds):
        shuffle.shuffle(order)
        for index in order:
            time.sleep(SETTLE)
            if turns[index] > 1:
                _call(cases[index])  # the caches hold another's
            took = [_call(cases[index]) for _ in range(turns[index])]
            seconds[index].append(statistics.median(took))
            each[index] += took
            advance(1.0)
    places = {id(case): index for index, case in enumerate(cases)}
    return [_timing(case, each[i], seconds[i], seconds[places[id(baseline(case))]]) for i, case in enumerate(cases)]


def _timing(case: Case, every: list[float], rounds: list[float], baseline: list[float]) -> Timing:
    ratios = [slow / fast for slow, fast in zip(baseline, rounds, strict=True)]
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
    median, p90 = np.quantile(every, [0.5, 0.9])
    return Timing(1e3 * float(median), 1e3 * float(p90), case.batch / float(median), float(middle), float(low), float(high))


def _calls(case: Case) -> int:
    """Calls in a turn, after warming up."""
    for _ in range(WARM_UP):
        _call(case)
    return max(1, round(SHORTEST / _call(case)))


def _call(case: Case) -> float:
    start = time.perf_counter()
    case.ready.run(case.input)
    return time.perf_counter() - start


def memories(cases: Sequence[Case], threads: int, folder: Path) -> list[float]:
    """The peak memory in MB of a process of its own that loads each case and runs it three times."""
    found: dict[tuple[str, int], float] = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a fresh process for each
        for number, case in enumerate(cases):
            values = folder / f"input{number}.npy"
            np.save(values, case.input)
            key = (str(case.ready.path), case.batch)
            found[key] = pool.apply(peak, (case.runtime, str(case.ready.path), case.precision, threads, str(values)))
    return [found[str(case.ready.path), case.batch] for case in cases]
