"""A server of live sound for the tests, which ffmpeg connects to."""

from __future__ import annotations

import http.server
import io
import shutil
import threading

import numpy as np
import pytest
import soundfile

from audiorep.listen.sources import Opened

RATE = 16_000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


class Server:
    """An HTTP server of one file, in any number of parts with pauses between."""

    def __init__(self, content: bytes, after: int | None = None, pause: float = 0.0) -> None:
        outer = self
        self.requests = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                if self.path != "/live":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.end_headers()
                try:
                    self.wfile.write(content[:after])
                    if after is not None:
                        outer.held.wait(pause)
                        self.wfile.write(content[after:])
                except OSError:
                    pass

            def log_message(self, *words: object) -> None:
                pass

        self.held = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/live"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.held.set()
        self._server.shutdown()
        self._server.server_close()


def flac(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC")
    return file.getvalue()


def tone(seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def everything(opened: Opened, patience: float = 10.0) -> np.ndarray:
    found = []
    while (samples := opened.read(patience)) is not None:
        found.append(samples)
    opened.close()
    return np.concatenate(found)
