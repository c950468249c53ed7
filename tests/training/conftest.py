"""Clips of the tones, and teachers that know them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.training import RATE, quick

from audiorep import datasets
from audiorep.models import checkpoint
from audiorep.training import fit, teachers, workflow

SIZES = {"depths": [1, 2], "time_kernels": [3], "frequency_kernels": [3]}


@pytest.fixture(scope="session")
def examples(tones):
    return datasets.examples(tones)


@pytest.fixture(scope="session")
def teacher(tones, examples, tmp_path_factory) -> Path:
    """A checkpoint that knows the tones, wider and with a longer window than the students."""
    output = tmp_path_factory.mktemp("teachers") / "wide"
    settings = quick(epochs=20, augment={}, network={**SIZES, "width": 12}, window_seconds=0.75, cut_seconds=0.0)
    workflow.train(settings, examples, tones, output)
    return output


@pytest.fixture(scope="session")
def other(examples, tmp_path_factory) -> Path:
    """A teacher with another front end and network, that has hardly learned."""
    output = tmp_path_factory.mktemp("teachers") / "other"
    front_end = {"sample_rate": RATE, "window_ms": 64, "hop_ms": 32, "n_fft": 256, "mels": 24}
    fit.fit(quick(epochs=1, front_end=front_end, seed=1), examples, output)
    return output


@pytest.fixture(scope="module")
def merged_once() -> Iterator[None]:
    """A teacher of the same weights is merged once for a file of tests, not for each student: teachers never change."""
    made: dict[tuple[bytes, bool], teachers.Teacher] = {}
    merge = teachers._of_folder

    def of_folder(folder, loaded, config) -> teachers.Teacher:
        key = ((Path(folder) / checkpoint.WEIGHTS).read_bytes(), config.distil.matches)
        if key not in made:
            made[key] = merge(folder, loaded, config)
        return replace(made[key], source=folder, info=loaded.info)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teachers, "_of_folder", of_folder)
        yield
