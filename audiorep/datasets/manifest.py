"""A CSV manifest: `path,label[,start,end,split,fold,group,licence]`, paths relative to the file's folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from audiorep.datasets.example import SPLITS, Example
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


def rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file with a header that names at least the `required` columns.

    Raises:
        DataError: the file cannot be read, is no text, lacks a column, or a row is cut short.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in required if name not in (reader.fieldnames or [])]:
                have = ", ".join(reader.fieldnames or []) or "nothing"
                raise DataError(f"{path} lacks the column {', '.join(missing)}; its header names {have}.")
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(reader.fieldnames or [])} columns are needed, as in the header."
                    )
                yield reader.line_num, row
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}.") from None


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
    text = (row.get(name) or "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{path}, line {line}: {name} is {text!r}; a number is needed.")
    return number
