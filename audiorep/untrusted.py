"""Values from files that other people made: JSON with limits on size and depth, checks of type, and short texts of values."""

from __future__ import annotations

import json
import math
import reprlib
from typing import Any, TypeGuard

LARGEST_JSON = 64 << 20  # characters; the Bloom filter of a million training clips takes three million
MAX_DEPTH = 64  # levels of nested lists and tables; audiorep writes six
MAX_TEXT_CHARACTERS = 1000  # for a name that people read

_brief = reprlib.Repr()
_brief.maxstring, _brief.maxother, _brief.maxlevel, _brief.maxlist, _brief.maxtuple = 80, 80, 2, 6, 6


def brief(value: object) -> str:
    """A short text of `value` for an error: Python's repr on one line, with long parts cut."""
    try:
        return _brief.repr(value)
    except ValueError:  # an integer with more digits than Python converts to text
        return "a number of thousands of digits"


def is_whole(value: object) -> TypeGuard[int]:
    """Whether `value` is an integer and not a bool, which Python counts as one."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether `value` is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def is_text(value: object, blank: bool = True) -> bool:
    """Whether `value` is a string that UTF-8 can encode, of at most `MAX_TEXT_CHARACTERS`; `blank` allows one without words."""
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARACTERS:
        return False
    return _encodable(value) and (blank or bool(value.strip()))


def from_json(text: str) -> Any:
    """The value that the JSON in `text` holds.

    Raises:
        ValueError: it is not JSON, too long, or too deeply nested; the message says which.
    """
    if len(text) > LARGEST_JSON:
        raise ValueError(f"has {len(text)} characters; at most {LARGEST_JSON} are read")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError:
        raise ValueError("is not JSON") from None
    if not is_shallow(value):
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"holds lists or tables more than {MAX_DEPTH} deep"


def is_shallow(value: object) -> bool:
    """Whether lists and tables are nested at most `MAX_DEPTH` deep."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return True
    return False


def is_plain(value: object) -> bool:
    """Whether JSON can hold `value`: strings, numbers, bools, None, and lists and tables of these with strings as keys."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _encodable(key) for key in value) and all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return _encodable(value) if isinstance(value, str) else value is None or isinstance(value, bool | int | float)


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair cannot be encoded
        return False
    return True
