"""Students of the tones, and what they are taught by."""

from __future__ import annotations

import json
from pathlib import Path

from audiorep.models import checkpoint
from audiorep.training.recipe import DistilConfig, TrainConfig
from support.training import quick

LABELS = {"label": ["high", "low", "middle"]}
WHOLE = {"augment": {}, "ema_decay": 0.0, "padding": "edge", "window_seconds": 1.0, "cut_seconds": 0.0}
"""Settings under which a training cut is the whole clip, as it is."""


def taught(folder: Path | str, *others: Path | str, **changes) -> TrainConfig:
    settings = {key: changes.pop(key) for key in list(changes) if key in DistilConfig.__dataclass_fields__}
    return quick(**changes, distil={"teachers": [str(folder), *map(str, others)], **settings})


def changed(folder: Path, output: Path, **values) -> Path:
    """A copy of a checkpoint whose configuration says otherwise."""
    output.mkdir()
    (output / checkpoint.WEIGHTS).write_bytes((folder / checkpoint.WEIGHTS).read_bytes())
    (output / checkpoint.CONFIG).write_text(json.dumps({**json.loads((folder / checkpoint.CONFIG).read_text()), **values}))
    return output
