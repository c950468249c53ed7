"""A CSV manifest: `path,label[,start,end,split,fold,group,license]` (or `licence`), paths relative to the file's folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from audiorep.datasets.example import SPLITS, Example
from audiorep.datasets.table import finite, rows, value
from audiorep.errors import DataError

COLUMNS = ("path", "label", "start", "end", "split", "fold", "group", "license")


_BREAK = re.compile(r"(\\*);")


def examples(path: Path) -> list[Example]:
    r"""A clip for each row; several labels are joined with `;`, and `\;` is a semicolon inside one.

    Raises:
        DataError: it is not a CSV file with these columns, or a value cannot be read; the message names the row.
    """
    return [_example(path, line, row) for line, row in rows(path, required=COLUMNS[:2])]


def notes(path: Path) -> list[str]:
    """A note about rows without a split, if other rows have one.

    Raises:
        DataError: it is not a CSV file with these columns.
    """
    splits = Counter((row.get("split") or "").strip() for _, row in rows(path, required=COLUMNS[:2]))
    if not splits[""] or len(splits) == 1:
        return []
    return [f"{splits['']} of the {splits.total()} rows of {path} name no split, as others do, and train."]


def joined(labels: Iterable[str]) -> str:
    """Several labels as one cell, which `separated` turns into the same labels again.

    Backslashes before a semicolon are doubled. One more backslash makes the semicolon part of the label.
    """
    cells = [_BREAK.sub(r"\1\1\\;", label) for label in labels]
    last = len(cells) - 1
    return ";".join(cell + "\\" * _trailing(cell) if place < last else cell for place, cell in enumerate(cells))


def separated(cell: str) -> list[str]:
    """The labels in a cell, without surrounding blanks."""
    labels, label, start = [], "", 0
    for found in _BREAK.finditer(cell):
        backslashes = len(found[1])
        label += cell[start : found.start()] + "\\" * (backslashes // 2)
        start = found.end()
        if backslashes % 2:
            label += ";"
        else:
            labels.append(label)
            label = ""
    labels.append(label + cell[start:])
    return [stripped for label in labels if (stripped := label.strip())]


def _trailing(text: str) -> int:
    """The number of backslashes at the end of a text."""
    return len(text) - len(text.rstrip("\\"))


def _example(path: Path, line: int, row: dict[str, str]) -> Example:
    if not row["path"].strip():
        raise DataError(f"{path}, line {line}: the path is empty.")
    split = (row.get("split") or "").strip()
    if split and split not in SPLITS:
        raise DataError(f"{path}, line {line}: split is {split!r}; allowed are {', '.join(SPLITS)}.")
    start, end, fold = (_number(path, line, row, name) for name in ("start", "end", "fold"))
    if fold is not None and fold != int(fold):
        raise DataError(f"{path}, line {line}: fold is {row['fold']!r}; a whole number is needed.")
    if (start or 0.0) < 0:
        raise DataError(f"{path}, line {line}: start is {row['start']!r}; seconds from 0 up are needed.")
    if end is not None and end <= (start or 0.0):
        raise DataError(f"{path}, line {line}: end is {row['end']!r}; a value after start {start or 0.0:g} is needed.")
    return Example(
        _located(path, row["path"].strip()),
        {"label": tuple(separated(row["label"]))},
        start or 0.0,
        end,
        split,
        None if fold is None else int(fold),
        (row.get("group") or "").strip(),
        (row.get("license") or row.get("licence") or "").strip(),
    )


def _located(path: Path, name: str) -> Path:
    """The path of a row's sound. If it does not exist, backslashes are also tried as slashes, for paths from Windows."""
    place = path.parent / name
    if os.sep == "/" and "\\" in name and not os.path.exists(place):  # noqa: PTH110 (Path.exists raises for a name that is too long)
        turned = path.parent / name.replace("\\", "/")
        return turned if os.path.exists(turned) else place  # noqa: PTH110
    return place


def _number(path: Path, line: int, row: dict[str, str], name: str) -> float | None:
    return value(path, line, row, name, finite, "a number") if (row.get(name) or "").strip() else None
