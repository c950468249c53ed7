"""The sample sounds are what their script makes, and small."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes


@pytest.mark.slow
def test_samples_are_made_by_their_script(tmp_path):
    done = processes.run([sys.executable, str(SAMPLES / "make.py"), str(tmp_path)])
    assert done.returncode == 0, done.stderr
    kept, made = ({path.name: path for path in folder.glob("*.flac")} for folder in (SAMPLES, tmp_path))
    assert kept.keys() == made.keys()
    for name, path in kept.items():
        (ours, rate), (again, _) = soundfile.read(path), soundfile.read(made[name])
        assert rate == 16_000
        assert np.abs(ours - again).max() < 1e-3, name
    assert sum(path.stat().st_size for path in kept.values()) <= 2_000_000
