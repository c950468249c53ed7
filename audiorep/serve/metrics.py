"""What a server counts, in Prometheus' text format; of all its processes together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from audiorep.errors import require

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder in which several processes count; set before the package is imported."""
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128)
OTHER = "other"


class Metrics:
    """Counters of one process. Their labels are routes, statuses and served models, and so never grow.

    Args:
        routes: that are counted by name; others are counted together.
        models: names that are served.
    """

    def __init__(self, routes: Sequence[str], models: Sequence[str]) -> None:
        client = require("prometheus_client", extra="serve")
        self._client, self._models = client, {*models}
        self.routes = frozenset(routes)
        """Routes that are counted by name."""
        own = client.CollectorRegistry()
        self._registry = own

        def made(kind: Callable[..., Any], name: str, about: str, labels: Sequence[str] = (), **options: Any) -> Any:
            return kind(f"audiorep_{name}", about, labels, registry=own, **options)

        gauge = {"multiprocess_mode": "livesum"}
        self._requests = made(client.Counter, "requests", "Requests answered", ["route", "status"])
        self._seconds = made(client.Histogram, "request_seconds", "Time to answer a request", ["route"], buckets=SECONDS)
        self._sound = made(client.Counter, "sound_seconds", "Sound heard, in seconds", ["model"])
        self._batches = made(client.Histogram, "batch_windows", "Windows heard at once", ["model"], buckets=WINDOWS)
        self._waiting = made(client.Gauge, "waiting_requests", "Requests that wait or are heard", **gauge)
        self._sockets = made(client.Gauge, "sockets", "Live streams", **gauge)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts a request."""
        name = route if route in self.routes else OTHER
        self._requests.labels(name, status).inc()
        self._seconds.labels(name).observe(seconds)

    def heard(self, model: str, seconds: float) -> None:
        """Counts sound that was heard."""
        self._sound.labels(self._name(model)).inc(seconds)

    def batch_of(self, model: str) -> Callable[[int], None]:
        """The function that counts a model's batches."""
        observe: Callable[[int], None] = self._batches.labels(self._name(model)).observe
        return observe

    def waiting(self, count: int) -> None:
        """Sets the number of requests that wait or are heard."""
        self._waiting.set(count)

    def sockets(self, count: int) -> None:
        """Sets the number of live streams."""
        self._sockets.set(count)

    def text(self) -> tuple[bytes, str]:
        """All counters, and their media type."""
        registry = self._registry
        if os.environ.get(FOLDER):
            registry = self._client.CollectorRegistry()
            require("prometheus_client.multiprocess", extra="serve").MultiProcessCollector(registry)
        return self._client.generate_latest(registry), self._client.CONTENT_TYPE_LATEST

    def _name(self, model: str) -> str:
        return model if model in self._models else OTHER
