"""The .onnx file of a model, which is needed where its graph is read or added to."""

from __future__ import annotations

import os
from pathlib import Path

from audiorep import shipped
from audiorep.errors import ConfigError
from audiorep.escape import shell, visible
from audiorep.runtimes import able_to_open, existing


def onnx_file(model: str | os.PathLike[str]) -> Path:
    """The `.onnx` file that `model` is, a path, or that of a model in the package by name.

    Raises:
        BundleError: nothing is there.
        ConfigError: it is a folder or a file of another runtime; the text says how to make one.
    """
    path = shipped.file_of(model)
    if path.suffix == ".onnx" or not path.exists():
        return existing(path)
    able = able_to_open(path)
    kind = "a folder" if "torch" in able else f"a model for {able[0]}" if able else "no model"
    command = f"audiorep export {shell(path) if 'torch' in able else 'CHECKPOINT'} -o model.onnx"
    raise ConfigError(f"{visible(str(path))} is {kind}; an .onnx file is needed here. Make one with: {command}")
