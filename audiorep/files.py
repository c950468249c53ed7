"""Files that appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from audiorep.errors import ConfigError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix; what is written there takes `path`'s place if nothing fails.

    Raises:
        ConfigError: nothing can be written there; the text says why. Folders that are missing are made.
    """
    partial = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}.") from None


def open_text(path: Path) -> IO[str]:
    """`path` to be written in UTF-8, line ends as given; what is no text in it, as a file's name may be, is escaped."""
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def write_text(path: Path, text: str) -> None:
    """Writes `text` in UTF-8."""
    with replacing(path) as partial, open_text(partial) as file:
        file.write(text)


def write_json(path: Path, values: object) -> None:
    """Writes `values` as indented JSON."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
