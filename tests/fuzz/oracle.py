"""What a fuzzed case may not do, and how it says so."""

from __future__ import annotations

LONGEST = 2000  # characters of a refusal: a sentence, with long paths


class WrongError(Exception):
    """Something was accepted, or read as something, that must not be."""


def demand(holds: bool, otherwise: object) -> None:
    """Raises `WrongError` with `otherwise` unless the condition holds."""
    if not holds:
        raise WrongError(str(otherwise)[:LONGEST])


def is_sentence(text: str) -> bool:
    """Whether a refusal is one that a person reads: not empty, of one line, not endless."""
    return 0 < len(text) <= LONGEST and "\n" not in text
