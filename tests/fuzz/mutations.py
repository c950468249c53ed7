"""Hostile values and damaged bytes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from random import Random
from typing import Any

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3.5, 1e-9, 1e-5, 1e9, 10**9, 10**18, 10**400, -(10**18), float("nan"), float("inf"),
    -float("inf"),
    "", " ", "a", "16000", "\x00", "\x1b[2J", "a\nb", "\ud800", "🎺" * 3, "x" * 100_000, "../../etc/passwd",
    [], [[]], [None], [1, 2], ["a", "a"], ["a"] * 1000, [float("nan")], {}, {"label": None}, {"label": []}, {"label": "abc"},
    {"label": [1, 2, 3]}, {"label": {"a": 1}}, {"keys": ["a", "b", "c"]}, {"": ["a"]}, {"a.b": ["a", "b", "c"]},
    {"label": [["a"]]},
    {"label": ["a", "b", "c"]}, {"n_fft": 10**9}, {"mels": 10**9}, {"sample_rate": 1}, {"width": 10**9}, {"depths": [10**9]},
]  # fmt: skip
DEPTHS = (10, 70, 500, 900)
MAX_DEPTH = 8  # of a place in which a value is put
NAMES = ("extra", "", "\ud800", "x" * 1000)
FOURS = [
    b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80",
    b"\xff\xff\xff\xfe", b"\xfe\xff\xff\xff", b"\0\0\0\x01",
]  # fmt: skip
HEADER = 120  # bytes in which most sound files say what they are


def hostile(chance: Random) -> Any:
    """A value that no field expects."""
    return _nested(chance.choice(DEPTHS)) if chance.random() < 0.05 else copy.deepcopy(chance.choice(VALUES))


def replaced(chance: Random, values: Any, times: int = 1) -> Any:
    """Plain values with a few of them replaced, removed or added."""
    values = copy.deepcopy(values)
    for _ in range(times):
        if spots := _places(values):
            *way, last = chance.choice(spots)
            table = values
            for key in way:
                table = table[key]
            _replace(chance, table, last)
    return values


def _replace(chance: Random, table: Any, key: Any) -> None:
    action, old = chance.random(), table[key]
    if action < 0.1 and isinstance(table, dict):
        del table[key]
    elif action < 0.15 and isinstance(table, dict):
        table[chance.choice(NAMES)] = hostile(chance)
    elif action < 0.35 and isinstance(old, int | float) and not isinstance(old, bool):
        table[key] = chance.choice([*(old * 10**k for k in (1, 2, 3, 6, 12)), -old, old + 0.5, float(old)])
    else:
        table[key] = hostile(chance)


def _nested(depth: int) -> Any:
    value: Any = "x"
    for index in range(depth):
        value = [value] if index % 2 else {"a": value}
    return value


def _places(values: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value in dictionaries, and to the first few in lists, unless they lie deep."""
    found = [at] if at else []
    if len(at) > MAX_DEPTH:
        return found
    if isinstance(values, dict):
        inside: list[tuple[Any, Any]] = list(values.items())
    else:
        inside = list(enumerate(values[:4])) if isinstance(values, list) else []
    return found + [place for key, inner in inside for place in _places(inner, (*at, key))]


def flipped(chance: Random, content: bytes, first: int = 0, last: int | None = None, most: int = 8) -> bytes:
    """Bytes with a few of them, between two places, changed; sometimes a stretch removed, doubled or zeroed too."""
    changed = bytearray(content)
    last = max(len(changed) if last is None else last, first + 1)
    for _ in range(chance.randint(1, most)):
        place = chance.randrange(first, last)
        if place < len(changed):
            changed[place] = chance.choice([0, 1, 127, 128, 255, changed[place] ^ 1 << chance.randrange(8)])
    if chance.random() < 0.2:
        place, size = chance.randrange(first, last), chance.randint(1, 64)
        stretch = changed[place : place + size]
        changed[place : place + size] = chance.choice([b"", stretch * 2, bytes(len(stretch))])
    return bytes(changed)


def cut(chance: Random, content: bytes, first: int = 0, last: int | None = None) -> bytes:
    """The bytes before a place from `first` up to, but not at, `last` (default: the end)."""
    return content[: chance.randrange(first, len(content) if last is None else last)]


def damaged(chance: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Bytes as disks, networks, editors and other programs leave them; parts of `others` may be joined to them."""
    changed = bytearray(content or b"\0")
    size = len(changed)
    place, length = chance.randrange(size), chance.randrange(1, 2000)
    action = chance.randrange(9)
    if action == 0:
        del changed[place:]
    elif action == 1:
        return flipped(chance, content, 0, min(size, HEADER))
    elif action == 2:
        return flipped(chance, content, most=20)
    elif action == 3:
        place = chance.randrange(min(size, HEADER))
        changed[place : place + 4] = chance.choice(FOURS)
    elif action == 4:
        del changed[place : place + length]
    elif action == 5:
        changed[place:place] = chance.randbytes(length)
    elif action == 6:
        changed += chance.choice(others)
    elif action == 7:
        changed[place:] = chance.choice(others)
    else:
        changed[place : place + length] = chance.choice([b"\0", b"\xff", b"A"]) * length
    return bytes(changed)
