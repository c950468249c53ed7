"""Sounds that can be read once only, from standard input (`-`) or a named pipe, kept on disk while they are in use."""

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
"""The name of standard input; a file of that name is written `./-`."""

_COPIED = 1 << 20  # bytes at a time

_kept: dict[Path, Path | AudioError] = {}
_users = 0
_lock = threading.Lock()  # of `_users`


def is_pipe(path: Path) -> bool:
    """Whether what is at `path` can be read but once."""
    if path == STDIN:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


@contextmanager
def kept() -> Iterator[None]:
    """While it lasts, what came out of a pipe stays on disk, to be read as often as need be."""
    global _users
    with _lock:
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            done = [] if _users else list(_kept.values())
            if not _users:
                _kept.clear()
        for copy in done:
            if isinstance(copy, Path):
                copy.unlink(missing_ok=True)


def keep(path: Path) -> None:
    """Reads a pipe to its end now, if it is one, rather than when it is first used; a fault is raised then."""
    if _users and path not in _kept and is_pipe(path):
        try:
            _kept[path] = _copy(path)
        except AudioError as error:
            _kept[path] = error


@contextmanager
def on_disk(path: Path) -> Iterator[Path]:
    """A path whose bytes can be sought in: `path` itself, or the copy of what came out of a pipe.

    Raises:
        AudioError: nothing came out of it, or there is no room for it.
    """
    if not is_pipe(path):
        yield path
        return
    keep(path)
    copy = _kept.get(path)
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
    """A temporary file with all that comes out of the pipe, in constant memory."""
    handle, name = tempfile.mkstemp(prefix="audiorep-", suffix=".pipe")
    copy = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, _source(path) as source:
            shutil.copyfileobj(source, file, _COPIED)
            size = file.tell()
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise AudioError(f"{shown(path)} cannot be kept in {copy.parent}: {error.strerror or error}.") from None
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    if size == 0:
        copy.unlink()
        example = " Pipe a sound into it, for example: cat sound.flac | audiorep predict -" if path == STDIN else ""
        raise AudioError(f"{shown(path)} gave no data.{example}", "empty")
    return copy


@contextmanager
def _source(path: Path) -> Iterator[IO[bytes]]:
    if path != STDIN:
        with path.open("rb") as file:
            yield file
    elif sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise AudioError(
            "Standard input is no pipe and no file. Pipe a sound into it, for example: cat sound.flac | audiorep predict -",
            "missing",
        )
    else:
        yield sys.stdin.buffer


def shown(path: Path) -> str:
    """Its name in a sentence."""
    return "Standard input (-)" if path == STDIN else str(path)
