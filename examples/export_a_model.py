"""Write a trained model as one file that runs without torch, and check that it gives the same scores."""

import tempfile
from pathlib import Path

from made_up_clips import TINY, write

import audiorep

with tempfile.TemporaryDirectory() as folder:
    clips = write(Path(folder))
    audiorep.train(clips, Path(folder, "mine"), **TINY)

    made = audiorep.export(Path(folder, "mine"), Path(folder, "mine.onnx"))
    print(f"{made.path.name}: {made.bytes / 1e3:.0f} kB, {made.parity}")
    print(audiorep.load(made.path).file(clips / "high" / "0.wav").top(3))
