"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import tempfile
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


def reserve(output: Path, *inputs: Path) -> None:
    """Checks before long work that its result can be written to the file `output` and is none of what it is made from.

    Raises:
        ConfigError: it is one of `inputs` or a file in one, or nothing can be written there.
    """
    refuse_inputs(output, *inputs)
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; the name of a file is needed.")
    there = next(folder for folder in output.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror or error}.") from None


def refuse_inputs(output: Path, *inputs: Path) -> None:
    """Refuses to write over what the result is made from.

    Raises:
        ConfigError: `output` is one of `inputs`, or a file in one.
    """
    for source in inputs:
        same = output.resolve() == source.resolve()
        if same or (output.is_file() and output.resolve().is_relative_to(source.resolve())):
            place = "is" if same else "is part of"
            raise ConfigError(f"{output} {place} what it would be made from, which is never overwritten; name another place.")


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
