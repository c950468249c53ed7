"""Sentences for the report about exceptions in the engine's rules; such an operator is left unmerged."""

from __future__ import annotations

import re
from pathlib import Path

SIGN = "the engine's own rule failed on it"


def reason(error: Exception) -> str:
    """The reason in the report for an operator whose rule raised `error`. In the project's tests it fails the test."""
    line = first_line(error)
    return f"{SIGN} ({type(error).__name__}{': ' + line[:160] if line else ''})"


def first_line(error: BaseException) -> str:
    """The first line of an error, without paths of the machine that built torch."""
    line = (str(error).strip().splitlines() or [""])[0]
    line = re.sub(
        r'INTERNAL ASSERT FAILED at "[^"]*":\d+, please report a bug to PyTorch\.', "an assertion inside torch failed.", line
    )
    return re.sub(r"(?:/[^\s/\"\':,()]+){2,}", lambda path: path[0] if Path(path[0]).exists() else Path(path[0]).name, line)
