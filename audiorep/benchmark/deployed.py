"""Models timed as users run them: from a window's waveform to its scores, all taking turns."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from audiorep import runtimes
from audiorep.benchmark.measure import Candidate, Timing, timings


@dataclass(frozen=True)
class Deployed:
    """A model that is timed."""

    path: Path
    """Model file or checkpoint folder."""
    runtime: str
    """The key, in `runtimes.RUNTIMES`, of what opens it."""
    baseline: int
    """Place, among the models, of the one whose speed is 1."""


def timed(models: Sequence[Deployed], rounds: int, threads: int) -> list[Timing | str]:
    """Each model's times, or why it could not be timed. Each file runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return timings([_candidate(model, threads) for model in models], rounds, Path(folder))


def _candidate(model: Deployed, threads: int) -> Candidate:
    samples = runtimes.open_session(model.path, model.runtime).info.window_samples
    noise = (0.1 * np.random.default_rng(0).standard_normal((1, samples))).astype(np.float32)
    load = partial(runtimes.open_session, model.path, model.runtime, threads)
    return Candidate(str(model.path), model.path, load, noise, model.baseline)
