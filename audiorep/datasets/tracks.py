"""Where the sound of a name in an annotation file lies: a file anywhere below the root, or a track of an HDF5 file there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from audiorep import containers
from audiorep.audio import SUFFIXES


class Tracks:
    """The sounds below `root`, by name without suffix."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[str, Path] = {}
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder, name)
                suffix = path.suffix.lower()
                if suffix in containers.HDF5:
                    for track in sorted(containers.tracks(path)):
                        self._found.setdefault(track.rpartition("/")[2], path / track)
                elif suffix in SUFFIXES and not name.startswith("."):
                    self._found.setdefault(path.stem, path)

    def find(self, *names: str) -> Path:
        """The sound called by one of `names`; where there is none, a path at which nothing is, for the reader to report."""
        for name in names:
            if name in self._found:
                return self._found[name]
        return self._root / "audio" / f"{names[0]}.wav"


def first_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` (a path below the root) that is there, also inside `annotations/`, `meta/` or `metadata/`."""
    places = (root, root / "annotations", root / "meta", root / "metadata")
    return next((place / name for name in names for place in places if (place / name).is_file()), None)
