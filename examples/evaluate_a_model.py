"""Measure a model on labelled clips, class by class."""

import tempfile
from pathlib import Path

from made_up_clips import TINY, write

import audiorep

with tempfile.TemporaryDirectory() as folder:
    clips = write(Path(folder))
    audiorep.train(clips, Path(folder, "mine"), **TINY)

    evaluation = audiorep.evaluate(Path(folder, "mine"), clips, split="valid")
    for row in evaluation.heads["label"].classes:
        print(f"{row.label}: {row.clips} clips, recall {row.recall:.0%}, precision {row.precision:.0%}")
