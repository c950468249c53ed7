"""The routes that say what a server is: its models and limits, whether it is well, its counters, and the page."""

from __future__ import annotations

import gzip
import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request, Response

from audiorep.serve import schemas
from audiorep.serve.refusals import BUSY, NOT_FOUND, Refusal
from audiorep.serve.rendering import as_json
from audiorep.serve.service import describe
from audiorep.serve.state import State

PAGE = Path(__file__).parent / "page"
INDEX = "index.html"
TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


def routes(state: State) -> APIRouter:
    """The routes over `state`."""
    router = APIRouter()
    about = [describe(service.name, service.classifier.info) for service in state.services.values()]
    models = {"models": about, "default": state.names[0]}
    files = {path.name: (path.read_bytes(), _type(path)) for path in sorted(PAGE.iterdir()) if path.is_file()}
    packed = {name: gzip.compress(content, mtime=0) for name, (content, _) in files.items()}

    @router.get("/v1/models", responses={200: {"model": schemas.Models}}, summary="The models")
    async def list_models() -> Response:
        """All models with their labels and settings, the default first."""
        return as_json(models)

    @router.get("/v1/limits", responses={200: {"model": schemas.Limits}}, summary="The limits")
    async def limits() -> Response:
        """What the server takes at most."""
        return as_json(state.config.limits)

    @router.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> Response:
        """Always the same, while the process answers."""
        return as_json({"status": "ok"})

    @router.get("/readyz", responses={503: {"model": schemas.Problem}}, summary="Whether sounds are heard")
    async def readyz() -> Response:
        """Whether the models are open and the server does not end."""
        if not state.is_ready:
            raise Refusal(BUSY, "The server is ending.")
        return as_json({"status": "ready", "models": state.names})

    @router.get("/metrics", summary="Counters in Prometheus' format", response_class=Response)
    async def metrics() -> Response:
        """Requests, times, sound heard, batches, waiting requests and live streams."""
        text, kind = state.metrics.text()
        return Response(text, headers={"content-type": kind})

    @router.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return _file(INDEX, request)

    @router.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str, request: Request) -> Response:
        return _file(name, request)

    def _file(name: str, request: Request) -> Response:
        if name not in files:
            raise Refusal(NOT_FOUND, "There is no such page.")
        content, kind = files[name]
        headers = {"content-type": kind, "cache-control": "no-cache", "vary": "accept-encoding"}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(content, headers=headers)
        return Response(packed[name], headers={**headers, "content-encoding": "gzip"})

    return router


def _type(path: Path) -> str:
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
