"""The application: its routes, how its errors are answered, and its description."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

import audiorep
from audiorep.errors import AudiorepError
from audiorep.predict.classifier import Classifier
from audiorep.serve import about, classify, live, reference
from audiorep.serve.config import ServeConfig
from audiorep.serve.guard import Guard
from audiorep.serve.metrics import Metrics
from audiorep.serve.refusals import CLIENT_LEFT, UNUSABLE, ClientLeft, Refusal, of_error
from audiorep.serve.rendering import as_json
from audiorep.serve.state import State

ROUTES = (
    "/",
    "/v1/classify",
    "/models/{name}",
    "/v1/embed",
    "/v1/listen",
    "/v1/models",
    "/v1/limits",
    "/healthz",
    "/readyz",
    "/metrics",
)
"""Routes that are counted by name."""
ABOUT = "Labels, events and embeddings of sounds of any kind, rate and channel count, within the limits that /v1/limits tells."


def application(classifiers: Mapping[str, Classifier], config: ServeConfig) -> Callable[..., Any]:
    """The ASGI application that serves open models, {name: model}."""
    metrics = Metrics(ROUTES, list(classifiers))
    state = State.of(classifiers, config, metrics)
    app: Any = described(state)
    if config.origins:
        app = CORSMiddleware(
            app, config.origins, allow_methods=["GET", "POST"], allow_headers=["authorization", "content-type"]
        )
    return Guard(app, config, metrics, [state.admission, state.arrivals])


def described(state: State) -> FastAPI:
    """The application without what guards it, with its description in OpenAPI."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        state.close()

    app = FastAPI(
        title="audiorep", version=audiorep.__version__, description=ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    for part in (classify, live, about):
        app.include_router(part.routes(state))
    page = ""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        nonlocal page
        page = page or reference.page(app.openapi())
        return HTMLResponse(page)

    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(ClientLeft, _left)
    app.add_exception_handler(AudiorepError, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return app


async def _refused(request: Request, error: Any) -> Response:
    return as_json({"error": error.sentence}, error.status, error.headers)


async def _left(request: Request, error: Any) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _failed(request: Request, error: Any) -> Response:
    return await _refused(request, of_error(error))


async def _invalid(request: Request, error: Any) -> Response:
    return as_json({"error": classify.problems(error.errors())}, UNUSABLE)


async def _http(request: Request, error: Any) -> Response:
    return as_json({"error": f"{error.detail}."}, error.status_code, dict(error.headers or {}))
