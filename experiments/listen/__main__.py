"""Measures live listening through the real command, and keeps each figure in results/listen.json.

    python -m experiments.listen onset      from a sound to the line about it, in real time (10 minutes)
    python -m experiments.listen streams    32 live streams at four windows a second (3 minutes)
    python -m experiments.listen replay     24 hours of a stream as fast as they are heard: times and memory (10 minutes)
    python -m experiments.listen consumer   an hour of sound whose lines nobody reads: memory and lost lines (1 minute)
    python -m experiments.listen feeders    100 killed and 20 stalled connections: what is heard again, and when (2 minutes)
    python -m experiments.listen all        one after the other
    python -m experiments.listen table      what was measured, as a table for the documentation

Each replaces its own part of the file. `--small` is a miniature of a few seconds, and is not kept unless `--output` names a
file. Linux; `streams` and `feeders` need ffmpeg. Close other programs first.
"""

from __future__ import annotations

from collections.abc import Callable

from experiments.figures import run
from experiments.goals import Figure
from experiments.listen import consumer, feeders, onset, replay, streams

FIGURES: dict[str, Callable[[bool], Figure]] = {
    "onset": onset.measure,
    "streams": streams.measure,
    "replay": replay.measure,
    "consumer": consumer.measure,
    "feeders": feeders.measure,
}

if __name__ == "__main__":
    run("listen", FIGURES, __doc__ or "")
