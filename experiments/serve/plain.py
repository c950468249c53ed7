"""A peer: the handler that one writes with FastAPI in a quarter of an hour, with nothing bounded and nothing batched.

    uvicorn experiments.serve.plain:app

`PLAIN` in the environment chooses how it hears: `session` decodes with soundfile and runs ONNX Runtime on all windows itself;
`classifier` calls this package's `Classifier` on the file.
"""

from __future__ import annotations

import io
import os
import tempfile
from typing import Any

import numpy as np
import soundfile
from fastapi import FastAPI, UploadFile

import audiorep

app = FastAPI()
classifier = audiorep.load(os.environ.get("PLAIN_MODEL", "nano"))
labels = classifier.info.labels["label"]
WINDOW, HOP = classifier.info.window_samples, classifier.info.hop_samples


def by_session(content: bytes) -> dict[str, Any]:
    """The best labels, by as few steps as possible: a mono file at the model's rate is taken for granted."""
    samples, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    mean = classifier.session(np.ascontiguousarray(windows))["label"].mean(0)
    return {"labels": [[labels[k], float(mean[k])] for k in np.argsort(-mean)[:20]]}


def by_classifier(content: bytes) -> dict[str, Any]:
    """The best labels of a file."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(content)
        file.flush()
        return {"labels": classifier(file.name).top(20)}


hear = by_classifier if os.environ.get("PLAIN") == "classifier" else by_session


@app.post("/classify")
def classify(file: UploadFile) -> dict[str, Any]:
    """The labels of a sound."""
    return hear(file.file.read())
