"""What every request passes: the token, time limits, the headers of answers, the log and the counters."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from audiorep.serve.admission import Admission
from audiorep.serve.config import ServeConfig, is_loopback
from audiorep.serve.metrics import OTHER, Metrics
from audiorep.serve.policy import POLICY
from audiorep.serve.refusals import CLIENT_LEFT, FAILED, FORBIDDEN, NO_TOKEN, TOO_SLOW, ClientLeft, Refusal
from audiorep.serve.rendering import as_json

Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[Any], Any]

ABORT = "audiorep.abort"
"""The key in a scope of the function that drops the connection, with what was not sent."""
OPEN = ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/favicon.ico")
"""What needs no token; the page's files in `/page/` do not either."""
MESSAGE_BYTES = 1 << 20
"""Largest message of a live stream."""
PROTOCOL, TOKEN_PROTOCOL = "audiorep", "audiorep.token."
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
]


class Guard:
    """An application behind its checks.

    Args:
        app: the application.
        config: the settings.
        metrics: the counters.
        queues: places that a request needs: one to arrive, and one to be heard.
    """

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Any], config: ServeConfig, metrics: Metrics, queues: Sequence[Admission]
    ) -> None:
        self._app, self._config, self._metrics, self._queues = app, config, metrics, queues
        self._is_private = is_loopback(config.host) and not config.token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one live stream."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    def early(self, scope: Scope) -> Refusal | None:
        """The refusal of a request that finds the queue full, before anything is done for it; None, if it is to be served.

        A crowd costs so least. Where pages of other sites may ask, they would not be told why.
        """
        full = next((queue for queue in self._queues if queue.is_full), None)
        if full is None or scope["method"] != "POST" or self._config.origins:
            return None
        began = time.monotonic()
        try:
            self._refuse_strangers(scope, _bearer(scope))
            full.refuse_if_full()
        except Refusal as refusal:
            self._ended(scope, refusal.status, time.monotonic() - began)
            return refusal
        return None

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(receive, send, self._config.idle_seconds)
        began = time.monotonic()
        try:
            self._refuse_strangers(scope, _bearer(scope))
            async with asyncio.timeout(self._config.total_seconds):
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            await exchange.refuse(scope, Refusal(TOO_SLOW, "The request took longer than is allowed.", {"connection": "close"}))
        except Refusal as refusal:
            await exchange.refuse(scope, refusal)
        except Exception as error:
            if not exchange.stuck:
                await exchange.refuse(scope, Refusal(FAILED, "The server failed; its log says more."))
                self._tell({"error": f"{type(error).__name__}: {error}"})
        if exchange.stuck:
            exchange.status = CLIENT_LEFT
            scope.get(ABORT, lambda: None)()
        self._ended(scope, exchange.status, time.monotonic() - began)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.monotonic(), 101
        try:
            self._refuse_strangers(scope, _offered(scope) or _bearer(scope))
            self._refuse_other_pages(scope)
            await self._app(scope, receive, send)
        except Refusal as refusal:
            status = refusal.status
            await receive()  # the client's wish to connect
            await as_json({"error": refusal.sentence}, refusal.status, refusal.headers)(scope, receive, send)
        self._ended(scope, status, time.monotonic() - began)

    def _refuse_strangers(self, scope: Scope, given: bytes) -> None:
        """Raises a Refusal for a request without the token, or to a name that is not this machine's.

        Without a token, a page could else give its own name this machine's address, and ask as if it were the server's.
        """
        path = scope["path"]
        if self._is_private and not self._is_own(_header(scope, b"host")):
            sentence = "This server answers to localhost alone; behind a proxy, start it with --cors and the proxy's address."
            raise Refusal(FORBIDDEN, sentence)
        if not self._config.token or path in OPEN or path.startswith("/page/") or scope.get("method") == "OPTIONS":
            return
        if not hmac.compare_digest(given, self._config.token.encode()):
            sentence = "This server wants a token: send the header Authorization: Bearer TOKEN."
            raise Refusal(NO_TOKEN, sentence, {"www-authenticate": "Bearer"})

    def _is_own(self, host: str) -> bool:
        """Whether a name, with its port, is this machine's, or of a site that may ask."""
        name = urlsplit(f"//{host}").hostname or ""
        return is_loopback(name) or host in {urlsplit(origin).netloc for origin in self._config.origins}

    def _refuse_other_pages(self, scope: Scope) -> None:
        """Raises a Refusal if a page of another site opens a live stream, which browsers would allow."""
        origin = _header(scope, b"origin")
        if origin and origin not in self._config.origins and urlsplit(origin).netloc != _header(scope, b"host"):
            raise Refusal(FORBIDDEN, "Pages of other sites may not listen here; the server's --cors names those that may.")

    def _ended(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", scope["path"])
        route = route if route in self._metrics.routes else OTHER
        self._metrics.answered(route, status, seconds)
        client = (scope.get("client") or ("",))[0]
        method = scope.get("method", "WS")
        if self._config.log:
            about = {"client": client, "method": method, "route": route, "status": status}
            self._tell({**about, "seconds": round(seconds, 4)})

    def _tell(self, values: dict[str, Any]) -> None:
        time_of_day = datetime.now(UTC).isoformat(timespec="milliseconds")
        sys.stderr.write(json.dumps({"time": time_of_day, **values}) + "\n")


class _Exchange:
    """A request's messages with their time limits, and the headers of its answer."""

    def __init__(self, receive: Receive, send: Send, idle_seconds: float) -> None:
        self._receive, self._send, self._idle = receive, send, idle_seconds
        self._more, self._started = True, False
        self.status = 0
        self.stuck = False
        """Whether the client does not read its answer."""

    async def receive(self) -> Any:
        if not self._more:
            return await self._receive()  # nothing but the end of the connection comes now
        try:
            async with asyncio.timeout(self._idle):
                message = await self._receive()
        except TimeoutError:
            sentence = f"Nothing came for {self._idle:g} s, and the request is not complete."
            raise Refusal(TOO_SLOW, sentence, {"connection": "close"}) from None
        self._more = message.get("more_body", False)
        return message

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._started, self.status = True, message["status"]
            own = message.get("headers", [])
            message = {**message, "headers": [*own, *HEADERS]}
        try:
            async with asyncio.timeout(self._idle):
                await self._send(message)
        except TimeoutError:
            self.stuck = True
            raise ClientLeft from None

    async def refuse(self, scope: Scope, refusal: Refusal) -> None:
        """Answers with a refusal, if no answer has begun."""
        if not self._started:
            answer = as_json({"error": refusal.sentence}, refusal.status, refusal.headers)
            await answer(scope, self._receive, self.send)


def _bearer(scope: Scope) -> bytes:
    """The token in a request's header; empty, if it has none."""
    kind, _, token = _header(scope, b"authorization").partition(" ")
    return token.strip().encode("latin-1") if kind.lower() == "bearer" else b""


def _header(scope: Scope, name: bytes) -> str:
    return str(dict(scope["headers"]).get(name, b""), "latin-1")


def _offered(scope: Scope) -> bytes:
    """The token among a live stream's subprotocols, the only place where a page can put it."""
    for offer in scope.get("subprotocols", ()):
        if offer.startswith(TOKEN_PROTOCOL):
            text = offer.removeprefix(TOKEN_PROTOCOL)
            try:
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            except (ValueError, binascii.Error):
                return b""
    return b""
