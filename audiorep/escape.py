"""Names as they are, for targets that read some characters as something else: a line of text, Markdown, a shell."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from pathlib import Path

_MARKUP = re.compile(r"[\\`*{}\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_])|^[+=:-]")
_NUMBER = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")  # what would begin a list
_BREAKS = "\u2028\u2029"
_SPACING = "\t\n\r" + _BREAKS
_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def visible(text: str) -> str:
    r"""In one line, for people: what controls a terminal or turns the direction of writing, as in a program (`\n`)."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) if _controls(character) else character for character in text)


def markdown(text: str) -> str:
    """As it reads in a paragraph, heading, list or table cell of Markdown (CommonMark, GitHub's tables).

    Line ends and tabs become entities; other control characters, which no page shows, are as in `visible`.
    """
    shown = "".join(c if c in _SPACING else visible(c) for c in text)
    marked = _MARKUP.sub(lambda found: f"\\{found[0]}", shown)
    return "".join(f"&#{ord(c)};" if c in _SPACING else c for c in _NUMBER.sub(r"\1\\\2", marked))


def code(text: str) -> str:
    """As it reads in a code span of Markdown, outside of tables."""
    if text != visible(text) or not text.strip():
        return markdown(text)  # a code span makes blanks of line ends
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in (text[0], text[-1]) or text[0] == text[-1] == " " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def shell(path: Path) -> str:
    """As an argument in a command that a user may copy."""
    return shlex.quote(str(path))


def _controls(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _BREAKS or character in _TURNS


def _escaped(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
