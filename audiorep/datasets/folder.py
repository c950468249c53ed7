"""A folder per class, optionally inside `train/`, `valid/` and `test/`."""

from __future__ import annotations

from pathlib import Path

from audiorep.audio import SUFFIXES
from audiorep.datasets.example import SPLITS, Example
from audiorep.errors import DataError

_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}


def examples(root: Path) -> list[Example]:
    """Every sound file below each class's folder, at any depth; the folder's name is the label.

    Raises:
        DataError: no class folder with sound files.
    """
    tops = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith((".", "_background"))]
    by_split = tops and all(path.name.lower() in _NAMES for path in tops)
    pairs = (
        [(_NAMES[top.name.lower()], child) for top in tops for child in sorted(top.iterdir())]
        if by_split
        else [("", top) for top in tops]
    )
    found = [
        Example(path, {"label": (folder.name,)}, split=split)
        for split, folder in pairs
        if folder.is_dir() and not folder.name.startswith(".")
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not found:
        raise DataError(
            f"{root} holds no sound files in class folders; expected {root.name}/<class>/<clip>.wav, or a split ({', '.join(SPLITS)}) above the class."
        )
    return found
