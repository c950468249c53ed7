"""Checkpoints and model files of other people as checkpoint folders, each read by the module that knows its format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audiorep.errors import ConfigError
from audiorep.hub import authors, tflite_file, yamnet


def convert(path: Path, output: Path, data_set: str | None = None, labels: Sequence[Path] = ()) -> list[str]:
    """Writes what is in `path` as a checkpoint folder `output`, and says in sentences what was found and taken for granted.

    Args:
        path: YAMNet's `.tflite`, or else a checkpoint of the paper's authors (`.pyth`).
        output: a new folder; nothing is left there if that fails.
        data_set: the authors' data set, a key of `recipe.PROTOCOLS`.
        labels: files of class names, one a head.

    Raises:
        CheckpointError, ConfigError, DataError: as `authors.convert` and `yamnet.convert`.
    """
    if not tflite_file.is_one(path):
        return authors.said(*authors.convert(path, output, data_set, labels), chosen=data_set is not None)
    if data_set is not None:
        raise ConfigError("--data-set is for the checkpoints of the paper's authors; a .tflite needs none.")
    return yamnet.said(*yamnet.convert(path, output, labels))
