"""What clients send and get, for the description of the API in OpenAPI."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class Labelled(BaseModel):
    """A label with its times and score."""

    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")
    head: str = Field(description="Output of the model, `label` for most.")
    label: str
    score: float = Field(description="0 to 1.")


class Window(BaseModel):
    """A window that was heard."""

    start: float
    end: float
    peak: float = Field(description="Largest magnitude, 1 at full scale.")


class Classified(BaseModel):
    """The labels of a sound."""

    model: str
    name: str
    seconds: float
    view: str
    detections: list[Labelled]
    file: dict[str, list[tuple[str, float]]] = Field(
        description="The likeliest labels of the whole sound for each head, best first."
    )
    notes: list[str] = Field(description="Sentences on how the sound was read.")
    windows: list[Window] | None = Field(default=None, description="All windows, with view=windows.")


class Embedded(BaseModel):
    """The embedding of a sound."""

    model: str
    name: str
    seconds: float
    starts: list[float] = Field(description="Seconds at which the windows begin.")
    vectors: list[list[float]] = Field(description="One for each window.")
    notes: list[str]


class Scored(BaseModel):
    """A label as Hugging Face's pipeline gives it."""

    score: float
    label: str


class Parameters(BaseModel):
    """Parameters of Hugging Face's audio classification."""

    top_k: int = Field(default=5, ge=1, le=10_000)
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class Inputs(BaseModel):
    """A request of Hugging Face's audio classification."""

    inputs: str = Field(description="A sound file in base64.")
    parameters: Parameters = Parameters()


class Model(BaseModel):
    """A model that is served."""

    name: str
    labels: dict[str, list[str]] = Field(description="Class names of each head.")
    sample_rate: int = Field(description="Hz.")
    window_seconds: float
    hop_seconds: float
    task: str = Field(description="`single-label` or `multi-label`.")
    activation: str
    thresholds: dict[str, list[float]] = Field(description="Lowest score at which each label is reported.")
    unknown: str = Field(description="The label of sounds of no class; empty, if there is none.")
    silence: float = Field(description="Peak below which a window is silence.")
    embedding_size: int
    license: str


class Models(BaseModel):
    """All models, the default first."""

    models: list[Model]
    default: str


class Limits(BaseModel):
    """What a server takes at most."""

    body_bytes: int
    seconds: float = Field(description="Of a sound.")
    channels: int
    rate: int = Field(description="Hz.")
    queue: int = Field(description="Requests at a time; more are answered 429.")
    sockets: int = Field(description="Live streams at a time.")
    idle_seconds: float
    total_seconds: float


class Problem(BaseModel):
    """Why a request was not served."""

    error: str


SOUND: dict[str, Any] = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
        },
    },
}
"""The body of a request with a sound."""
INPUTS = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {"type": "string", "description": "A sound file in base64."},
        "parameters": Parameters.model_json_schema(),
    },
}
"""The body of a request of Hugging Face's audio classification, with all that it refers to."""
EXAMPLE = {
    "model": "esc50",
    "name": "siren.flac",
    "seconds": 5.0,
    "view": "file",
    "detections": [{"start": 0.0, "end": 5.0, "head": "label", "label": "siren", "score": 0.97}],
    "file": {"label": [["siren", 0.97], ["church_bells", 0.01]]},
    "notes": [],
}
CSV_EXAMPLE = "path,start,end,head,label,score,error\r\nsiren.flac,0.000,5.000,label,siren,0.9712,\r\n"
TEXT_EXAMPLE = "0.000000\t5.000000\tsiren 0.97\n"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": about}
    for status, about in (
        (400, "The request cannot be understood."),
        (401, "The token is missing or wrong."),
        (404, "There is no such model."),
        (408, "The request did not arrive, or was not answered, in time."),
        (413, "The body or the sound is larger than the limits."),
        (422, "The sound or a parameter cannot be used."),
        (429, "Too many requests wait; Retry-After says when to try again."),
        (500, "The model failed."),
    )
}
