"""Scores of a label for vectors that lie in an index: a model's heads run alone, and no sound is heard again."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from audiorep.embeddings.api import model_of
from audiorep.embeddings.index import Index
from audiorep.embeddings.onnx_file import onnx_file
from audiorep.errors import ConfigError
from audiorep.escape import visible
from audiorep.export.heads import heads_of
from audiorep.info import EMBEDDING
from audiorep.runtimes.onnx import session


def of_label(index: Index, label: str, model: str | os.PathLike[str] | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """What gives the scores (W,) of a label for embeddings (W, C): those of windows, calibrated where the model is.

    Args:
        index: whose vectors are to be scored.
        label: one that the model knows.
        model: a deployed `.onnx` with the trunk of the index, such as `teach` writes; default: the one that the index names.

    Raises:
        BundleError: the file's scores do not follow from its embedding.
        ConfigError: the model is another one, is in no `.onnx` file, or does not know the label.
    """
    info = model_of(index, model).info
    head = next((head for head, labels in info.labels.items() if label in labels), None)
    if head is None:
        name = visible(str(model or index.model))
        raise ConfigError(f"{visible(label)} is no label of {name}; audiorep models info {name} lists them.")
    path = onnx_file(model or index.model)
    place, heads = info.labels[head].index(label), session(heads_of(path.read_bytes(), info.embedding_size, [head]))

    def scores(vectors: np.ndarray) -> np.ndarray:
        [found] = heads.run([head], {EMBEDDING: vectors})
        return info.calibrated(head, found, "window")[:, place]

    return scores
