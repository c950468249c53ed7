"""What tests of several rooms use: sounds, models, data sets and processes made on the spot."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
"""Where the project is."""
SAMPLES = ROOT / "samples"
