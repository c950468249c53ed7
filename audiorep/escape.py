"""Text escaped for where it is shown: one line of a terminal, Markdown, a shell command."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from pathlib import Path

_MARKUP = re.compile(r"[\\`*{}\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_])|^[+=:-]")
_LIST_NUMBER = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")  # at the start of a paragraph this would begin a list
_LINE_SEPARATORS = "\u2028\u2029"
_LINE_ENDS_AND_TABS = "\t\n\r" + _LINE_SEPARATORS
_DIRECTION_MARKS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def visible(text: str) -> str:
    r"""`text` on one line; characters that control a terminal or the direction of writing are escaped (`\n`, `\u202e`)."""
    if text.isprintable():
        return text
    return "".join(_escape(character) if _is_control(character) else character for character in text)


def markdown(text: str) -> str:
    """Markdown that shows exactly `text` in a paragraph, heading, list or table cell (CommonMark, GitHub's tables).

    Line ends and tabs become entities; other control characters are escaped as by `visible`.
    """
    escaped = "".join(c if c in _LINE_ENDS_AND_TABS else visible(c) for c in text)
    escaped = _MARKUP.sub(lambda match: f"\\{match[0]}", escaped)
    return "".join(f"&#{ord(c)};" if c in _LINE_ENDS_AND_TABS else c for c in _LIST_NUMBER.sub(r"\1\\\2", escaped))


def code(text: str) -> str:
    """A code span of Markdown that shows exactly `text`; not for table cells."""
    if text != visible(text) or not text.strip():
        return markdown(text)  # a code span shows a line end as a space
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in (text[0], text[-1]) or text[0] == text[-1] == " " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def shell(path: Path) -> str:
    """`path` quoted as one argument of a shell command that a user can copy."""
    return shlex.quote(str(path))


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _LINE_SEPARATORS or character in _DIRECTION_MARKS


def _escape(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
