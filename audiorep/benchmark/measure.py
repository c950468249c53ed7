"""Time and memory of models that take turns, each file in a process of its own.

Runtimes in one process keep threads that wait by spinning, and slow each other several times over.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from audiorep.benchmark.worker import Load, serve
from audiorep.errors import ConfigError
from audiorep.interrupts import block_in_children
from audiorep.runtimes import timing
from audiorep.runtimes.timing import Times

PAUSE = 0.02  # seconds before a turn, in which the waiting threads of the process before fall asleep
DIED = "its process ended without a word, as one does that runs out of memory"


@dataclass(frozen=True)
class Candidate:
    """A model and the input that it is timed on."""

    name: str
    path: Path
    """Its file; all candidates of one file share a process."""
    load: Load
    """Loads that file there, so it must be possible to pickle."""
    input: np.ndarray
    """(B, …)."""
    baseline: int
    """Place, among the candidates, of the one whose speed is 1."""


@dataclass(frozen=True)
class Timing:
    """How long the calls of a candidate took, and how much memory its process held."""

    median_ms: float
    """The median time of a call with the whole batch."""
    p90_ms: float
    throughput: float
    """Clips a second at the median."""
    ratio: float
    """Speed over the baseline's: the median over rounds; above 1 is faster."""
    ratio_low: float
    """The tenth percentile of the same."""
    ratio_high: float
    """The ninetieth."""
    peak_memory_mb: float
    """The most memory that its process held, with this batch size and smaller ones."""


def timings(
    candidates: Sequence[Candidate], rounds: int, folder: Path, advance: Callable[[float], None] = lambda amount: None
) -> list[Timing | str]:
    """The timing of each candidate over `rounds` rounds, in each of which all take a turn; or why there is none.

    Their inputs are kept in `folder` meanwhile.

    Raises:
        ConfigError: a baseline could not be measured.
    """
    with _workers(candidates, folder) as workers:
        able = [place for place, worker in enumerate(workers) if not worker.failure]
        measured = timing.in_turns([workers[place].turn for place in able], rounds, PAUSE, advance)
        times = dict(zip(able, measured, strict=True))
    found: list[Timing | str] = []
    for place, (candidate, worker) in enumerate(zip(candidates, workers, strict=True)):
        if worker.failure:
            found.append(worker.failure)
            continue
        if failure := workers[candidate.baseline].failure:
            raise ConfigError(f"The baseline {candidates[candidate.baseline].name} could not be measured: {failure}.")
        found.append(_timing(len(candidate.input), times[place], times[candidate.baseline], worker.peak))
    return found


def _timing(batch: int, times: Times, baseline: Times, peak: float) -> Timing:
    speed = timing.speed(baseline, times)
    median, p90 = (float(value) for value in np.quantile(np.concatenate(times), [0.5, 0.9]))
    return Timing(1e3 * median, 1e3 * p90, batch / median, speed.median, speed.low, speed.high, peak)


@dataclass
class _Worker:
    """One candidate in a process that waits for its turns."""

    orders: Connection
    index: int
    """The number of its input in that process."""
    peak: float = 0.0
    failure: str = ""
    """Why there are no times; empty where there are."""

    def turn(self) -> list[float]:
        """Seconds of each call; none once the process has died."""
        if self.failure:
            return []
        try:
            self.orders.send(self.index)
            return self.orders.recv()
        except (EOFError, OSError):
            self.failure = DIED
            return []


@contextmanager
def _workers(candidates: Sequence[Candidate], folder: Path) -> Iterator[list[_Worker]]:
    """A worker for each candidate, those of one file in one process."""
    processes: list[multiprocessing.context.SpawnProcess] = []
    workers: dict[int, _Worker] = {}
    try:
        for path in dict.fromkeys(candidate.path for candidate in candidates):
            own = [place for place, candidate in enumerate(candidates) if candidate.path == path]
            own.sort(key=lambda place: len(candidates[place].input))
            process, orders = _started([candidates[place] for place in own], folder / f"inputs{len(processes)}")
            processes.append(process)
            peaks = _peaks(orders)  # one process after another: loading is not part of what is measured
            for index, place in enumerate(own):
                if isinstance(peaks, str):
                    workers[place] = _Worker(orders, index, failure=peaks)
                else:
                    workers[place] = _Worker(orders, index, peaks[index])
        yield [workers[place] for place in range(len(candidates))]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _started(own: Sequence[Candidate], folder: Path) -> tuple[multiprocessing.context.SpawnProcess, Connection]:
    """A process that holds the one file of all of `own`, whose inputs are kept in `folder`, and the line to it."""
    folder.mkdir()
    inputs = [str(folder / f"{index}.npy") for index in range(len(own))]
    for path, candidate in zip(inputs, own, strict=True):
        np.save(path, candidate.input)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, own[0].load, inputs), daemon=True)
    with block_in_children():
        process.start()
    there.close()
    return process, here


def _peaks(orders: Connection) -> list[float] | str:
    """Peak memory with each input, or why the process could not load its file."""
    try:
        return orders.recv()
    except EOFError:
        return DIED
