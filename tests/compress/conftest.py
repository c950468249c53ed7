"""A small network that was trained on tones, and one that was not, for all files of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def run(trained) -> Path:
    """The folder of a small network that was trained on the tones."""
    return trained[0]


@pytest.fixture(scope="session")
def loaded(run) -> Any:
    """Its checkpoint, merged and exported once; no test changes its weights."""
    from audiorep.models import checkpoint

    return checkpoint.load(run)


@pytest.fixture(scope="session")
def examples(tones) -> list[Any]:
    from audiorep import datasets

    return datasets.examples(tones)


@pytest.fixture(scope="session")
def model() -> Any:
    """A small checkpoint of random weights; no test changes them."""
    from support.compressed import uneven

    return uneven()
