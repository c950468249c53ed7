"""Rows of annotation files, with the line and column of whatever is not as documented."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from audiorep.errors import DataError

_T = TypeVar("_T")


def rows(path: Path, required: Sequence[str], header: bool = True) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file with at least the `required` columns; without a `header` with exactly these.

    Without a header, lines that start with `#` are comments.

    Raises:
        DataError: the file cannot be read, is no text, lacks a column, has no rows, or a row is cut short.
    """
    found = False
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file if header else _without_comments(file)
            reader = csv.DictReader(text, None if header else required, strict=True, skipinitialspace=not header)
            if missing := [name for name in required if name not in (reader.fieldnames or [])]:
                have = ", ".join(reader.fieldnames or []) or "nothing"
                raise DataError(f"{path} lacks the column {', '.join(missing)}; its header names {have}.")
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(reader.fieldnames or [])} columns are needed, "
                        f"as in the {'header' if header else 'official file'}."
                    )
                found = True
                yield reader.line_num, row
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}.") from None
    if not found:
        raise DataError(f"{path} has {'a header and ' if header else ''}no rows.")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of every line of a text file that is not blank.

    Raises:
        DataError: the file cannot be read or is no text.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line.strip()) for number, line in enumerate(file, 1) if line.strip())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8: {error}.") from None


def class_order(paths: Iterable[Path], identifier: str, name: str) -> list[str]:
    """The class names in the column `name`, in the order of the numbers from 0 up in the column `identifier`.

    Raises:
        DataError: as `rows` and `value`, one number has two names, one name has two numbers, or a number is left out.
    """
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for path in paths:
        for line, row in rows(path, (identifier, name)):
            number, text = value(path, line, row, identifier, whole(0), "a whole number from 0 up"), row[name].strip()
            if not text:
                raise DataError(f"{path}, line {line}: {name} is empty; the name of class {number} is needed.")
            if names.setdefault(number, text) != text:
                raise DataError(f"{path}, line {line}: {name} is {text!r}; {identifier} {number} was {names[number]!r} before.")
            if numbers.setdefault(text, number) != number:
                raise DataError(f"{path}, line {line}: {identifier} is {number}; {name} {text!r} was {numbers[text]} before.")
    if absent := sorted(set(range(len(names))) - set(names)):
        raise DataError(f"{path}: {identifier} goes up to {max(names)} and {absent[0]} is left out; no number may be.")
    return [names[number] for number in range(len(names))]


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


def stretch(
    path: Path, line: int, row: dict[str, str], columns: tuple[str, str], read: Callable[[str], float], what: str
) -> tuple[float, float]:
    """Start and end of a row's clip, from the two `columns`.

    Raises:
        DataError: as `value`, or the end is not after the start.
    """
    start, end = (value(path, line, row, column, read, what) for column in columns)
    if end <= start:
        texts = [row[column].strip() for column in columns]
        raise DataError(
            f"{path}, line {line}: {columns[1]} is {texts[1]!r}; a value after {columns[0]} {texts[0]!r} is needed."
        )
    return start, end


def whole(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """Reads a whole number, from `lowest` to `highest`."""

    def read(text: str) -> int:
        number = int(text)
        if number < lowest or (highest is not None and number > highest):
            raise ValueError(text)
        return number

    return read


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """Takes a text that is one of `allowed`."""
    known = frozenset(allowed)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(text)
        return text

    return read


def finite(text: str) -> float:
    """A finite number."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def clock(text: str) -> float:
    """Seconds of a time written `hours:minutes:seconds`."""
    hours, minutes, seconds = text.split(":")
    parts = int(hours), int(minutes), finite(seconds)
    if min(parts) < 0:
        raise ValueError(text)
    return parts[0] * 3600 + parts[1] * 60 + parts[2]


def _without_comments(file: Iterable[str]) -> Iterator[str]:
    """Comments as empty lines, so that line numbers stay true."""
    return ("\n" if line.startswith("#") else line for line in file)
