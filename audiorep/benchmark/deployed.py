"""Models timed as users run them: from a window's waveform to its scores, all taking turns."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiorep import runtimes
from audiorep.benchmark.cases import Case
from audiorep.benchmark.engines import SESSION
from audiorep.benchmark.measure import Timing, timings
from audiorep.models import Cost

Deployed = tuple[Path, str, int]
"""A model file or checkpoint folder, the runtime that opens it, and the place of the one that its speed is over."""


def timed(models: Sequence[Deployed], rounds: int, threads: int) -> list[Timing | str]:
    """Each model's times, or why it could not be timed. Each runs in a process of its own, the same file in one."""
    cases = []
    for number, (path, runtime, _) in enumerate(models):
        samples = runtimes.open_session(path, runtime).info.window_samples
        noise = (0.1 * np.random.default_rng(0).standard_normal((1, samples))).astype(np.float32)
        cases.append(Case(str(number), "deployed", SESSION + runtime, "fp32", 1, Cost(0, 0, 0), path, noise))
    with tempfile.TemporaryDirectory() as folder:
        return timings(cases, rounds, threads, Path(folder), lambda case: cases[models[int(case.network)][2]])
