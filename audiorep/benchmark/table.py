"""A benchmark's rows: run, and written as CSV, JSON, Markdown and a picture."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audiorep.benchmark.cases import Case, Combination, Missing, Plan, cases
from audiorep.benchmark.environment import environment, in_words
from audiorep.benchmark.measure import Timing, timings
from audiorep.errors import ConfigError
from audiorep.escape import code
from audiorep.escape import markdown as markdown_of
from audiorep.evaluation import pictures
from audiorep.files import write_json, write_text
from audiorep.models import Cost

NUMBERS = ("median_ms", "p90_ms", "throughput", "ratio", "ratio_low", "ratio_high", "peak_memory_mb")


@dataclass(frozen=True)
class Row(Timing, Cost, Combination):
    """What one case costs, and how fast it is."""

    batch: int
    file_bytes: int


COLUMNS = tuple(dict.fromkeys([*Combination.__dataclass_fields__, "batch", *Row.__dataclass_fields__]))
"""A row's values in the order in which files have them."""


@dataclass(frozen=True)
class Bench:
    """The rows of one run, and what it was run on."""

    rows: list[Row]
    missing: list[Missing]
    baseline: str
    plan: Plan
    rounds: int
    environment: dict[str, Any]
    calibration: str
    """What int8 was calibrated on."""


def run(
    plan: Plan,
    *,
    rounds: int,
    threads: int,
    baseline: str | None = None,
    sounds: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    advance: Callable[[float], None] = lambda amount: None,
) -> Bench:
    """Every case of `plan` measured in turns.

    Args:
        plan: what to measure.
        rounds: turns that each case has.
        threads: processor threads of each.
        baseline: `network:form:runtime:precision` whose speed is 1, shortened at will; default: the first case.
        sounds: folder of sounds to calibrate int8 on.
        say: told what is under way.
        advance: called for each turn.

    Raises:
        ConfigError, CheckpointError: nothing can be measured, or no case has the baseline's name.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = list(cases(plan, Path(folder), threads, sounds, say))
        ready = [case for case in found if isinstance(case, Case)]
        missing = [case for case in found if isinstance(case, Missing)]
        if not ready:
            raise ConfigError("; ".join(dict.fromkeys(case.reason for case in missing)) or "there is nothing to measure.")
        first = _named(ready, baseline)
        say(f"Measuring {len(ready)} cases in {rounds} rounds")
        candidates = [case.candidate(threads, _beside(ready, first, case)) for case in ready]
        times = timings(candidates, rounds, Path(folder), advance)
        rows = [_row(case, timing) for case, timing in zip(ready, times, strict=True) if isinstance(timing, Timing)]
    missing += [
        Missing(case.network, case.form, case.runtime, case.precision, timing)
        for case, timing in zip(ready, times, strict=True)
        if isinstance(timing, str)
    ]
    origin = f"the sounds in {sounds.name}" if sounds else "noises: its accuracy says nothing"
    return Bench(rows, missing, first.name, plan, rounds, environment(threads), origin)


def _row(case: Case, timing: Timing) -> Row:
    return Row(
        network=case.network,
        form=case.form,
        runtime=case.runtime,
        precision=case.precision,
        batch=case.batch,
        file_bytes=case.file_bytes,
        **asdict(case.cost),
        **asdict(timing),
    )


def _named(ready: list[Case], baseline: str | None) -> Case:
    """The first case whose name has all the parts that are asked for, in that order."""
    if baseline is None:
        return ready[0]
    wanted = baseline.split(":")
    for case in ready:
        parts = iter(case.name.split(":"))
        if all(part in parts for part in wanted):
            return case
    names = ", ".join(dict.fromkeys(case.name for case in ready))
    raise ConfigError(f"No case is named {baseline!r}; there are {names}.")


def _beside(ready: list[Case], baseline: Case, case: Case) -> int:
    """The place of the baseline at the batch size of `case`."""
    return next(place for place, other in enumerate(ready) if (other.batch, other.name) == (case.batch, baseline.name))


def write(bench: Bench, path: Path, command: str) -> list[Path]:
    """Writes `path` with the suffixes .json, .csv, .md and .png."""
    values = {
        "command": command,
        "baseline": bench.baseline,
        "rounds": bench.rounds,
        "calibration": bench.calibration,
        "plan": asdict(bench.plan),
        "environment": bench.environment,
        "rows": [_rounded(row) for row in bench.rows],
        "missing": [asdict(case) for case in bench.missing],
    }
    written = [path.with_name(path.name + suffix) for suffix in (".json", ".csv", ".md", ".png")]
    write_json(written[0], values)
    write_text(written[1], _csv(bench.rows))
    write_text(written[2], markdown(bench, command))
    draw(bench.rows, bench.environment, written[3])
    return written


def draw(rows: Sequence[Row], about: dict[str, Any], path: Path) -> None:
    """The picture of the rows that were measured in the environment `about`."""
    points = [
        pictures.Speed(row.network, row.form, row.runtime, row.precision, row.batch, row.parameters, row.median_ms / row.batch)
        for row in rows
    ]
    pictures.speeds(points, in_words(about).partition(",")[0], path)


def as_json(bench: Bench) -> str:
    """The rows for a program to read."""
    missing = [asdict(case) for case in bench.missing]
    return json.dumps({"rows": [_rounded(row) for row in bench.rows], "missing": missing, "baseline": bench.baseline})


HEADER = (
    "network",
    "form",
    "runtime",
    "precision",
    "batch",
    "parameters",
    "GMACs",
    "activations",
    "file MB",
    "peak MB",
    "ms",
    "p90 ms",
    "clips/s",
    "speed",
)


def cells(row: Row) -> list[str]:
    """A row for people, in the order of `HEADER`."""
    return [
        row.network,
        row.form,
        row.runtime,
        row.precision,
        str(row.batch),
        f"{row.parameters:,}",
        f"{row.macs / 1e9:.3f}",
        f"{row.activations / 1e6:.2f} M",
        f"{row.file_bytes / 1e6:.2f}",
        f"{row.peak_memory_mb:.0f}",
        f"{row.median_ms:.2f}",
        f"{row.p90_ms:.2f}",
        f"{row.throughput:.1f}",
        f"{row.ratio:.2f}×",
    ]


def markdown(bench: Bench, command: str) -> str:
    """The table with what it was made on."""
    quantized = f" int8 calibrated on {bench.calibration}." if "int8" in bench.plan.precisions else ""
    lines = [
        code(command),
        "",
        f"{in_words(bench.environment)}. {bench.rounds} rounds in turns; speed is over {bench.baseline} at the same batch, "
        f"the median of the rounds' ratios; input: {bench.plan.input}.{quantized}",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *("| " + " | ".join([markdown_of(row.network), *cells(row)[1:]]) + " |" for row in bench.rows),
        "",
        *(
            f"- {markdown_of(m.network)}, {m.form}, {m.runtime}, {m.precision}: not measured, {markdown_of(m.reason)}"
            for m in bench.missing
        ),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _rounded(row: Row) -> dict[str, Any]:
    """The row as plain values, in the order of `COLUMNS`."""
    values = asdict(row)
    return {key: float(f"{values[key]:.5g}") if key in NUMBERS else values[key] for key in COLUMNS}


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_rounded, rows))
    return text.getvalue()
