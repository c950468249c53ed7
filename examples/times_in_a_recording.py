"""List what is heard when in a long recording: `python examples/times_in_a_recording.py [file]`."""

import sys
from pathlib import Path

import audiorep

SAMPLES = Path(__file__).parent.parent / "samples"

classifier = audiorep.load("esc50").with_windows(hop_seconds=2.5)  # the model's own hop is a whole window
recording = classifier.file(sys.argv[1] if len(sys.argv) > 1 else SAMPLES / "recording.flac")
for found in recording.merged(threshold=0.5):
    print(f"{found.start:5.1f} to {found.end:5.1f} s: {found.label} ({found.score:.0%})")
