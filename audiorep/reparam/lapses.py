"""Exceptions inside the engine's own rules: each costs the one operator that it came from, and is told as its reason."""

from __future__ import annotations

SIGN = "the engine's own rule failed on it"


def reason(error: Exception) -> str:
    """What the report says of an operator whose rule failed; in the project's tests such a failure fails the test."""
    lines = str(error).strip().splitlines()
    return f"{SIGN} ({type(error).__name__}{': ' + lines[0][:160] if lines else ''})"
