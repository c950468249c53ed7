"""Exceptions inside the engine's own rules: each costs the one operator that it came from, and is told as its reason."""

from __future__ import annotations

import re
from pathlib import Path

SIGN = "the engine's own rule failed on it"


def reason(error: Exception) -> str:
    """What the report says of an operator whose rule failed; in the project's tests such a failure fails the test."""
    line = first_line(error)
    return f"{SIGN} ({type(error).__name__}{': ' + line[:160] if line else ''})"


def first_line(error: BaseException) -> str:
    """What an error says first, without paths of the machine that built torch: nobody can look there."""
    line = (str(error).strip().splitlines() or [""])[0]
    line = re.sub(
        r'INTERNAL ASSERT FAILED at "[^"]*":\d+, please report a bug to PyTorch\.', "an assertion inside torch failed.", line
    )
    return re.sub(r"(?:/[^\s/\"\':,()]+){2,}", lambda path: path[0] if Path(path[0]).exists() else Path(path[0]).name, line)
