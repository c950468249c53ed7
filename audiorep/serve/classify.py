"""The routes that hear a sound: labels, labels as Hugging Face gives them, and embeddings."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import ValidationError

from audiorep.escape import visible
from audiorep.predict.results import Embedding, Recording, View
from audiorep.serve import rendering, schemas
from audiorep.serve.refusals import BAD_REQUEST, Refusal
from audiorep.serve.state import State, unless_left
from audiorep.serve.uploads import Upload

ModelName = Annotated[str | None, Query(max_length=64, description="Name of the model; default: the first of /v1/models.")]
Hop = Annotated[float | None, Query(gt=0, le=3600, description="Seconds from one window to the next; default: the model's.")]
Name = Annotated[str, Query(max_length=1000, description="Name of the sound in the results; default: that of the form's file.")]
CLASSIFIED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": schemas.Classified,
        "description": "The labels, as JSON, as CSV or as Audacity's labels, by the header Accept.",
        "content": {
            "application/json": {"example": schemas.EXAMPLE},
            "text/csv": {"example": schemas.CSV_EXAMPLE},
            "text/plain": {"example": schemas.TEXT_EXAMPLE},
        },
    },
    **schemas.PROBLEMS,
}


def routes(state: State) -> APIRouter:
    """The routes over the models in `state`."""
    router = APIRouter()

    @router.post("/v1/classify", responses=CLASSIFIED, openapi_extra={"requestBody": schemas.SOUND}, summary="Label a sound")
    async def classify(
        request: Request,
        model: ModelName = None,
        view: Annotated[
            View, Query(description="Labels of the sound, of each window, of merged windows, or events; auto: by its length.")
        ] = "auto",
        top: Annotated[int | None, Query(ge=1, le=10_000, description="Most labels of the sound, or of each window.")] = None,
        threshold: Annotated[float | None, Query(ge=0, le=1, description="Lowest score; default: the model's.")] = None,
        window: Annotated[float | None, Query(gt=0, le=3600, description="Seconds of a window; default: the model's.")] = None,
        hop: Hop = None,
        name: Name = "",
    ) -> Response:
        """Labels of a sound file of any kind, rate and channel count, sent as the body or in a form."""
        service = state.service(model).with_windows(window, hop)
        kind = rendering.accepted(request, rendering.LABELS)

        def render(found: Recording) -> Response:
            state.metrics.heard(service.name, found.seconds)
            return rendering.recording(found, service.name, kind, view, top, threshold)

        return await _answered(state, request, partial(service.recording, render=render), name)

    @router.post(
        "/models/{name}",
        responses={200: {"model": list[schemas.Scored]}, **schemas.PROBLEMS},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                    "application/json": {"schema": schemas.INPUTS},
                },
            }
        },
        summary="Label a sound as Hugging Face's audio classification does",
    )
    async def pipeline(
        request: Request, name: Annotated[str, Path(max_length=64, description="Name of the model.")]
    ) -> Response:
        """Labels of a whole sound, sent as the body, or in base64 as `inputs` of JSON, with `parameters`."""
        service = state.service(name)
        parameters, receive = schemas.Parameters(), state.inbox.received
        if request.headers.get("content-type", "").lower().startswith("application/json"):
            inputs = await _inputs(request, state)
            parameters, receive = inputs.parameters, partial(state.inbox.kept, sound=_decoded(inputs.inputs))
        rendering.refuse_function(service.classifier.info, parameters.function_to_apply)

        def render(found: Recording) -> Response:
            state.metrics.heard(service.name, found.seconds)
            return rendering.pipeline(found, parameters.top_k, parameters.function_to_apply)

        return await _answered(state, request, partial(service.recording, render=render), receive=receive)

    @router.post(
        "/v1/embed",
        responses={
            200: {
                "model": schemas.Embedded,
                "description": "A vector for each window, as JSON or as numpy's file, by the header Accept.",
                "content": {"application/x-npy": {"schema": {"type": "string", "format": "binary"}}},
            },
            **schemas.PROBLEMS,
        },
        openapi_extra={"requestBody": schemas.SOUND},
        summary="Embed a sound",
    )
    async def embed(
        request: Request,
        model: ModelName = None,
        hop: Hop = None,
        unit: Annotated[bool, Query(description="Whether the vectors have length 1.")] = False,
        name: Name = "",
    ) -> Response:
        """What the model hears in each window, as vectors: near ones are of sounds that it finds alike."""
        service = state.service(model).with_windows(None, hop)
        kind = rendering.accepted(request, rendering.VECTORS)

        def render(found: Embedding) -> Response:
            state.metrics.heard(service.name, found.seconds)
            return rendering.embedding(found, service.name, kind, unit)

        return await _answered(state, request, partial(service.embedding, render=render), name)

    return router


async def _answered(
    state: State,
    request: Request,
    work: Callable[[Upload], Coroutine[Any, Any, Response]],
    name: str = "",
    receive: Callable[..., AbstractAsyncContextManager[Upload]] | None = None,
) -> Response:
    """What `work` makes of the sound in a request: received first, so that a slow client takes no place in the queue."""
    state.admission.refuse_if_full()
    with state.arrivals.place():
        async with (receive or state.inbox.received)(request, name) as upload:
            with state.admission.place():
                state.metrics.waiting(state.admission.count)
                try:
                    return await unless_left(request, work(upload))
                finally:
                    state.metrics.waiting(state.admission.count - 1)


async def _inputs(request: Request, state: State) -> schemas.Inputs:
    """The request of Hugging Face's client.

    Raises:
        Refusal: it is none.
    """
    state.admission.refuse_if_full()
    with state.arrivals.place():
        body = await state.inbox.body(request)
    try:
        return await asyncio.get_running_loop().run_in_executor(state.pool, schemas.Inputs.model_validate_json, body)
    except ValidationError as error:
        raise Refusal(BAD_REQUEST, problems(error.errors())) from None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Refusal(BAD_REQUEST, "inputs are no base64; encode a sound file.") from None


def problems(errors: Sequence[Any]) -> str:
    """The errors of a request's check in one sentence."""
    texts = [f"{visible('.'.join(map(str, each['loc'])))[:80]}: {each['msg'][:200]}" for each in errors[:5]]
    return f"The request cannot be used: {'; '.join(texts)}."
