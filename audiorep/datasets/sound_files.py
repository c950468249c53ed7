"""Lists the sound files below a folder; it follows links and skips hidden and system files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audiorep.audio.sources import OTHER_SUFFIXES, SUFFIXES

SYSTEM_FOLDERS = frozenset({"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"})

_DOCUMENTS = frozenset({"readme", "license", "licence", "copying", "notice", "authors", "changelog", "version", "makefile"})


@dataclass(frozen=True)
class FoundFiles:
    """The sounds in a folder, and files that may be sounds of formats that are not read."""

    sounds: tuple[Path, ...]
    others: tuple[Path, ...]


def files_below(folder: Path) -> FoundFiles:
    """The files below `folder` at any depth, in sorted order."""
    return _sorted(_files(folder, set()))


def files_in(folder: Path) -> FoundFiles:
    """The files directly in `folder`, in sorted order."""
    return _sorted(path for path in folder.iterdir() if not is_hidden(path.name) and not path.is_dir())


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden or made by the system: `.git`, `._a.wav`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _sorted(paths: Iterable[Path]) -> FoundFiles:
    sounds, others = [], []
    for path in sorted(paths):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            sounds.append(path)
        elif (not suffix or suffix in OTHER_SUFFIXES) and path.name.lower() not in _DOCUMENTS:
            others.append(path)
    return FoundFiles(tuple(sounds), tuple(others))


def _files(folder: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    """Every file, including dangling links. A link to a folder above it is not followed."""
    about = folder.stat()
    place = (about.st_dev, about.st_ino)
    if place in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if _is_folder(entry):
                yield from _files(Path(entry.path), above | {place})
            else:
                yield Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
