"""Sites without a server: ONNX Runtime's files for them, a web server in a process, and Chromium."""

from __future__ import annotations

import functools
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
from support.page import CHROMIUM, FLAGS

SERVER = """
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass
handler = lambda *given: Handler(*given, directory=sys.argv[2])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""
OPEN = """async () => {
  const { openEngine } = await import("./page/browser_engine.js");
  window.engine = await openEngine();
  await engine.ready;
  return engine.models.map(({ name }) => name);
}"""
"""Opens the engine of a site's page, and gives the names of its models."""


@functools.cache
def runtime_folder() -> Path:
    """The folder with ONNX Runtime's files for browsers, fetched once for all runs; skips a test where it cannot be had."""
    try:
        browser_runtime.find(webgpu=True)
    except ConfigError as error:
        pytest.skip(f"no ONNX Runtime for browsers: {error}")
    return browser_runtime.cache_folder()


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
def browser(playwright: Any, *flags: str) -> Iterator[Any]:
    """Chromium with a microphone, steered by playwright."""
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--use-fake-ui-for-media-stream", *flags])
    try:
        yield chromium
    finally:
        chromium.close()


def kept(page: Any, models: int, name: str = "") -> None:
    """Waits until the browser keeps a site with so many models whole, and this file among others."""
    code = """async ([models, name]) => {
      for (;;) {
        const cache = await caches.open("audiorep");
        const site = await (await cache.match(new URL("?latest", location.href)))?.json();
        const names = Object.keys(site?.files ?? {});
        if (names.filter((each) => each.startsWith("models/")).length === models && `${names}`.includes(name)) break;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      await navigator.serviceWorker.ready;
    }"""
    page.evaluate(code, [models, name])
