"""uvicorn's connections with limits that it leaves out: size and time of headers, and an end for clients that do not read."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

ABORT = "audiorep.abort"
"""The key in a scope of the function that drops the connection, with what was not sent."""
MAX_HEADER_BYTES = 64 << 10
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def connection(idle_seconds: float, body_bytes: int) -> type[HttpToolsProtocol]:
    """The class of connections with these limits.

    What a client still sends when it was answered early, because its body is too large or the queue is full, is read and
    dropped: a connection that is closed meanwhile would cost many clients the answer.

    Args:
        idle_seconds: in which the headers must arrive, and what is dropped.
        body_bytes: that are dropped at most.
    """

    class Connection(HttpToolsProtocol):
        """One client's connection."""

        _deadline: asyncio.TimerHandle | None = None
        _header_bytes = _dropped_bytes = 0
        _too_long = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait_no_more()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._deadline is None and self.cycle is not None and self.cycle.response_complete:
                self._wait()  # for the rest of the headers of a further request
            super().data_received(data)
            if self._too_long and not self.transport.is_closing():
                self.transport.write(_TOO_LONG)
                self.transport.close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._header_bytes = self._dropped_bytes = 0

        def on_url(self, url: bytes) -> None:
            if self._fits(len(url)):
                super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._fits(len(name) + len(value)):
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._wait_no_more()
            if not self._too_long:
                self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]
                super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if self._too_long:
                return
            if self.cycle is not None and self.cycle.response_complete:
                self._dropped_bytes += len(body)
                if self._dropped_bytes > body_bytes:
                    self.transport.abort()
            super().on_body(body)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.more_body and self._deadline is None:
                self._wait()

        def on_message_complete(self) -> None:
            if self._too_long:
                return
            if self.cycle is not None and self.cycle.response_complete:
                self._wait_no_more()
            super().on_message_complete()

        def _fits(self, size: int) -> bool:
            self._header_bytes += size
            self._too_long |= self._header_bytes > MAX_HEADER_BYTES
            return not self._too_long

        def _wait(self) -> None:
            self._deadline = self.loop.call_later(idle_seconds, self.transport.abort)

        def _wait_no_more(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return Connection


class LiveConnection(WebSocketsSansIOProtocol):
    """A client's live stream."""

    def handle_connect(self, event: Any) -> None:
        """The beginning of a stream, whose scope the application gets."""
        super().handle_connect(event)
        if getattr(self, "scope", None) is not None:
            self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]
