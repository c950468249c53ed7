"""Reads the rows of annotation files; errors name the line and column."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from audiorep.datasets.text_files import open_utf8
from audiorep.errors import DataError
from audiorep.escape import visible

_T = TypeVar("_T")
_SEPARATED = "{} has {} between its columns; save it with commas, as {}."
_SHOWN, _LONGEST = 20, 60  # most columns in a message, and most characters of their names
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ":": "colons", " ": "blanks"}


def rows(path: Path, required: Sequence[str], header: bool = True) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) for each row of a CSV file that has the `required` columns, or exactly these without a `header`.

    Blank rows are skipped. Without a header, lines that start with `#` are comments.

    Raises:
        DataError: the file cannot be read, is not text, has another separator, lacks a column or has one twice, has no
            rows, or a row is cut short.
    """
    found, line = False, 0
    try:
        with open_utf8(path, "CSV") as file:
            reader = csv.reader(file if header else _without_comments(file), strict=True, skipinitialspace=not header)
            columns = [] if header else list(required)
            for cells in reader:
                if not any(map(str.strip, cells)) or (not columns and cells[0].startswith("sep=")):  # Excel's own first line
                    pass
                elif not columns:
                    columns = _columns(path, cells, required)
                else:
                    found = True
                    yield reader.line_num, _row(path, reader.line_num, columns, cells, header)
                line = reader.line_num
    except csv.Error as error:
        if not columns and (other := _other_separator(_first_line(path), required)):
            raise DataError(_SEPARATED.format(path, other, ",".join(required))) from None
        raise DataError(f"{path} is not a CSV file in UTF-8: {_malformed(error, line + 1)}") from None
    if not columns:
        raise _missing_columns(path, required, [])
    if not found:
        raise DataError(f"{path} has {'a header and ' if header else ''}no rows.")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text) for every line of a text file that is not blank.

    Raises:
        DataError: the file cannot be read or is not text.
    """
    with open_utf8(path, "text") as file:
        yield from ((number, line.strip()) for number, line in enumerate(file, 1) if line.strip())


def class_order(paths: Iterable[Path], identifier: str, name: str) -> list[str]:
    """The class names in the column `name`, in the order of the numbers from 0 up in the column `identifier`.

    Raises:
        DataError: a file or value cannot be read, a number has two names, a name has two numbers, or a number is missing.
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
    """The value of a row's `column`, converted by `read`.

    Raises:
        DataError: `read` refuses the text. The message says that `what` is needed, for example "a number".
    """
    text = row[column].strip()
    try:
        return read(text)
    except (ValueError, KeyError):
        raise DataError(f"{path}, line {line}: {column} is {text!r}; {what} is needed.") from None


def stretch(
    path: Path, line: int, row: dict[str, str], columns: tuple[str, str], read: Callable[[str], float], what: str
) -> tuple[float, float]:
    """The start and end of a row's clip, from the two `columns`.

    Raises:
        DataError: a value cannot be read, or the end is not after the start.
    """
    start, end = (value(path, line, row, column, read, what) for column in columns)
    if end <= start:
        texts = [row[column].strip() for column in columns]
        raise DataError(
            f"{path}, line {line}: {columns[1]} is {texts[1]!r}; a value after {columns[0]} {texts[0]!r} is needed."
        )
    return start, end


def whole(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers from `lowest` to `highest`."""

    def read(text: str) -> int:
        number = int(text)
        if number < lowest or (highest is not None and number > highest):
            raise ValueError(text)
        return number

    return read


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """A reader that accepts the texts in `allowed`."""
    known = frozenset(allowed)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(text)
        return text

    return read


def finite(text: str) -> float:
    """Reads a finite number."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def clock(text: str) -> float:
    """Reads a time `hours:minutes:seconds` as seconds."""
    hours, minutes, seconds = text.split(":")
    parts = int(hours), int(minutes), finite(seconds)
    if min(parts) < 0:
        raise ValueError(text)
    return parts[0] * 3600 + parts[1] * 60 + parts[2]


def _columns(path: Path, cells: Sequence[str], required: Sequence[str]) -> list[str]:
    """The column names in a header."""
    names = [cell.strip() for cell in cells]
    if any(name not in names for name in required):
        raise _missing_columns(path, required, names)
    if twice := [name for name in dict.fromkeys(names) if name and names.count(name) > 1]:
        raise DataError(f"{path} has the column {_shown_columns(twice[:1])} {names.count(twice[0])} times; name each once.")
    return names


def _shown_columns(columns: Sequence[str]) -> str:
    """Column names for a message: printable and shortened."""
    shown = [visible(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…") for name in columns[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")


def _missing_columns(path: Path, required: Sequence[str], names: Sequence[str]) -> DataError:
    """The error for a header that lacks needed columns."""
    if other := _other_separator(",".join(names), required):
        return DataError(_SEPARATED.format(path, other, ",".join(required)))
    missing = [name for name in required if name not in names]
    return DataError(
        f"{path} lacks the column {', '.join(missing)}; its header names {_shown_columns(names) or 'nothing'}."
        + (" The first line must name the columns." if len(missing) == len(required) else "")
    )


def _other_separator(header: str, required: Sequence[str]) -> str:
    """The name of the separator that a header uses instead of commas, or an empty text."""
    for separator, words in _SEPARATORS.items():
        if separator in header and set(required) <= {part.strip(" \"'\r\n") for part in header.split(separator)}:
            return words
    return ""


def _first_line(path: Path) -> str:
    with open_utf8(path, "CSV") as file:
        return next((line for line in file if line.strip() and not line.startswith("sep=")), "")


def _row(path: Path, line: int, columns: Sequence[str], cells: Sequence[str], header: bool) -> dict[str, str]:
    if len(cells) != len(columns):
        raise DataError(
            f"{path}, line {line}: {len(columns)} columns are needed, as in the {'header' if header else 'official file'}; "
            f"it has {len(cells)}."
        )
    if any("\0" in cell for cell in cells):
        raise DataError(f"{path}, line {line}: it holds a NUL byte, as no text does. The file is damaged.")
    return dict(zip(columns, cells, strict=True))


def _malformed(error: csv.Error, line: int) -> str:
    """The fault of the row that begins at `line`."""
    text = str(error)
    if "unexpected end" in text:
        return f"a quotation mark in line {line} or below is never closed."
    if "field limit" in text:
        return f"line {line} has a cell of more than {csv.field_size_limit():,} characters; is a quotation mark never closed?"
    if "expected after" in text:
        return f"line {line} has a quotation mark inside a cell; double it, and put the cell in quotation marks."
    return f"{text} (line {line})."


def _without_comments(file: Iterable[str]) -> Iterator[str]:
    """The lines with comments replaced by empty lines, so that line numbers stay right."""
    return ("\n" if line.startswith("#") else line for line in file)
