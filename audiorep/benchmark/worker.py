"""A process that holds one network and times its calls when it is told to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from audiorep.benchmark.environment import peak_memory_mb
from audiorep.interrupts import become_worker
from audiorep.runtimes import timing

SHORTEST = 0.05  # seconds that a turn takes at least, so that fast networks are called several times

Load = Callable[[], Callable[[np.ndarray], Any]]
"""Loads a network and gives what runs it: (B, …) to its outputs."""


def serve(orders: Connection, load: Load, inputs: list[str]) -> None:
    """Answers each number of an input with the seconds of the calls of one turn, until None comes.

    First it sends the peak memory in MB after each input has been run, or a text: the error that ends it.
    """
    become_worker()
    try:
        run = load()
        turns, peaks = [], []
        for path in inputs:
            turns.append(timing.turn(partial(run, np.load(path)), SHORTEST))
            peaks.append(peak_memory_mb())
    except Exception as error:  # a runtime that fails on one network must not end the others' measurement
        orders.send(f"{type(error).__name__}: {error}")
        return
    orders.send(peaks)
    while (index := orders.recv()) is not None:
        orders.send(turns[index]())
