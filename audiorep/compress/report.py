"""What a chain of compressions did, as a table, a picture and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audiorep.benchmark.environment import in_words
from audiorep.escape import code
from audiorep.escape import markdown as markdown_of
from audiorep.evaluation import pictures
from audiorep.files import write_json, write_text

REPORT = "report"


@dataclass(frozen=True)
class Row:
    """The result of one compression step: the model that it made, its cost and its accuracy."""

    name: str
    path: str
    """Checkpoint or file, relative to the output folder."""
    files: dict[str, str]
    """{runtime: the model file that is timed in it}."""
    parameters: int
    """Parameters of the merged network; for a file, of the checkpoint that it was made from."""
    macs: int
    """Multiply-accumulates of the same network for a window."""
    file_bytes: int
    """Size of the deployed file."""
    metric: str
    clips: int
    """Test clips that could be read."""
    accuracy: float
    low: float
    high: float
    change: float
    """Accuracy less that of the original, on the same clips (see `compare.Difference`)."""
    change_low: float
    change_high: float
    agreement: float
    """Share of clips that have the original's label."""
    seconds: float
    """How long the step took."""
    refused: str = ""
    """Why the chain ended here, or empty."""
    timings: dict[str, dict[str, float]] = field(default_factory=dict)
    """{runtime: median_ms, p90_ms and peak_memory_mb of one window, and its speed over the original's}."""


@dataclass(frozen=True)
class Chain:
    """What a chain of compressions did."""

    rows: list[Row]
    split: str
    clips: int
    environment: dict[str, Any]

    @property
    def best(self) -> Row:
        """The last model that was not refused."""
        return [row for row in self.rows if not row.refused][-1]


def write(chain: Chain, output: Path) -> None:
    """The report as `report.json`, `report.md` and `report.png`."""
    write_json(output / f"{REPORT}.json", asdict(chain))
    write_text(output / f"{REPORT}.md", markdown(chain))
    draw(chain.rows, output / f"{REPORT}.png")


def draw(rows: Sequence[Row], path: Path) -> None:
    """The picture of the accuracy, size and shortest time of each step."""
    times = {row.name: min((t["median_ms"] for t in row.timings.values()), default=None) for row in rows}
    points = [(row.name, row.file_bytes / 1e3, row.accuracy, row.low, row.high, times[row.name]) for row in rows]
    pictures.compression(points, rows[0].metric, path)


HEADER = (
    "step",
    "parameters",
    "MMACs",
    "file kB",
    "accuracy",
    "95 % interval",
    "change",
    "same labels",
    "ms",
    "peak MB",
    "speed",
)


def cells(row: Row) -> list[str]:
    """A row for people, in the order of `HEADER`."""
    several = len(row.timings) > 1

    def each(key: str, form: str) -> str:
        return ", ".join(f"{format(t[key], form)}{f' {name}' if several else ''}" for name, t in row.timings.items()) or "-"

    return [
        row.name,
        f"{row.parameters:,}",
        f"{row.macs / 1e6:.1f}",
        f"{row.file_bytes / 1e3:.0f}",
        f"{row.accuracy:.1%}",
        f"{row.low:.1%} – {row.high:.1%}",
        f"{100 * row.change:+.1f}",
        f"{row.agreement:.1%}",
        each("median_ms", ".2f"),
        each("peak_memory_mb", ".0f"),
        each("ratio", ".2f"),
    ]


def markdown(chain: Chain) -> str:
    """The table, what it was measured on, and where a step was refused."""
    refused = [f"- {markdown_of(row.name)} was refused: {markdown_of(row.refused)}." for row in chain.rows if row.refused]
    slower = [
        f"- {markdown_of(row.name)} is no faster than the original here ({name}: {t['ratio']:.2f}×); its gain is its size."
        for row in chain.rows[1:]
        for name, t in row.timings.items()
        if t["ratio"] < 1 and row.file_bytes < chain.rows[0].file_bytes
    ]
    return "\n".join(
        [
            f"Judged on the {markdown_of(chain.split)}, {chain.clips} clips: {chain.rows[0].metric.replace('_', ' ')} of the "
            "deployed file, with its 95 % interval, and its change against the original in points. Times are of one window, "
            "from waveform to scores, all models taking turns; speed is over the original in the same runtime.",
            "",
            f"{in_words(chain.environment)}.",
            "",
            "| " + " | ".join(HEADER) + " |",
            "|" + "---|" * len(HEADER),
            *("| " + " | ".join([markdown_of(row.name), *cells(row)[1:]]) + " |" for row in chain.rows),
            "",
            f"Kept: {code(chain.best.path)}.",
            *refused,
            *slower,
            "",
        ]
    )
