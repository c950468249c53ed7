"""A camera for the tests: an RTSP server that sends sound as RTP over the same connection (RFC 2326, RFC 3551)."""

from __future__ import annotations

import re
import socketserver
import struct
import threading
import time
from contextlib import suppress

import numpy as np

PAYLOAD_TYPE, PACKET_SECONDS = 97, 0.02


class Camera:
    """Serves samples (N,) in −1..1 in real time, to as many as ask; a name and password may be needed."""

    def __init__(self, samples: np.ndarray, sample_rate: int) -> None:
        outer = self
        self.connections = 0
        self._content = (samples * 32767).astype(">i2").tobytes()
        self._rate = sample_rate

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer.connections += 1
                with suppress(OSError):
                    while words := outer._answer(self.rfile, self.wfile):
                        if words == "PLAY":
                            outer._play(self.wfile)
                            return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"rtsp://me:secret@127.0.0.1:{self._server.server_address[1]}/stable"
        self._stopped = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, asked, answer) -> str:
        """Answers one request, and gives its method."""
        lines = []
        while (line := asked.readline().decode().strip()) or not lines:
            if not line:
                return ""
            lines.append(line)
        method, url, _ = lines[0].split()
        number = re.search(r"CSeq: *(\d+)", "\n".join(lines), re.IGNORECASE)[1]
        extra, body = "", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=stable\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                f"m=audio 0 RTP/AVP {PAYLOAD_TYPE}\r\na=rtpmap:{PAYLOAD_TYPE} L16/{self._rate}/1\r\na=control:{url}/track\r\n"
            )
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        elif method == "PLAY":
            extra = "Session: 1\r\n"
        answer.write(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}\r\n{body}".encode())
        return method

    def _play(self, answer) -> None:
        size = 2 * round(PACKET_SECONDS * self._rate)
        begun = time.monotonic()
        for number, first in enumerate(range(0, len(self._content), size)):
            content = self._content[first : first + size]
            head = struct.pack(">BBHII", 0x80, PAYLOAD_TYPE, number & 0xFFFF, first // 2, 1)
            answer.write(b"$\0" + struct.pack(">H", len(head) + len(content)) + head + content)
            if self._stopped.wait(max(0.0, begun + number * PACKET_SECONDS - time.monotonic())):
                return
