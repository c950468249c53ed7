"""Results that a model might have found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audiorep.predict.results import Detection, Recording
from support.info import make_info

FOUND = [Detection(0.0, 1.0, "label", "dog", 0.9), Detection(1.0, 2.0, "label", "cat", 0.8)]


def recording(path: Path) -> Recording:
    return Recording(path, make_info(), 2.0, np.zeros(1), {"label": np.zeros((1, 3))})
