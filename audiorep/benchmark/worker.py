"""A process that holds one network and times its calls when it is told to."""

from __future__ import annotations

import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from audiorep.benchmark.engines import load
from audiorep.benchmark.environment import peak_memory_mb

WARM_UP = 2  # calls; the first of some runtimes allocates and compiles


def serve(orders: Connection, runtime: str, path: str, precision: str, threads: int, inputs: list[str]) -> None:
    """Answers (index of an input, calls) with the seconds of each call, until None comes.

    First it sends, for each input in turn, (seconds of a call, peak memory in MB so far), or the error that ends it. An
    uncounted call precedes each turn: the caches hold what ran before.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    try:
        run = load(runtime, Path(path), precision, threads)
        arrays = [np.load(values) for values in inputs]
        first = []
        for values in arrays:
            for _ in range(WARM_UP):
                run(values)
            first.append((_seconds(run, values), peak_memory_mb()))
    except Exception as error:  # a runtime that fails on one network must not end the others' measurement
        orders.send(f"{type(error).__name__}: {error}")
        return
    orders.send(first)
    while (order := orders.recv()) is not None:
        index, calls = order
        run(arrays[index])
        orders.send([_seconds(run, arrays[index]) for _ in range(calls)])


def _seconds(run, values: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    run(values)
    return time.perf_counter() - start
