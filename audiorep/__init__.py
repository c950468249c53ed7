"""Recognize sounds fast on small machines.

>>> import audiorep
>>> audiorep.load("esc50")("samples/siren.flac").label
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
    from audiorep.embeddings.api import embed, similar
    from audiorep.embeddings.index import Index
    from audiorep.embeddings.search import Match
    from audiorep.embeddings.teach import teach
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
    from audiorep.evaluation.api import calibrate, evaluate, tune_events
    from audiorep.export.api import export
    from audiorep.hub.api import fuse
    from audiorep.predict.classifier import Classifier, load
    from audiorep.predict.events import EventConfig, EventTracker
    from audiorep.predict.results import Detection, Embedding, Failure, Recording, Results
    from audiorep.search.api import search
    from audiorep.serve.api import serve
    from audiorep.serve.config import ServeConfig
    from audiorep.serve.site import web
    from audiorep.training.api import train, train_every_fold

__version__ = "0.1.0"

_MODULE_OF = {
    "load": "predict.classifier",
    "Classifier": "predict.classifier",
    "Recording": "predict.results",
    "Detection": "predict.results",
    "Embedding": "predict.results",
    "EventConfig": "predict.events",
    "EventTracker": "predict.events",
    "Failure": "predict.results",
    "Results": "predict.results",
    "Index": "embeddings.index",
    "Match": "embeddings.search",
    "embed": "embeddings.api",
    "similar": "embeddings.api",
    "teach": "embeddings.teach",
    "Stretch": "audio.decode",
    "Waveform": "audio.decode",
    "Data": "datasets.location",
    "check_data": "datasets.api",
    "prepare_data": "datasets.api",
    "train": "training.api",
    "train_every_fold": "training.api",
    "evaluate": "evaluation.api",
    "calibrate": "evaluation.api",
    "tune_events": "evaluation.api",
    "compare": "benchmark.api",
    "bench": "benchmark.api",
    "export": "export.api",
    "quantize": "compress.api",
    "prune": "compress.api",
    "low_rank": "compress.api",
    "compress": "compress.api",
    "search": "search.api",
    "serve": "serve.api",
    "ServeConfig": "serve.config",
    "fuse": "hub.api",
    "web": "serve.site",
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
"""The module that defines each public name. It is imported at the first use of the name, so that `import audiorep` is fast."""

_PUBLIC_MODULES = ("datasets", "models", "reparam")
"""Public modules. They too are imported at their first use."""

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
    "Embedding",
    "EventConfig",
    "EventTracker",
    "Failure",
    "FuseError",
    "Index",
    "Match",
    "MissingExtraError",
    "Recording",
    "Results",
    "ServeConfig",
    "Stretch",
    "Waveform",
    "__version__",
    "bench",
    "calibrate",
    "check_data",
    "compare",
    "compress",
    "datasets",
    "embed",
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
    "serve",
    "similar",
    "teach",
    "train",
    "train_every_fold",
    "tune_events",
    "web",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _PUBLIC_MODULES:
        return import_module(f"audiorep.{name}")
    if name in _MODULE_OF:
        return getattr(import_module(f"audiorep.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'audiorep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _PublicModule(ModuleType):
    """The type of this module: importing a subpackage such as `audiorep.export` does not replace the function of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _PublicModule
