"""Opens annotation files as UTF-8 text, and says what other files are."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from audiorep.errors import DataError

_MARKS = {  # the longer first
    codecs.BOM_UTF32_LE: "text in UTF-32",
    codecs.BOM_UTF32_BE: "text in UTF-32",
    codecs.BOM_UTF16_LE: "text in UTF-16",
    codecs.BOM_UTF16_BE: "text in UTF-16",
    b"PK\x03\x04": "a zip archive, as Excel workbooks are",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed with gzip",
    b"RIFF": "a WAV file",
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"%PDF": "a PDF file",
    b"SQLite": "a database",
}
"""The first bytes of files that are not UTF-8 text, and their names."""
_BEGINNING_BYTES = 4096


@contextmanager
def open_utf8(path: Path, kind: str) -> Iterator[IO[str]]:
    """Opens a text file without changing line ends; `kind` is what it should be, for example "CSV".

    Raises:
        DataError: it cannot be read, or is not text in UTF-8. The message says what it looks like.
    """
    try:
        with path.open("rb") as file:
            found = _other_than_text(file.read(_BEGINNING_BYTES))
        if found:
            raise DataError(f"{path} is not a {kind} file in UTF-8 but {found}. {_advice(found, kind)}")
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a {kind} file in UTF-8: {_undecodable(path)}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def _other_than_text(beginning: bytes) -> str:
    """What a file is according to its first bytes; empty if it may be text in UTF-8."""
    for mark, what in _MARKS.items():
        if beginning.startswith(mark):
            return what
    odd, even = beginning[1::2].count(0), beginning[::2].count(0)
    if max(odd, even) > len(beginning) // 5 and min(odd, even) <= len(beginning) // 50:  # a byte of two is always 0
        return "text in UTF-16"
    return "no text, for it holds NUL bytes" if odd or even else ""


def _advice(found: str, kind: str) -> str:
    if "text in" in found or "Excel" in found:
        return f"Save it as {kind} in UTF-8."
    return f"A {kind} file is needed here."


def _undecodable(path: Path) -> str:
    """Describes the first byte that is not UTF-8, with its line and possible encoding."""
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        byte = f"line {line} holds the byte 0x{data[error.start]:02X}"
        letter = data[error.start : error.start + 1].decode("cp1252", "replace")
        like = f", which is {letter!r} in Latin-1 (Windows-1252)" if letter.isprintable() and letter != "\ufffd" else ""
        return f"{byte}{like}. Save it in UTF-8."
    return "it changed while it was read. Try again."
