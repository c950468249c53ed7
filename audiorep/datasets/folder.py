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
    if not root.is_dir():
        raise DataError(f"{root} is a file; a folder with one folder a class is needed here.")
    tops = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith((".", "_background"))]
    split_tops = [path for path in tops if path.name.lower() in _NAMES]
    by_split = tops and split_tops == tops
    if not by_split and len({_NAMES[path.name.lower()] for path in split_tops}) > 1:
        others = ", ".join(path.name for path in tops if path not in split_tops)
        names = ", ".join(path.name for path in split_tops)
        raise DataError(f"{root} has splits ({names}) beside other folders ({others}). Move these out.")
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
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    ]
    if not found:
        raise DataError(
            f"{root} holds no sound files in class folders; expected {root.name}/<class>/<clip>.wav, "
            f"or a split ({', '.join(SPLITS)}) above the class."
        )
    return found
