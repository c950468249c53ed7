"""Time and memory of cases, each file in a process of its own: they take turns, so that a machine that drifts hurts all alike.

Runtimes in one process keep threads that wait by spinning, and slow each other several times over.
"""

from __future__ import annotations

import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from audiorep.benchmark.cases import Case
from audiorep.benchmark.worker import serve
from audiorep.errors import ConfigError
from audiorep.interrupts import kept_from_children

SETTLE = 0.02  # seconds in which the waiting threads of the process before fall asleep
DIED = "its process ended without a word, as one does that runs out of memory"
SHORTEST = 0.05  # seconds that a turn takes at least, so that fast networks are called several times


@dataclass(frozen=True)
class Timing:
    """How long calls of a case took, and what they held."""

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
    peak_memory_mb: float
    """Of its process, with this batch size and smaller ones."""


def timings(
    cases: Sequence[Case],
    rounds: int,
    threads: int,
    folder: Path,
    baseline: Callable[[Case], Case],
    advance: Callable[[float], None] = lambda amount: None,
) -> list[Timing | str]:
    """The timing of each case over `rounds` rounds, in each of which all take a turn in another order; or why there is none."""
    with _workers(cases, threads, folder) as workers:
        seconds: list[list[float]] = [[] for _ in cases]  # the median of each turn
        every: list[list[float]] = [[] for _ in cases]
        places = [index for index, worker in enumerate(workers) if not isinstance(worker, str)]
        shuffle = random.Random(0)
        for _ in range(rounds):
            shuffle.shuffle(places)
            for index in places:
                worker = workers[index]
                if isinstance(worker, str):
                    continue
                try:
                    took = worker.turn()
                except (EOFError, OSError):
                    workers[index] = DIED
                    continue
                seconds[index].append(statistics.median(took))
                every[index] += took
                advance(1.0)
    index_of = {id(case): index for index, case in enumerate(cases)}
    found: list[Timing | str] = []
    for index, (case, worker) in enumerate(zip(cases, workers, strict=True)):
        if isinstance(worker, str):
            found.append(worker)
            continue
        place = index_of[id(baseline(case))]
        if isinstance(lost := workers[place], str):
            raise ConfigError(f"The baseline {cases[place].name} could not be measured: {lost}.")
        reference = seconds[place]
        found.append(_timing(case, every[index], seconds[index], reference, worker.peak))
    return found


def _timing(case: Case, every: list[float], rounds: list[float], baseline: list[float], peak: float) -> Timing:
    ratios = [slow / fast for slow, fast in zip(baseline, rounds, strict=True)]
    low, middle, high = (float(value) for value in np.quantile(ratios, [0.1, 0.5, 0.9]))
    median, p90 = (float(value) for value in np.quantile(every, [0.5, 0.9]))
    return Timing(1e3 * median, 1e3 * p90, case.batch / median, middle, low, high, peak)


@dataclass(frozen=True)
class _Worker:
    """One case in a process that waits for its turns."""

    orders: Connection
    index: int
    calls: int
    peak: float

    def turn(self) -> list[float]:
        """Seconds of each call."""
        time.sleep(SETTLE)
        self.orders.send((self.index, self.calls))
        return self.orders.recv()


@contextmanager
def _workers(cases: Sequence[Case], threads: int, folder: Path) -> Iterator[list[_Worker | str]]:
    """A worker for each case, cases of one file in one process; or the error that it met."""
    context = multiprocessing.get_context("spawn")
    processes: list[multiprocessing.context.SpawnProcess] = []
    by_path: dict[Path, tuple[Connection, list[Case], list[tuple[float, float]] | str]] = {}
    try:
        for path in dict.fromkeys(case.path for case in cases):
            own = sorted((case for case in cases if case.path == path), key=lambda case: case.batch)
            files = []
            for case in own:
                files.append(str(folder / f"input{len(processes)}_{case.batch}.npy"))
                np.save(files[-1], case.input)
            here, there = context.Pipe()
            given = (there, own[0].runtime, str(path), own[0].precision, threads, files)
            process = context.Process(target=serve, args=given, daemon=True)
            with kept_from_children():
                process.start()
            there.close()
            processes.append(process)
            by_path[path] = (here, own, _first(here))  # one after another: loading is not part of what is measured
        yield [_worker(case, *by_path[case.path]) for case in cases]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _first(orders: Connection) -> list[tuple[float, float]] | str:
    try:
        return orders.recv()
    except EOFError:
        return DIED


def _worker(case: Case, orders: Connection, own: list[Case], first: list[tuple[float, float]] | str) -> _Worker | str:
    if isinstance(first, str):
        return first
    index = next(place for place, other in enumerate(own) if other is case)
    seconds, peak = first[index]
    return _Worker(orders, index, max(1, round(SHORTEST / seconds)), peak)
