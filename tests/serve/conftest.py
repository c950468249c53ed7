"""A server and its page, open in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import soxr
from support import SAMPLES
from support.page import CHROMIUM, FLAGS, opened
from support.serving import Served, served


@pytest.fixture(scope="module")
def page_server() -> Iterator[Served]:
    with served("esc50", "nano", "--no-log") as server:
        yield server


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def siren_wav(tmp_path_factory) -> Path:
    """The file that the microphone hears, again and again."""
    samples, rate = soundfile.read(SAMPLES / "siren.flac")
    path = tmp_path_factory.mktemp("microphone") / "siren.wav"
    soundfile.write(path, soxr.resample(samples, rate, 48_000), 48_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(playwright, siren_wav) -> Iterator[Any]:
    microphone = ["--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={siren_wav}"]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *microphone])
    yield browser
    browser.close()


@pytest.fixture
def page(browser, page_server) -> Iterator[Any]:
    """The page, opened. At the end it has asked nobody else and complained of nothing."""
    page = opened(browser, page_server.url)
    yield page
    assert page.complaints == []
    own = (f"{page_server.url}/", page_server.url.replace("http", "ws") + "/", "blob:", "data:")
    assert [url for url in page.asked if not url.startswith(own)] == []
    page.context.close()


@pytest.fixture
def broken(tmp_path) -> Path:
    path = tmp_path / "broken.wav"
    path.write_bytes(b"no sound at all")
    return path
