"""Make an int8 model that keeps its accuracy on clips of its data."""

import tempfile
from pathlib import Path

from made_up_clips import TINY, write

import audiorep

with tempfile.TemporaryDirectory() as folder:
    clips = write(Path(folder))
    audiorep.train(clips, Path(folder, "mine"), **TINY)

    made = audiorep.quantize(Path(folder, "mine"), clips, Path(folder, "int8.onnx"), loss=0.1)
    print(f"{made.speed:.2f} times the speed of float32; chosen by {made.chosen_on}: {made.setting}")
    if made.comparison is not None:
        print(made.comparison.difference)
