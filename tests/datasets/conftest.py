"""Shards made without processes of their own, where these are not what is tested."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from audiorep.datasets import prepare


@pytest.fixture
def processes_of_its_own() -> None:
    """Workers are processes, as in use."""


@pytest.fixture(autouse=True)
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are threads, which start at once, unless the test asks for `processes_of_its_own`."""
    if "processes_of_its_own" not in request.fixturenames:
        monkeypatch.setattr(prepare, "ProcessPoolExecutor", lambda count, *rest: ThreadPoolExecutor(count))
