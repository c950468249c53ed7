"""List what is heard when in a long recording: `python examples/times_in_a_recording.py [file]`."""

import sys
from pathlib import Path

import audiorep

SAMPLES = Path(__file__).parent.parent / "samples"

recording = audiorep.load("esc50").file(sys.argv[1] if len(sys.argv) > 1 else SAMPLES / "recording.flac")
for found in recording.events(audiorep.EventConfig(on=0.8, off=0.4, hang_seconds=1.0)):
    print(f"{found.start:5.1f} to {found.end:5.1f} s: {found.label} ({found.score:.0%})")
