"""Rows of annotation files, with the line and column of whatever is not as documented."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from audiorep.errors import DataError

_T = TypeVar("_T")


def rows(path: Path, required: Sequence[str], header: bool = True) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file with at least the `required` columns; without a `header` with exactly these.

    Raises:
        DataError: the file cannot be read, is no text, lacks a column, or a row is cut short.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, None if header else required, strict=True, skipinitialspace=not header)
            if missing := [name for name in required if name not in (reader.fieldnames or [])]:
                have = ", ".join(reader.fieldnames or []) or "nothing"
                raise DataError(f"{path} lacks the column {', '.join(missing)}; its header names {have}.")
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(reader.fieldnames or [])} columns are needed, "
                        f"as in the {'header' if header else 'official file'}."
                    )
                yield reader.line_num, row
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}.") from None


def value(path: Path, line: int, row: dict[str, str], column: str, read: Callable[[str], _T], what: str) -> _T:
    """A row's `column` as `read` makes it of the text, refused with its line where that is not possible.

    Raises:
        DataError: `read` raises a ValueError; `what` says what is needed, for example "a number".
    """
    text = row[column].strip()
    try:
        return read(text)
    except (ValueError, KeyError):
        raise DataError(f"{path}, line {line}: {column} is {text!r}; {what} is needed.") from None


def finite(text: str) -> float:
    """A finite number."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def clock(text: str) -> float:
    """Seconds of a time written `hours:minutes:seconds`."""
    hours, minutes, seconds = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + finite(seconds)
