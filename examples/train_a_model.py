"""Train a model on a folder of clips, `clips/<class>/<clip>.wav`."""

import tempfile
from pathlib import Path

from made_up_clips import TINY, write

import audiorep

with tempfile.TemporaryDirectory() as folder:
    clips = write(Path(folder))
    tested, *_ = audiorep.train(clips, Path(folder, "mine"), say=print, **TINY)
    print(tested.title, tested.heads["label"].summary)

    classifier = audiorep.load(Path(folder, "mine"))
    print(classifier.file(clips / "low" / "0.wav").label)
