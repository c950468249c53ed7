"""Writing of files: a file appears whole or not at all; devices and pipes are written to, and links are followed."""

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

MAX_NAME_BYTES = 140  # of a temporary file; most file systems allow 255, encrypted ones 143
MAX_SUFFIX_BYTES = 16
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # no other file can be written either
_DESCRIPTOR_FOLDERS = re.compile(r"/dev/fd|/proc/(\d+)(?:/task/\d+)?/fd")


class WriteError(ConfigError):
    """A file that cannot be written."""

    disk_unwritable = False
    """Whether the disk is full or read-only, so that no other file can be written either."""


def _write_error(path: Path, error: OSError) -> WriteError:
    write_error = WriteError(f"{path} cannot be written: {error.strerror or error}.")
    write_error.disk_unwritable = error.errno in _DISK_ERRORS
    return write_error


@contextmanager
def write_errors(path: Path, *others: Path) -> Iterator[None]:
    """Turns an `OSError` in the block into a `WriteError` for `path`.

    An `OSError` that names a file other than `path`, `others` and the folders above them passes through.
    """
    try:
        yield
    except OSError as error:
        ours = {str(place) for file in (path, *others) for place in (file, *file.parents)}
        if isinstance(error.filename, str) and error.filename not in ours:
            raise
        raise _write_error(path, error) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix; the file written there replaces `path` if the block succeeds.

    If `path` is a link, its target is replaced. If it is a device or a pipe, the file is copied into it. Missing folders
    are made.

    Raises:
        WriteError: `path` cannot be written; the text says why.
    """
    with write_errors(path):
        to_stream = is_stream(path)
    with _copied_to_stream(path) if to_stream else _replaced_file(path) as partial:
        yield partial


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; what is written into it becomes the folder `path` if nothing fails.

    Raises:
        ConfigError: there is something at `path` already.
        WriteError: nothing can be written there; the text says why. Folders that are missing are made.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{path} exists already; name a new folder.")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new", dir=path.parent) as partial:
        folder = Path(partial) / "folder"
        folder.mkdir()
        yield folder
        with write_errors(path):
            folder.replace(path)


@contextmanager
def _replaced_file(path: Path) -> Iterator[Path]:
    place = link_target(path)
    partial = partial_path(place)
    with write_errors(path, place, partial):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            if place.exists():
                shutil.copymode(place, partial)  # the user chose who may read the old file
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _copied_to_stream(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / f"partial{path.suffix}"
        yield partial
        with write_errors(path, partial), open_stream(path) as file:
            file.write(partial.read_bytes())


def partial_path(path: Path) -> Path:
    """The path of the temporary file for `path`: in the same folder, with the same suffix if that is short."""
    name = f".{path.stem}.part{path.suffix}"
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        suffix = path.suffix if len(os.fsencode(path.suffix)) <= MAX_SUFFIX_BYTES else ""
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.part{suffix}"
    return path.with_name(name)


def link_target(path: Path) -> Path:
    """The target of `path` if it is a link, else `path`; the target need not exist."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe, or an open file such as /dev/stdout, which are written to and never replaced.

    Raises:
        OSError: the system gives no information about `path`, for example because the name is too long.
    """
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def open_stream(path: Path) -> IO[bytes]:
    """A device, a pipe or an open file such as /dev/stdout, for writing bytes; for a named pipe this waits for its reader.

    The descriptor of an open file is duplicated: opening the file again would overwrite it from its start.
    """
    number = _descriptor(path)
    return os.fdopen(os.open(path, os.O_WRONLY) if number is None else os.dup(number), "wb")


def open_text_stream(path: Path) -> IO[str]:
    """The same as `open_stream` for text, with the encoding of `open_text`."""
    return io.TextIOWrapper(open_stream(path), encoding="utf-8", errors="backslashreplace", newline="")


def _descriptor(path: Path) -> int | None:
    """The file descriptor that `path` names, such as /dev/stdout, /dev/fd/63 or a link to one; None for other paths."""
    place = path.absolute()
    for _ in range(40):  # links in a chain; Linux follows as many
        folder = Path(os.path.realpath(place.parent))
        match = _DESCRIPTOR_FOLDERS.fullmatch(str(folder))
        if match and place.name.isdecimal() and match[1] in (None, str(os.getpid())):
            return int(place.name)
        place = folder / place.name
        if not place.is_symlink():
            return None
        place = folder / place.readlink()
    return None


def reserve(output: Path, *inputs: Path) -> None:
    """Checks, before long work, that the file `output` can be written and is not one of the `inputs`.

    Raises:
        ConfigError: `output` is one of `inputs` or a file in one of them, or it cannot be written.
    """
    refuse_inputs(output, *inputs)
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; the name of a file is needed.")
    with write_errors(output):
        if is_stream(output):
            if _descriptor(output) is None and not os.access(output, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        existing = next(folder for folder in link_target(output).absolute().parents if folder.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise _write_error(output, error) from None


def refuse_inputs(output: Path, *inputs: Path) -> None:
    """Raises an error if writing `output` would overwrite one of the `inputs` it is made from.

    Raises:
        ConfigError: `output` is one of `inputs`, or a file in one of them.
    """
    for source in inputs:
        # not resolve(), which raises an error for a loop of links
        real_output, real_source = Path(os.path.realpath(output)), Path(os.path.realpath(source))
        same = real_output == real_source
        if same or (output.is_file() and real_output.is_relative_to(real_source)):
            relation = "is an input" if same else f"is part of the input {source}"
            raise ConfigError(f"{output} {relation}, which is never overwritten; name another output.")


def open_text(path: Path) -> IO[str]:
    """`path` opened to write UTF-8 with line ends as given; characters that UTF-8 cannot encode (in file names) are escaped."""
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def write_text(path: Path, text: str) -> None:
    """Writes `text` in UTF-8; the file appears whole or not at all (see `replacing`)."""
    with replacing(path) as partial, open_text(partial) as file:
        file.write(text)


def write_json(path: Path, values: object) -> None:
    """Writes `values` as indented JSON; the file appears whole or not at all (see `replacing`)."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
