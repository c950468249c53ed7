"""The layers that were taught, as a file for other programs that have embeddings of their own (safetensors)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from audiorep.embeddings.onnx_file import onnx_file
from audiorep.errors import ConfigError, require
from audiorep.export.classes import layers
from audiorep.files import replacing, reserve
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import load


def taught(path: Path, info: ModelInfo) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, weights (K, C) and biases (K,) of the classes that a model in a file was taught; none of a model that was not."""
    found = layers(path.read_bytes())
    weight = np.concatenate([np.zeros((0, info.embedding_size), np.float32), *(rows for rows, _ in found)])
    bias = np.concatenate([np.zeros(0, np.float32), *(values for _, values in found)])
    kept = weight.any(axis=1)  # but the row of what is none of them
    [labels] = info.labels.values()
    known = [name for name in labels if name != info.unknown]
    return known[len(known) - int(kept.sum()) :], weight[kept], bias[kept]


def export_head(model: str | os.PathLike[str], output: Path) -> list[str]:
    """Writes `weight` (K, C) and `bias` (K,) of the classes that a model was taught, and gives their names.

    A class has the logit W e + b for the embedding e, before the model's own calibration. The file's metadata has `labels`,
    `model` and `activation`.

    Raises:
        ConfigError: the model is no .onnx file or was taught nothing, or the file cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    if output.suffix != ".safetensors":
        raise ConfigError(f"{output} must end in .safetensors.")
    tensors = require("safetensors.numpy", extra="embeddings")
    path = onnx_file(model)
    reserve(output, path)
    info = load(path).info
    names, weight, bias = taught(path, info)
    if not names:
        raise ConfigError(f"{path} was taught nothing; audiorep teach makes one.")
    about = {"labels": json.dumps(names, ensure_ascii=False), "model": info.name, "activation": info.activation}
    with replacing(output) as partial:
        tensors.save_file({"weight": weight, "bias": bias}, partial, metadata=about)
    return names
