"""The figures of live listening are measured in miniature, through the real command."""

from __future__ import annotations

import json
import sys

import pytest
from support import ROOT, processes
from support.streaming import needs_ffmpeg

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="memory and time are read from /proc")]
TIMED = ("seconds until heard", "seconds from the sample", "share of two", "seconds for the sound")
"""Goals that a busy machine may miss."""


@pytest.mark.parametrize(
    "figure",
    [
        "onset",
        pytest.param("streams", marks=needs_ffmpeg),
        "replay",
        "consumer",
        pytest.param("feeders", marks=needs_ffmpeg),
    ],
)
def test_a_figure_is_measured_and_meets_its_goals_but_those_of_time(figure, tmp_path):
    kept = tmp_path / "listen.json"
    kept.write_text('{"another": 1}')
    words = [sys.executable, "-m", "experiments.listen", figure, "--small", "--output", str(kept)]
    done = processes.run(words, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(kept.read_text())
    assert found["another"] == 1
    record = found[figure]
    assert record["command"] == f"python -m experiments.listen {figure} --small"
    assert record["environment"]["cores"] >= 1
    exact = [goal for goal in record["goals"] if not any(word in goal["goal"] for word in TIMED)]
    assert [goal for goal in exact if not goal["met"]] == []
    assert all(goal["goal"] in done.stdout for goal in record["goals"])
