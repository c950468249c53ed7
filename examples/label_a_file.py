"""Label a sound file: `python examples/label_a_file.py [file]`."""

import sys
from pathlib import Path

import audiorep

SAMPLES = Path(__file__).parent.parent / "samples"

recording = audiorep.load().file(sys.argv[1] if len(sys.argv) > 1 else SAMPLES / "siren.flac")
for label, score in recording.top(3):
    print(f"{label}: {score:.0%}")
