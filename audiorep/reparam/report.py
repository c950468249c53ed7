"""The report of a fuse: what was merged, what was left and why, and what it saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

KINDS = ("conv", "linear", "batch norm", "norm", "scale and shift", "add", "cat", "pool", "recurrent", "other")


@dataclass(frozen=True)
class Cost:
    """The cost of a network."""

    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and matrix products for the example, with its batch size."""
    operations: dict[str, int] = field(default_factory=dict)
    """The number of operations that compute, by kind."""


@dataclass(frozen=True)
class Merge:
    """One merge that was made."""

    kind: str
    into: str
    """The path of the merged module in the new network."""
    members: tuple[str, ...]
    """The label and path of each merged operation."""
    result: str
    """The merged operation, for example `conv 3×3`."""
    error: float | None
    """The largest difference in float64, relative to the largest value; None in a dry run."""
    parameters: tuple[int, int]
    """The parameters of the merged operations (before, after)."""
    macs: tuple[int, int]
    weight_range: float | None = None
    """The largest weight after the merge over the largest before. A higher one makes int8 coarser."""


@dataclass(frozen=True)
class Skip:
    """An operation that could be expected to merge and was left."""

    path: str
    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or 'the network'} ({self.what}): {self.reason}"


@dataclass(frozen=True)
class Plan:
    """What `fuse` would do."""

    merges: tuple[Merge, ...]
    skipped: tuple[Skip, ...]
    before: Cost
    after: Cost
    parts: tuple[str, ...] = ("",)
    """The paths of the captured modules: the whole network, or its largest parts that could be captured."""

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model, as JSON types."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "parts": list(self.parts),
            "merges": [asdict(merge) for merge in self.merges],
            "skipped": [asdict(skip) for skip in self.skipped],
        }

    def table(self) -> str:
        """The report as text: totals, a line for each new module and a line for each reason why something was left."""
        return "\n".join([*_totals(self), "", *_merge_lines(self.merges), *_skip_lines(self.skipped)])

    def __str__(self) -> str:
        return self.table()


def _totals(plan: Plan) -> list[str]:
    rows = [["", "before", "after"], ["parameters", f"{plan.before.parameters:,}", f"{plan.after.parameters:,}"]]
    rows.append(["MACs", f"{plan.before.macs:,}", f"{plan.after.macs:,}"])
    for kind in KINDS:
        counts = plan.before.operations.get(kind, 0), plan.after.operations.get(kind, 0)
        if any(counts):
            rows.append([kind, *(f"{count:,}" for count in counts)])
    lines = aligned(rows)
    if plan.parts != ("",):
        lines.append(f"It could not be merged as a whole; merged inside: {', '.join(plan.parts) or 'nothing'}.")
    return lines


def _merge_lines(merges: Sequence[Merge]) -> list[str]:
    if not merges:
        return ["Nothing was merged."]
    groups: dict[str, list[Merge]] = {}
    for merge in merges:
        groups.setdefault(merge.into, []).append(merge)
    rows = [["into", "from", "to", "parameters", "float64 error", "weight range"]]
    for into, steps in groups.items():
        labels = Counter(member.split(" at ")[0] for member in steps[-1].members)
        parts = " + ".join(f"{count} {label}" if count > 1 else label for label, count in labels.items())
        change = sum(after - before for before, after in (step.parameters for step in steps))
        errors = [step.error for step in steps if step.error is not None]
        ranges = [step.weight_range for step in steps if step.weight_range is not None]
        growth = 1.0
        for value in ranges:
            growth *= value
        measured = [f"{max(errors):.0e}" if errors else "", f"×{growth:.1f}" if ranges else ""]
        rows.append([into, parts, steps[-1].result, f"{change:+,}", *measured])
    return aligned(rows)


def _skip_lines(skipped: Sequence[Skip]) -> list[str]:
    if not skipped:
        return []
    reasons: dict[tuple[str, str], list[str]] = {}
    for skip in skipped:
        reasons.setdefault((skip.what, skip.reason), []).append(skip.path or "the network")
    lines = ["", "Left as it is:"]
    for (what, reason), paths in reasons.items():
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        lines.append(f"  {what} {shown}: {reason}")
    return lines


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
