"""Labelled clips from disk: one reader a layout, one rule for splits, one Dataset class for all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from audiorep.datasets import esc50, folder, manifest
from audiorep.datasets.example import SPLITS, Example, Splits, count_splits, labels_of, split_examples
from audiorep.errors import DataError

FORMATS: dict[str, Callable[[Path], list[Example]]] = {
    "folder": folder.examples,
    "csv": manifest.examples,
    "esc50": esc50.examples,
}
"""How to read each layout."""


def examples(
    root: str | os.PathLike[str], split: str | None = None, format: str | None = None, splits: Splits | None = None
) -> list[Example]:
    """The clips at `root`, all of them or one `split` (`train`, `valid` or `test`).

    `format` is recognised where it is not given: a `.csv` file is a manifest, a folder with `meta/esc50.csv` is ESC-50, any
    other folder has one folder a class. `splits` says how clips without a split of their own are divided.

    Raises:
        DataError: nothing there, another layout than documented, or a split without clips.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root} does not exist; a folder of clips or a CSV manifest is needed.")
    reader = FORMATS.get(format or detect(root))
    if reader is None:
        raise DataError(f"{format!r} is not a data format; allowed are {', '.join(FORMATS)}.")
    found = split_examples(reader(root), splits or Splits())
    if split is None:
        return found
    chosen = [example for example in found if example.split == split]
    if not chosen:
        raise DataError(f"{root} has no clips in split {split!r}; it has {', '.join(sorted({e.split for e in found}))}.")
    return chosen


def detect(root: Path) -> str:
    """The layout at `root`, a key of FORMATS."""
    if root.is_file():
        return "csv"
    return "esc50" if (root / esc50.META).is_file() else "folder"


__all__: Sequence[str] = ["FORMATS", "SPLITS", "Example", "Splits", "count_splits", "detect", "examples", "labels_of"]
