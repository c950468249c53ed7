"""uvicorn's connections with limits that it leaves out: size and time of headers, and an end for clients that do not read."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from audiorep.serve.config import ServeConfig
from audiorep.serve.guard import ABORT, HEADERS, MESSAGE_BYTES, Guard
from audiorep.serve.refusals import Refusal

MAX_HEADER_BYTES = 64 << 10
MAX_PIPELINED = 16  # requests that a client sends before it was answered; uvicorn would keep any number
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connection(HttpToolsProtocol):
    """One client's connection.

    Its headers must arrive within `idle_seconds`. What a client still sends when it was answered early, because its body is
    too large or the queue is full, is read and dropped, up to `body_bytes` and for `idle_seconds`: a connection that is closed
    meanwhile would cost many clients the answer.
    """

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = _dropped_bytes = 0
    _is_dropping = False

    @property
    def _limits(self) -> ServeConfig:
        assert isinstance(self.config, Settings)
        return self.config.serve

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self._deadline is None and self.cycle is not None and self.cycle.response_complete:
            self._wait()  # for the rest of the headers of a further request
        super().data_received(data)
        if self._deadline is None or self._is_dropping:
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._header_bytes = self._dropped_bytes = 0
        self._is_dropping = False

    def on_headers_complete(self) -> None:
        """Its headers are here."""
        self._wait_no_more()
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Starts the application on a request, or answers here that the queue is full."""
        refusal = app.early(dict(cycle.scope)) if isinstance(app, Guard) and cycle.keep_alive else None
        if refusal is None:
            super()._start_asgi_task(cycle, app)
            return
        self.transport.write(_answer(refusal))
        cycle.response_started = cycle.response_complete = True
        cycle.on_response()

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        if self.cycle is not None and self.cycle.response_complete:
            self._dropped_bytes += len(body)
            if self._dropped_bytes > self._limits.body_bytes:
                self.transport.abort()
        super().on_body(body)

    def on_response_complete(self) -> None:
        """It is answered."""
        super().on_response_complete()
        if self.cycle.more_body and self._deadline is None:
            self._is_dropping = True
            self._wait()
        if left := self.transport.get_write_buffer_size():
            self._watch(left, time.monotonic() + self._limits.total_seconds)

    def on_message_complete(self) -> None:
        """Its body is here."""
        if self.cycle is not None and self.cycle.response_complete:
            self._wait_no_more()
        super().on_message_complete()

    def _watch(self, left: int, until: float) -> None:
        """Drops a client that does not read its answer: closing would wait for it for ever."""

        def look() -> None:
            now = self.transport.get_write_buffer_size()
            if now >= left or time.monotonic() > until:
                self.transport.abort()
            elif now:
                self._watch(now, until)

        self.loop.call_later(self._limits.idle_seconds, look)

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self._limits.idle_seconds, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _answer(refusal: Refusal) -> bytes:
    """A refusal as bytes."""
    content = json.dumps({"error": refusal.sentence}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content)), **refusal.headers}
    lines = [name.encode() + b": " + value.encode() for name, value in headers.items()]
    lines += [name + b": " + value for name, value in HEADERS]
    return STATUS_LINE[refusal.status] + b"\r\n".join(lines) + b"\r\n\r\n" + content


class LiveConnection(WebSocketsSansIOProtocol):
    """A client's live stream."""

    def handle_connect(self, event: Any) -> None:
        """The beginning of a stream, whose scope the application gets."""
        super().handle_connect(event)
        if getattr(self, "scope", None) is not None:
            self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]


class Settings(uvicorn.Config):
    """uvicorn's settings for a server with ours."""

    def __init__(self, app: Any, serve: ServeConfig, **more: Any) -> None:
        self.serve = serve
        super().__init__(
            app,
            http=Connection,
            ws=LiveConnection,
            ws_max_size=MESSAGE_BYTES,
            ws_per_message_deflate=False,
            timeout_keep_alive=max(1, round(serve.idle_seconds)),
            timeout_graceful_shutdown=max(1, round(serve.drain_seconds)),
            ssl_certfile=serve.tls_certificate or None,
            ssl_keyfile=serve.tls_key or None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            **more,
        )
