"""Live sound over a WebSocket: PCM in, windows and events out, by the code that `listen` uses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from audiorep.audio.decoders import rate_problem
from audiorep.errors import AudiorepError
from audiorep.escape import visible
from audiorep.predict.events import Event, EventConfig, trackers
from audiorep.predict.stream import CutWindow
from audiorep.serve import rendering
from audiorep.serve.guard import ABORT, MESSAGE_BYTES, PROTOCOL
from audiorep.serve.refusals import BAD_REQUEST, BUSY, Refusal
from audiorep.serve.service import Service
from audiorep.serve.state import State

MOST_CHANNELS = 8
FORMATS = {"f32le": ("<f4", 1.0), "s16le": ("<i2", 32768.0)}
"""{form of samples: (numpy's type, the value of full scale)}."""
DONE, UNUSABLE_DATA, TRY_LATER = 1000, 1007, 1013  # codes with which a stream is closed


@dataclass(frozen=True)
class Wishes:
    """What a client wants of its stream."""

    model: str | None
    rate: int
    form: str
    channels: int
    hop: float | None
    top: int
    threshold: float | None
    windows: bool
    events: bool

    @classmethod
    def of_query(cls, query: Mapping[str, str]) -> Wishes:
        """The wishes in an address.

        Raises:
            Refusal: one cannot be fulfilled.
        """
        form = query.get("format", "f32le")
        if form not in FORMATS:
            raise Refusal(BAD_REQUEST, f"format is {visible(form[:40])}; known are {' and '.join(FORMATS)}.")
        rate = _number(query, "rate", 16_000, 1, 10_000_000)
        if problem := rate_problem(rate):
            raise Refusal(BAD_REQUEST, problem)
        return cls(
            query.get("model"),
            int(rate),
            form,
            int(_number(query, "channels", 1, 1, MOST_CHANNELS)),
            _number(query, "hop", None, 0.01, 3600),
            int(_number(query, "top", rendering.MOST_LABELS, 1, 10_000)),
            _number(query, "threshold", None, 0, 1),
            query.get("windows", "true") != "false",
            query.get("events", "true") != "false",
        )

    def samples(self, message: bytes) -> np.ndarray:
        """(n, C) floats in a message.

        Raises:
            Refusal: it holds no whole number of samples.
        """
        kind, full = FORMATS[self.form]
        if len(message) > MESSAGE_BYTES or len(message) % (np.dtype(kind).itemsize * self.channels):
            raise Refusal(
                BAD_REQUEST, f"A message has {len(message)} bytes; whole samples, and at most {MESSAGE_BYTES}, are needed."
            )
        values = np.frombuffer(message, kind).astype(np.float32).reshape(-1, self.channels)
        return values if full == 1.0 else values / np.float32(full)


def routes(state: State) -> APIRouter:
    """The route of live streams over the models in `state`."""
    router = APIRouter()

    @router.websocket("/v1/listen")
    async def listen(socket: WebSocket) -> None:
        wishes = Wishes.of_query(socket.query_params)
        service = state.service(wishes.model)
        if state.sockets >= state.config.sockets:
            raise Refusal(BUSY, f"{state.sockets} live streams are open, as many as are allowed.", {"retry-after": "10"})
        try:
            stream = _Live(socket, service, wishes, state.config.idle_seconds)
        except AudiorepError as error:
            raise Refusal(BAD_REQUEST, str(error)) from None
        state.sockets += 1
        state.metrics.sockets(state.sockets)
        try:
            await stream.run()
        finally:
            state.sockets -= 1
            state.metrics.sockets(state.sockets)
            state.metrics.heard(service.name, stream.seconds)

    return router


class _Live:
    """One live stream."""

    def __init__(self, socket: WebSocket, service: Service, wishes: Wishes, idle_seconds: float) -> None:
        self._socket, self._wishes, self._idle = socket, wishes, idle_seconds
        self._service = service.with_windows(None, wishes.hop)
        self._classifier = self._service.classifier
        self._stream = self._classifier.stream(wishes.rate)
        config = EventConfig(on=wishes.threshold or 0.0)
        self._trackers = trackers(self._classifier.info, config) if wishes.events else {}

    @property
    def seconds(self) -> float:
        """Sound so far."""
        return self._stream.seconds

    async def run(self) -> None:
        """Hears until the client ends it, leaves, or sends what cannot be heard."""
        offered = self._socket.scope.get("subprotocols", [])
        await self._socket.accept(PROTOCOL if PROTOCOL in offered else None)
        info = self._classifier.info
        about = {"model": self._service.name, "sample_rate": info.sample_rate}
        try:
            await self._send({"type": "ready", **about, "window_seconds": info.window_seconds, "hop_seconds": info.hop_seconds})
            while await self._heard_message():
                continue
            await self._socket.close(DONE)
        except WebSocketDisconnect:
            return
        except TimeoutError:  # it neither sends nor reads
            self._socket.scope.get(ABORT, lambda: None)()
        except (AudiorepError, Refusal) as error:
            await self._fail(str(error), UNUSABLE_DATA)

    async def _heard_message(self) -> bool:
        """Hears what the client sends next; whether more may come."""
        try:
            async with asyncio.timeout(self._idle):
                message = await self._socket.receive()
        except TimeoutError:
            await self._fail(f"Nothing came for {self._idle:g} s.", TRY_LATER)
            return False
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", DONE))
        if (samples := message.get("bytes")) is not None:
            await self._hear(self._stream.cut(self._wishes.samples(samples)))
            return True
        if _kind(message.get("text") or "") != "end":
            raise Refusal(BAD_REQUEST, 'Samples in binary messages, or {"type": "end"}, are needed.')
        seconds = self._stream.seconds
        await self._hear(self._stream.cut_rest())
        for head, tracker in self._trackers.items():
            for event in tracker.flush():
                await self._tell(head, event)
        await self._send({"type": "end", "seconds": round(seconds, 6)})
        return False

    async def _hear(self, cut: list[CutWindow]) -> None:
        info, wishes = self._classifier.info, self._wishes
        for heard in await self._service.hear_windows(cut):
            if wishes.windows:
                least = rendering.LEAST_SCORE if wishes.threshold is None else wishes.threshold
                await self._send(rendering.window(heard, info, wishes.top, least))
            for head, tracker in self._trackers.items():
                for event in tracker.push(heard.start, heard.end, heard.scores[head], heard.peak):
                    await self._tell(head, event)

    async def _tell(self, head: str, event: Event) -> None:
        times = {"start": round(event.start, 6), "end": round(event.end, 6), "decided": round(event.decided, 6)}
        about = {"head": head, "label": event.label, **times, "score": round(event.score, 6), "open": event.is_open}
        await self._send({"type": "event", **about})

    async def _send(self, values: dict[str, Any]) -> None:
        async with asyncio.timeout(self._idle):
            await self._socket.send_text(json.dumps(values, ensure_ascii=False, separators=(",", ":")))

    async def _fail(self, sentence: str, code: int) -> None:
        try:
            await self._send({"type": "error", "error": sentence})
            await self._socket.close(code)
        except (WebSocketDisconnect, RuntimeError):  # it has left
            return


def _kind(text: str) -> str:
    try:
        values = json.loads(text)
    except ValueError:
        return ""
    return str(values.get("type", "")) if isinstance(values, dict) else ""


def _number(query: Mapping[str, str], name: str, default: Any, least: float, most: float) -> Any:
    """A number in an address.

    Raises:
        Refusal: it is none, or lies outside the bounds.
    """
    if (text := query.get(name)) is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise Refusal(BAD_REQUEST, f"{name} is {visible(text[:40])}; {least:g} to {most:g} is allowed.")
    return value
