"""Finds the sounds that annotation files name: files anywhere below the root, and tracks of HDF5 files there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from audiorep.audio import SUFFIXES, containers
from audiorep.errors import DataError

_PLACES = ("", "annotations", "meta", "metadata")


class SoundIndex:
    """The sounds below `root` by name without suffix."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[str, Path] = {}
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder, name)
                if path.suffix in containers.HDF5_SUFFIXES:
                    for track in sorted(containers.tracks(path)):
                        self._found.setdefault(track.rpartition("/")[2], path / track)
                elif path.suffix.lower() in SUFFIXES and not name.startswith("."):
                    self._found.setdefault(path.stem, path)

    def find(self, *names: str, otherwise: Path | None = None) -> Path:
        """The path of the sound with the first known of `names`; if there is none, a missing path, which its reader reports."""
        for name in names:
            if name in self._found:
                return self._found[name]
        return otherwise or self._root / "audio" / f"{names[0]}.wav"


def first_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` that exists below `root`, also inside `annotations/`, `meta/` or `metadata/`; else None."""
    return next((root / place / name for name in names for place in _PLACES if (root / place / name).is_file()), None)


def needed_file(root: Path, *names: str) -> Path:
    """The first of `names` that exists, in the same places as for `first_file`.

    Raises:
        DataError: none exists.
    """
    found = first_file(root, names)
    if found is None:
        raise DataError(f"{root} holds no {' or '.join(names)}, nor does its folder {', '.join(_PLACES[1:])}.")
    return found


def split_files(root: Path, names: Mapping[str, str]) -> list[tuple[Path, str]]:
    """(file, split) for the files that exist among `names`, which gives the split of each.

    Raises:
        DataError: none exists.
    """
    found = [(path, split) for name, split in names.items() if (path := first_file(root, (name,))) is not None]
    return found or [(needed_file(root, *names), "")]
