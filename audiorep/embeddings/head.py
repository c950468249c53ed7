"""The layers that were taught, as a file for other programs that have embeddings of their own (safetensors)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from audiorep import shipped
from audiorep.errors import ConfigError, require
from audiorep.export.classes import layers
from audiorep.files import replacing, reserve
from audiorep.predict.classifier import load


def export_head(model: str | os.PathLike[str], output: Path) -> list[str]:
    """Writes `weight` (K, C) and `bias` (K,) of the classes that a model was taught, and gives their names.

    A class has the logit W e + b for the embedding e, before the model's own calibration. The file's metadata has `labels`,
    `model` and `activation`.

    Raises:
        ConfigError: the model was taught nothing, or the file cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    if output.suffix != ".safetensors":
        raise ConfigError(f"{output} must end in .safetensors.")
    tensors = require("safetensors.numpy", extra="embeddings")
    path = shipped.file_of(model)
    reserve(output, path)
    info = load(path).info
    found = layers(path.read_bytes()) if path.suffix == ".onnx" and path.is_file() else []
    weight = np.concatenate([rows for rows, _ in found]) if found else np.zeros((0, 0), np.float32)
    bias = np.concatenate([values for _, values in found]) if found else np.zeros(0, np.float32)
    kept = weight.any(axis=1) if len(weight) else np.zeros(0, bool)  # but the row of what is none of them
    if not kept.any():
        raise ConfigError(f"{path} was taught nothing; audiorep teach makes one.")
    [known] = info.labels.values()
    names = [name for name in known if name != info.unknown][-int(kept.sum()) :]
    about = {"labels": json.dumps(names, ensure_ascii=False), "model": info.name, "activation": info.activation}
    with replacing(output) as partial:
        tensors.save_file({"weight": weight[kept], "bias": bias[kept]}, partial, metadata=about)
    return names
