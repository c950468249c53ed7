"""Recognize sounds fast on small machines.

>>> import audiorep
>>> audiorep.load()("samples/siren.flac").label
'siren'
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiorep import datasets, models, reparam
    from audiorep.audio.decode import Stretch, Waveform
    from audiorep.benchmark.api import bench, compare
    from audiorep.compress.api import compress, low_rank, prune, quantize
    from audiorep.datasets.api import check_data, prepare_data
    from audiorep.datasets.location import Data
    from audiorep.errors import (
        AudioError,
        AudiorepError,
        BrokenPackageError,
        BundleError,
        CheckpointError,
        ConfigError,
        DataError,
        FuseError,
        MissingExtraError,
    )
    from audiorep.evaluation.api import evaluate
    from audiorep.export.api import export
    from audiorep.hub.api import fuse
    from audiorep.predict.classifier import Classifier, load
    from audiorep.predict.results import Detection, Failure, Recording, Results
    from audiorep.search.api import search
    from audiorep.training.api import train, train_every_fold

__version__ = "0.1.0"

_HOMES = {
    "load": "predict.classifier",
    "Classifier": "predict.classifier",
    "Recording": "predict.results",
    "Detection": "predict.results",
    "Failure": "predict.results",
    "Results": "predict.results",
    "Stretch": "audio.decode",
    "Waveform": "audio.decode",
    "Data": "datasets.location",
    "check_data": "datasets.api",
    "prepare_data": "datasets.api",
    "train": "training.api",
    "train_every_fold": "training.api",
    "evaluate": "evaluation.api",
    "compare": "benchmark.api",
    "bench": "benchmark.api",
    "export": "export.api",
    "quantize": "compress.api",
    "prune": "compress.api",
    "low_rank": "compress.api",
    "compress": "compress.api",
    "search": "search.api",
    "fuse": "hub.api",
    "AudiorepError": "errors",
    "AudioError": "errors",
    "BundleError": "errors",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "FuseError": "errors",
    "MissingExtraError": "errors",
    "BrokenPackageError": "errors",
}
"""The module of each public name, imported when the name is first asked for: importing audiorep costs nothing."""

_ROOMS = ("datasets", "models", "reparam")
"""Public modules, likewise."""

__all__ = [
    "AudioError",
    "AudiorepError",
    "BrokenPackageError",
    "BundleError",
    "CheckpointError",
    "Classifier",
    "ConfigError",
    "Data",
    "DataError",
    "Detection",
    "Failure",
    "FuseError",
    "MissingExtraError",
    "Recording",
    "Results",
    "Stretch",
    "Waveform",
    "__version__",
    "bench",
    "check_data",
    "compare",
    "compress",
    "datasets",
    "evaluate",
    "export",
    "fuse",
    "load",
    "low_rank",
    "models",
    "prepare_data",
    "prune",
    "quantize",
    "reparam",
    "search",
    "train",
    "train_every_fold",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"audiorep.{name}")
    if name in _HOMES:
        return getattr(import_module(f"audiorep.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'audiorep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _Face(ModuleType):
    """This module, whose functions keep their names when a folder of the same name (`export`, `compress`) is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
