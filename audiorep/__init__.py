"""Recognize sounds fast on small machines.

>>> from audiorep import Classifier
>>> Classifier.from_bundle().file("samples/siren.flac").label
'siren'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiorep.predict.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["Classifier", "__version__"]


def __getattr__(name: str) -> object:
    """`Classifier`, imported when it is first asked for, so that importing audiorep costs nothing."""
    if name == "Classifier":
        from audiorep.predict.classifier import Classifier

        return Classifier
    raise AttributeError(f"module 'audiorep' has no attribute {name!r}")
