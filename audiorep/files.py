"""Files that appear whole or not at all, and devices, pipes and links that are written to and not replaced."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from audiorep.errors import ConfigError

LONGEST_NAME = 140  # bytes of a temporary name; most systems take 255, encrypted ones 143
LONGEST_SUFFIX = 16
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_DESCRIPTORS = re.compile(r"/dev/fd|/proc/(\d+)(?:/task/\d+)?/fd")


class WriteError(ConfigError):
    """A file that cannot be written; `full` where no other one could be, for want of space."""

    full = False


def _write_error(path: Path, error: OSError) -> WriteError:
    told = WriteError(f"{path} cannot be written: {error.strerror or error}.")
    told.full = error.errno in FULL
    return told


@contextmanager
def named(path: Path, *others: Path) -> Iterator[None]:
    """An error of the system within becomes a `WriteError` for `path`, unless it tells of a file that is none of `others`."""
    try:
        yield
    except OSError as error:
        own = {str(place) for file in (path, *others) for place in (file, *file.parents)}
        if isinstance(error.filename, str) and error.filename not in own:
            raise
        raise _write_error(path, error) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix; what is written there takes `path`'s place if nothing fails.

    Where `path` is a link, the file it leads to is replaced. What is to go into a device or a pipe is copied there.

    Raises:
        WriteError: nothing can be written there; the text says why. Folders that are missing are made.
    """
    with named(path):
        streams = is_stream(path)
    with _copied(path) if streams else _replaced(path) as partial:
        yield partial


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    place = landing(path)
    partial = partial_of(place)
    with named(path, place, partial):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            if place.exists():
                shutil.copymode(place, partial)  # who may read it is the user's choice
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _copied(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"made{path.suffix}"
        yield made
        with named(path, made), open_stream(path) as file:
            file.write(made.read_bytes())


def partial_of(path: Path) -> Path:
    """The temporary name of `path`, in its folder and with its suffix, and never too long for a name."""
    name = f".{path.stem}.part{path.suffix}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        suffix = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST_SUFFIX else ""
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.part{suffix}"
    return path.with_name(name)


def landing(path: Path) -> Path:
    """The file that is written for `path`: what it leads to if it is a link, which need not exist yet."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def is_stream(path: Path) -> bool:
    """Whether `path` takes what is written as it comes: a device, a pipe, or an open file such as /dev/stdout.

    Raises:
        OSError: it cannot be looked at, for example a name that is too long.
    """
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def open_stream(path: Path) -> IO[bytes]:
    """A device, pipe or open file, to be written to as it is; of a pipe this waits for the reader.

    An open file is not opened anew, which would begin at its start, over what was written before.
    """
    number = _descriptor(path)
    return os.fdopen(os.open(path, os.O_WRONLY) if number is None else os.dup(number), "wb")


def open_text_stream(path: Path) -> IO[str]:
    """As `open_stream`, for text as `open_text` writes it."""
    return io.TextIOWrapper(open_stream(path), encoding="utf-8", errors="backslashreplace", newline="")


def _descriptor(path: Path) -> int | None:
    """The number of the open file that a path such as /dev/stdout, /dev/fd/63 or a link to one stands for."""
    place = path.absolute()
    for _ in range(40):  # links; the system follows as many
        folder = Path(os.path.realpath(place.parent))
        found = _DESCRIPTORS.fullmatch(str(folder))
        if found and place.name.isdecimal() and found[1] in (None, str(os.getpid())):
            return int(place.name)
        place = folder / place.name
        if not place.is_symlink():
            return None
        place = folder / place.readlink()
    return None


def reserve(output: Path, *inputs: Path) -> None:
    """Checks before long work that its result can be written to the file `output` and is none of what it is made from.

    Raises:
        ConfigError: it is one of `inputs` or a file in one, or nothing can be written there.
    """
    refuse_inputs(output, *inputs)
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; the name of a file is needed.")
    with named(output):
        if is_stream(output):
            if _descriptor(output) is None and not os.access(output, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        there = next(folder for folder in landing(output).absolute().parents if folder.exists())
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise _write_error(output, error) from None


def refuse_inputs(output: Path, *inputs: Path) -> None:
    """Refuses to write over what the result is made from.

    Raises:
        ConfigError: `output` is one of `inputs`, or a file in one.
    """
    for source in inputs:
        made, given = Path(os.path.realpath(output)), Path(os.path.realpath(source))  # resolve() answers a loop with an error
        same = made == given
        if same or (output.is_file() and made.is_relative_to(given)):
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
