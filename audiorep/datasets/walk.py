"""The files below a folder: links followed, hidden and machine-made ones left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audiorep.audio.sources import OTHER_SUFFIXES, SUFFIXES

MACHINE_MADE = frozenset({"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"})

_PAPERS = frozenset({"readme", "license", "licence", "copying", "notice", "authors", "changelog", "version", "makefile"})


@dataclass(frozen=True)
class Found:
    """The sounds below a folder, and files that may be sounds and are not read."""

    sounds: tuple[Path, ...]
    others: tuple[Path, ...]


def below(folder: Path) -> Found:
    """What lies below `folder` at any depth, in sorted order."""
    return _sorted(_files(folder, set()))


def inside(folder: Path) -> Found:
    """What lies in `folder` itself."""
    return _sorted(path for path in folder.iterdir() if not is_hidden(path.name) and not path.is_dir())


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not meant to be seen: `.git`, `._a.wav`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in MACHINE_MADE


def _sorted(paths: Iterable[Path]) -> Found:
    sounds, others = [], []
    for path in sorted(paths):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            sounds.append(path)
        elif (not suffix or suffix in OTHER_SUFFIXES) and path.name.lower() not in _PAPERS:
            others.append(path)
    return Found(tuple(sounds), tuple(others))


def _files(folder: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    """Each file, dangling links too; a folder that a link leads back to is not entered again."""
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
