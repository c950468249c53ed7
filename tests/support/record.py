"""The result of a whole run, kept in a file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiorep.benchmark.environment import environment
from support import ROOT, processes

KINDS = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")


def write(folder: Path, stats: Mapping[str, Sequence[Any]], started: float) -> None:
    """Writes how many tests ended in which way, with date, commit and versions, under the name of the environment."""
    commit = processes.run(["git", "describe", "--always", "--abbrev=40", "--dirty"], cwd=ROOT).stdout.strip()
    counts = {kind: len(stats[kind]) for kind in KINDS if stats.get(kind)}
    lost = [report.nodeid for kind in ("failed", "error") for report in stats.get(kind, ())]
    result = {"commit": commit, "minutes": round((time.time() - started) / 60, 1), **counts, "not_passed": lost}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{Path(sys.prefix).name.lstrip('.')}.json"
    path.write_text(json.dumps({**result, "environment": environment()}, indent=1) + "\n")
