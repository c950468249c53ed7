"""Sites without a server: ONNX Runtime's files for them, a web server in a process, and Chromium."""

from __future__ import annotations

import functools
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from audiorep.errors import ConfigError
from audiorep.serve import browser_runtime
from support import processes

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SERVER = """
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass
handler = lambda *given: Handler(*given, directory=sys.argv[2])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""


@functools.cache
def runtime_folder() -> Path:
    """The folder with ONNX Runtime's files for browsers, fetched once for all runs; skips a test where it cannot be had."""
    try:
        browser_runtime.find()
    except ConfigError as error:
        pytest.skip(f"no ONNX Runtime for browsers: {error}")
    return browser_runtime.cache_folder()


def need_browser() -> None:
    """Skips a test where there is no Chromium, or nothing that steers it."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on a web server of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        try:
            return urllib.request.urlopen(address, timeout=5).status == 200
        except OSError:
            return False

    with processes.started(processes.python(SERVER, port, folder)) as process:
        processes.wait_until(answers, process)
        yield address


@contextmanager
def steering() -> Iterator[Any]:
    """Playwright, of which a process has one at a time."""
    need_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as found:
        yield found


@contextmanager
def browser(playwright: Any, *flags: str) -> Iterator[Any]:
    """Chromium, steered by playwright."""
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
    try:
        yield chromium
    finally:
        chromium.close()
