"""Results as a client asks for them: JSON, CSV, Audacity's labels, numpy's file."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from audiorep.info import calibration
from audiorep.info.model_info import ModelInfo
from audiorep.predict.output import audacity_line, csv_text
from audiorep.predict.results import Detection, Embedding, Recording, View
from audiorep.predict.stream import StreamWindow
from audiorep.serve.refusals import UNUSABLE, Refusal

JSON, CSV, TEXT, NPY = "application/json", "text/csv", "text/plain", "application/x-npy"
LABELS, VECTORS = (JSON, CSV, TEXT), (JSON, NPY)
"""What the labels and the vectors of a sound can be sent as."""
WITHIN_FILE = 20  # labels of a file, best first
LEAST_SCORE = 0.02  # of a label that is told of a window where a client asks for no other
MOST_LABELS = 20


def accepted(request: Request, known: tuple[str, ...]) -> str:
    """Which of the `known` media types a request's `Accept` names first; the first of them where it names none."""
    for part in request.headers.get("accept", "").lower().split(","):
        kind = part.partition(";")[0].strip()
        if kind in known:
            return kind
    return known[0]


def recording(found: Recording, model: str, kind: str, view: View, top: int | None, threshold: float | None) -> Response:
    """The labels of a sound."""
    view = found.chosen(view, top)
    detections = found.view(view, top, threshold)
    if kind == CSV:
        return Response(csv_text(found, detections), media_type="text/csv; charset=utf-8")
    if kind == TEXT:
        return Response("".join(map(audacity_line, detections)), media_type="text/plain; charset=utf-8")
    values = {
        "model": model,
        "name": str(found.path),
        "seconds": round(found.seconds, 6),
        "view": view,
        "detections": [_detection(each) for each in detections],
        "file": {head: [[label, _score(score)] for label, score in found.top(WITHIN_FILE, head)] for head in found.scores},
        "notes": list(found.notes),
    }
    if view == "windows":
        peaks = np.ones(len(found.starts)) if found.peaks is None else found.peaks
        values["windows"] = [
            {"start": round(float(start), 6), "end": round(found.end(place), 6), "peak": _score(float(peak))}
            for place, (start, peak) in enumerate(zip(found.starts, peaks, strict=True))
        ]
    return as_json(values)


def pipeline(found: Recording, top: int, function: str | None) -> Response:
    """The labels of a sound as Hugging Face's pipeline for audio classification gives them; see `refuse_function`."""
    head = next(iter(found.scores))
    scores = found.mean(head)
    values = calibration.logits(scores, found.info.activation) if function == "none" else scores
    order = np.argsort(-values, kind="stable")[:top]
    return as_json([{"score": float(values[k]), "label": found.info.labels[head][k]} for k in order])


def refuse_function(info: ModelInfo, function: str | None) -> None:
    """Raises a Refusal unless a function gives scores of the model.

    It can be the model's own, or `none` for logits, which are those of a softmax but for a constant.
    """
    if function not in (None, "none", info.activation):
        raise Refusal(UNUSABLE, f"function_to_apply can be {info.activation}, which is the model's, or none.")


def embedding(found: Embedding, model: str, kind: str, unit: bool) -> Response:
    """The vectors of a sound."""
    vectors = found.unit() if unit else found.vectors
    if kind == NPY:
        file = io.BytesIO()
        np.save(file, vectors)
        return Response(file.getvalue(), media_type=NPY)
    values = {
        "model": model,
        "name": str(found.path),
        "seconds": round(found.seconds, 6),
        "starts": [round(float(start), 6) for start in found.starts],
        "vectors": [[round(float(value), 6) for value in vector] for vector in vectors],
        "notes": list(found.notes),
    }
    return as_json(values)


def window(heard: StreamWindow, info: ModelInfo, top: int, threshold: float) -> dict[str, Any]:
    """What is told of a window of a live stream."""
    scores = {head: _best(info.labels[head], values, top, threshold) for head, values in heard.scores.items()}
    about = {"start": round(heard.start, 6), "end": round(heard.end, 6), "peak": _score(heard.peak)}
    return {"type": "window", **about, "scores": scores}


def as_json(values: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response of plain values."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "backslashreplace"), status, headers, JSON)


def _best(labels: list[str], scores: np.ndarray, top: int, threshold: float) -> dict[str, float]:
    order = np.argsort(-scores, kind="stable")[:top]
    return {labels[k]: _score(float(scores[k])) for k in order if scores[k] >= threshold}


def _detection(found: Detection) -> dict[str, Any]:
    times = {"start": round(found.start, 6), "end": round(found.end, 6)}
    return {**times, "head": found.head, "label": found.label, "score": _score(found.score)}


def _score(value: float) -> float:
    return round(value, 6)
