"""Compare a model with its smaller form: accuracy with its uncertainty, size and speed."""

import tempfile
from pathlib import Path

from made_up_clips import TINY, write

import audiorep

if __name__ == "__main__":  # models are timed in processes of their own, which import this file
    with tempfile.TemporaryDirectory() as folder:
        clips = write(Path(folder))
        audiorep.train(clips, Path(folder, "mine"), **TINY)
        whole = audiorep.export(Path(folder, "mine"), Path(folder, "mine.onnx")).path
        half = audiorep.export(Path(folder, "mine"), Path(folder, "half.onnx"), precision="fp16").path

        found = audiorep.compare(whole, half, clips, loss=0.05, rounds=3)
        print("passes" if found.refusal is None else found.refusal)
        for cost in found.costs:
            print(f"{Path(cost.name).name}: {cost.bytes / 1e3:.0f} kB, {cost.median_ms:.2f} ms in {cost.runtime}")
