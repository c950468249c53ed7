"""The command line: `PYTHONPATH=tests python -m fuzz --minutes 5`.

Every kind gets an equal share of the time. What is found is told at once, kept under --findings, and run again by what is
told: `--kinds KIND --seed S --case N`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from audiorep.benchmark.environment import environment
from audiorep.files import reserve, write_json
from fuzz.campaign import FINDINGS, SECONDS, Campaign, Tally
from fuzz.kinds import KINDS

MINUTES = 5.0


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help=f"of all kinds together; default {MINUTES:g}, without --cases and --case")
    length.add_argument("--seconds", type=float)
    parser.add_argument("--cases", type=int, help="at most so many of each kind")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas between them; a group's name is all of it")
    parser.add_argument("--findings", type=Path, default=Path("runs/fuzz"), help="folder of what was found")
    parser.add_argument("--output", type=Path, help="JSON file of the figures")
    given = parser.parse_args()
    given.kinds = [kind for name in given.kinds.split(",") for kind in (chosen(name) or parser.error(f"There is no {name}."))]
    return given


def chosen(name: str) -> list[str]:
    """The kinds that a name stands for: itself, or a group's."""
    return [kind for kind in KINDS if name in (kind, kind.partition(".")[0])] or ([name] if name.startswith("planted.") else [])


def seconds_of(given: argparse.Namespace) -> float:
    """The length of the whole run; without end where it is a number of cases."""
    if given.minutes is not None or given.seconds is not None:
        return float(given.seconds if given.minutes is None else 60 * given.minutes)
    return 60 * MINUTES if given.cases is None and given.case is None else float("inf")


def run(given: argparse.Namespace) -> dict[str, Tally]:
    """Every kind in turn."""
    cases = range(given.cases or 1 << 60) if given.case is None else range(given.case, given.case + 1)
    share = seconds_of(given) / len(given.kinds)
    tallies: dict[str, Tally] = {}
    with Campaign(given.findings) as campaign:
        for kind in given.kinds:
            campaign.start(kind)
            tallies[kind] = campaign.run(kind, given.seed, cases, time.monotonic() + share)
            print(row(kind, tallies[kind].figures()), flush=True)
    return tallies


def row(kind: str, figures: dict[str, Any]) -> str:
    """A line of the table."""
    return f"{kind:24}" + "".join(f"{value:>10}" for value in figures.values())


def record(given: argparse.Namespace, tallies: dict[str, Tally]) -> dict[str, Any]:
    """What is kept of a run."""
    names = ("cases", "accepted", "refused", *FINDINGS)
    figures = {kind: tally.figures() for kind, tally in tallies.items()}
    total: dict[str, float] = {name: sum(each[name] for each in figures.values()) for name in names}
    total["slowest_seconds"] = max(each["slowest_seconds"] for each in figures.values())
    return {
        "measure": "fuzz",
        "command": command(given),
        "seconds_of_a_hang": SECONDS,
        "total": total,
        "kinds": figures,
        "findings": [text for tally in tallies.values() for text in tally.findings],
        "environment": environment(threads=1),
    }


def command(given: argparse.Namespace) -> str:
    """What gives the figures again, on a machine as fast."""
    if given.kinds == list(KINDS) and given.cases is None and given.case is None:
        return f"make fuzz MINUTES={seconds_of(given) / 60:g} SEED={given.seed}"
    return shlex.join(["python", "-m", "fuzz", *sys.argv[1:]])


def main() -> int:
    """Runs a campaign; 1 if anything was found."""
    given = options()
    if given.output:
        reserve(given.output)
    print(row("", {name: name for name in Tally().figures() if name != "slowest_seconds"} | {"slowest": "slowest s"}))
    tallies = run(given)
    result = record(given, tallies)
    print(row("all", result["total"]))
    if given.output:
        write_json(given.output, result)
    return int(any(tally.found for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
