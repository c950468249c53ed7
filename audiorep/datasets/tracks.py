"""Where the sound of a name in an annotation file lies: a file anywhere below the root, or a track of an HDF5 file there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from audiorep.audio import SUFFIXES, containers
from audiorep.errors import DataError

_PLACES = ("", "annotations", "meta", "metadata")


class Tracks:
    """The sounds below `root`, by name without suffix."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[str, Path] = {}
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder, name)
                if path.suffix in containers.HDF5:
                    for track in sorted(containers.tracks(path)):
                        self._found.setdefault(track.rpartition("/")[2], path / track)
                elif path.suffix.lower() in SUFFIXES and not name.startswith("."):
                    self._found.setdefault(path.stem, path)

    def find(self, *names: str, otherwise: Path | None = None) -> Path:
        """The sound called by one of `names`; where there is none, a path at which nothing is, for its reader to report."""
        for name in names:
            if name in self._found:
                return self._found[name]
        return otherwise or self._root / "audio" / f"{names[0]}.wav"


def first_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` (a path below the root) that is there, also inside `annotations/`, `meta/` or `metadata/`."""
    return next((root / place / name for name in names for place in _PLACES if (root / place / name).is_file()), None)


def needed_file(root: Path, *names: str) -> Path:
    """As `first_file`.

    Raises:
        DataError: there is none of them.
    """
    found = first_file(root, names)
    if found is None:
        raise DataError(f"{root} holds no {' or '.join(names)}, nor does its folder {', '.join(_PLACES[1:])}.")
    return found


def split_files(root: Path, names: Mapping[str, str]) -> list[tuple[Path, str]]:
    """(file, split) of those of `names`, each with its split, that are there.

    Raises:
        DataError: there is none of them.
    """
    found = [(path, split) for name, split in names.items() if (path := first_file(root, (name,))) is not None]
    return found or [(needed_file(root, *names), "")]
