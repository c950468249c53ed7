"""Plain values from files that others made: read within bounds of size and depth, and told in a few words."""

from __future__ import annotations

import json
import math
import reprlib
from typing import Any, TypeGuard

LARGEST_JSON = 64 << 20  # characters; a memory of a million clips is three
DEEPEST = 64  # lists and tables in each other; ours are six deep
LONGEST_TEXT = 1000  # characters of a name that people read

_brief = reprlib.Repr()
_brief.maxstring, _brief.maxother, _brief.maxlevel, _brief.maxlist, _brief.maxtuple = 80, 80, 2, 6, 6


def brief(value: object) -> str:
    """A value as an error shows it: as Python writes it, on one line and not long."""
    try:
        return _brief.repr(value)
    except ValueError:  # a whole number of more digits than Python turns into text
        return "a number of thousands of digits"


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, and no truth value, which Python counts among them."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def is_text(value: object, blank: bool = True) -> bool:
    """Whether it is a text, of any characters that UTF-8 has, and at most `LONGEST_TEXT` of them."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        return False
    return _encodable(value) and (blank or bool(value.strip()))


def from_json(text: str) -> Any:
    """The value that JSON holds.

    Raises:
        ValueError: it is no JSON, too long, or too deeply nested; the text says which.
    """
    if len(text) > LARGEST_JSON:
        raise ValueError(f"has {len(text)} characters; at most {LARGEST_JSON} are read")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError:
        raise ValueError("is not JSON") from None
    if not shallow(value):
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"holds lists or tables more than {DEEPEST} deep"


def shallow(value: object) -> bool:
    """Whether lists and tables are at most `DEEPEST` in each other."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return True
    return False


def is_plain(value: object) -> bool:
    """Whether JSON can hold it as it is: texts, numbers, truth values, None, lists and tables of these with texts as keys."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _encodable(key) for key in value) and all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return _encodable(value) if isinstance(value, str) else value is None or isinstance(value, bool | int | float)


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
