"""A CSV manifest: `path,label[,start,end,split,fold,group,licence]`, paths relative to the file's folder."""

from __future__ import annotations

from pathlib import Path

from audiorep.datasets.example import SPLITS, Example
from audiorep.datasets.table import finite, rows, value
from audiorep.errors import DataError

COLUMNS = ("path", "label", "start", "end", "split", "fold", "group", "licence")


def examples(path: Path) -> list[Example]:
    """A clip for each row; several labels are joined with `;`.

    Raises:
        DataError: not a CSV of these columns, or a row with a value that cannot be read; the row is named.
    """
    found = [_example(path, line, row) for line, row in rows(path, required=COLUMNS[:2])]
    if not found:
        raise DataError(f"{path} has a header and no rows.")
    return found


def _example(path: Path, line: int, row: dict[str, str]) -> Example:
    labels = tuple(label.strip() for label in row["label"].split(";") if label.strip())
    if not row["path"].strip():
        raise DataError(f"{path}, line {line}: the path is empty.")
    split = (row.get("split") or "").strip()
    if split and split not in SPLITS:
        raise DataError(f"{path}, line {line}: split is {split!r}; allowed are {', '.join(SPLITS)}.")
    start, end, fold = (_number(path, line, row, name) for name in ("start", "end", "fold"))
    if fold is not None and fold != int(fold):
        raise DataError(f"{path}, line {line}: fold is {row['fold']!r}; a whole number is needed.")
    return Example(
        path.parent / row["path"].strip(),
        {"label": labels},
        start or 0.0,
        end,
        split,
        None if fold is None else int(fold),
        (row.get("group") or "").strip(),
        (row.get("licence") or "").strip(),
    )


def _number(path: Path, line: int, row: dict[str, str], name: str) -> float | None:
    return value(path, line, row, name, finite, "a number") if (row.get(name) or "").strip() else None
