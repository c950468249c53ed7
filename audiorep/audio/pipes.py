"""Sounds from standard input (`-`) or a named pipe: each is copied to a temporary file, because it can be read only once."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from audiorep.errors import AudioError

STDIN = Path("-")
"""The path that stands for standard input; a file named `-` is given as `./-`."""

_COPY_BYTES = 1 << 20  # copied at a time

_copies: dict[Path, Path | AudioError] = {}
_users = 0  # blocks of `keep_copies` that are open
_users_lock = threading.Lock()


def is_pipe(path: Path) -> bool:
    """Whether `path` is standard input, a named pipe or a socket, which can be read only once."""
    if path == STDIN:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


@contextmanager
def keep_copies() -> Iterator[None]:
    """Keeps the copies of pipes on disk until the block ends, so that each can be read several times."""
    global _users
    with _users_lock:
        _users += 1
    try:
        yield
    finally:
        with _users_lock:
            _users -= 1
            unused = [] if _users else list(_copies.values())
            if not _users:
                _copies.clear()
        for copy in unused:
            if isinstance(copy, Path):
                copy.unlink(missing_ok=True)


def copy_now(path: Path) -> None:
    """Copies `path` to disk now, if it is a pipe and `keep_copies` is open; `seekable_path` raises an error of this copy."""
    if _users and path not in _copies and is_pipe(path):
        try:
            _copies[path] = _copy(path)
        except AudioError as error:
            _copies[path] = error


@contextmanager
def seekable_path(path: Path) -> Iterator[Path]:
    """A file on disk with the bytes of `path`: `path` itself, or the copy of a pipe.

    Raises:
        AudioError: the pipe gave no data, or its copy cannot be written.
    """
    if not is_pipe(path):
        yield path
        return
    copy_now(path)
    copy = _copies.get(path)
    if isinstance(copy, AudioError):
        raise copy
    if copy is not None:
        yield copy
        return
    copy = _copy(path)
    try:
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _copy(path: Path) -> Path:
    """A temporary file with all data of the pipe, copied in constant memory."""
    handle, name = tempfile.mkstemp(prefix="audiorep-", suffix=".pipe")
    copy = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, _source(path) as source:
            shutil.copyfileobj(source, file, _COPY_BYTES)
            size = file.tell()
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise AudioError(f"{name_of(path)} cannot be copied to {copy.parent}: {error.strerror or error}.") from None
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    if size == 0:
        copy.unlink()
        example = " Pipe a sound into it, for example: cat sound.flac | audiorep predict -" if path == STDIN else ""
        raise AudioError(f"{name_of(path)} gave no data.{example}", "empty")
    return copy


@contextmanager
def _source(path: Path) -> Iterator[IO[bytes]]:
    if path != STDIN:
        with path.open("rb") as file:
            yield file
    elif sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise AudioError(
            "Standard input is not a pipe or a file. Pipe a sound into it, for example: cat sound.flac | audiorep predict -",
            "missing",
        )
    else:
        yield sys.stdin.buffer


def name_of(path: Path) -> str:
    """The name of `path` in a sentence."""
    return "Standard input (-)" if path == STDIN else str(path)
