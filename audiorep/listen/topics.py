"""Names of sources and labels for places that take few characters: topics and file names."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 60


def slug(name: str) -> str:
    """The name in small letters and digits, joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:LONGEST].strip("_") or "sound"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """{name: a slug of its own}; the second and later names of the same slug have a number behind it."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        first, taken, number = slug(name), set(found.values()), 2
        own = first
        while own in taken:
            own, number = f"{first}_{number}", number + 1
        found[name] = own
    return found
