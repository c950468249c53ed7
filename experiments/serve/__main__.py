"""Measures the server through real connections, and keeps each figure in results/serve.json.

    python -m experiments.serve throughput   16 clients against LitServe and plain handlers, in turns (4 minutes)
    python -m experiments.serve load         times to an answer at 80 % load (2 minutes)
    python -m experiments.serve overload     ten times what can be heard: refusals, memory, recovery (1 minute)
    python -m experiments.serve aborted      100,000 requests of which a fifth is left (10 minutes)
    python -m experiments.serve hostile      10,000 damaged bodies (5 minutes)
    python -m experiments.serve start        from the start to the first answer (1 minute)
    python -m experiments.serve streams      200 live streams in real time (1 minute)
    python -m experiments.serve all          one after the other
    python -m experiments.serve table        what was measured, as a table for the documentation

Each replaces its own part of the file. `--small` is a miniature of a few seconds, and is not kept unless `--output` names a
file. Linux. LitServe is looked for in the Python that `LITSERVE_PYTHON` names. Close other programs first.
"""

from __future__ import annotations

from collections.abc import Callable

from experiments.figures import run
from experiments.goals import Figure
from experiments.serve import crowd, live, throughput, trouble

FIGURES: dict[str, Callable[[bool], Figure]] = {
    "throughput": throughput.measure,
    "load": crowd.load,
    "overload": crowd.overload,
    "aborted": trouble.aborted,
    "hostile": trouble.hostile,
    "start": live.start,
    "streams": live.streams,
}

if __name__ == "__main__":
    run("serve", FIGURES, __doc__ or "")
