"""ESC-50 in its own layout: `audio/` and `meta/esc50.csv`, five official folds (Piczak 2015)."""

from __future__ import annotations

from pathlib import Path

from audiorep.datasets.example import Example
from audiorep.datasets.table import rows, value
from audiorep.errors import DataError

META = Path("meta") / "esc50.csv"


def examples(root: Path) -> list[Example]:
    """The 2,000 clips. Clips from one source recording share a group.

    They lie in one fold, except the clips of four recordings that hold two classes (131943, 134049, 209698, 234879).

    Raises:
        DataError: the table is missing, lacks a column, or names a fold that is no number.
    """
    found = []
    for line, row in rows(root / META, required=("filename", "fold", "category", "src_file")):
        path = root / "audio" / row["filename"]
        found.append(
            Example(
                path,
                {"label": (row["category"],)},
                fold=value(root / META, line, row, "fold", int, "a number"),
                group=row["src_file"],
                license=row.get("license") or row.get("licence", ""),
            )
        )
    if not found:
        raise DataError(f"{root / META} has a header and no rows.")
    return found


def is_at(root: Path) -> bool:
    """Whether `root` looks like ESC-50."""
    return (root / META).is_file()
