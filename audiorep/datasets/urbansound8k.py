"""UrbanSound8K (Salamon 2014) in its own layout: `audio/fold1/` to `audio/fold10/` and `metadata/UrbanSound8K.csv`."""

from __future__ import annotations

from pathlib import Path

from audiorep.datasets.example import Example
from audiorep.datasets.sound_index import SoundIndex, first_file, needed_file
from audiorep.datasets.table import class_order, rows, value, whole

META = "UrbanSound8K.csv"
COLUMNS = ("slice_file_name", "fsID", "fold", "classID", "class")
FOLDS = 10


def examples(root: Path) -> list[Example]:
    """The 8,732 clips in ten folds. Clips from one recording share a group.

    Raises:
        DataError: the table or a column is missing, a row is cut short, a fold or class number is wrong, or a class has
            two names or is left out.
    """
    labels(root)  # refuses classes that contradict each other
    path, tracks = needed_file(root, META), SoundIndex(root)
    found = []
    for line, row in rows(path, COLUMNS):
        fold = value(path, line, row, "fold", whole(1, FOLDS), f"a whole number from 1 to {FOLDS}")
        name = row["slice_file_name"].strip()
        sound = tracks.find(Path(name).stem, otherwise=root / "audio" / f"fold{fold}" / name)
        found.append(Example(sound, {"label": (row["class"].strip(),)}, fold=fold, group=row["fsID"].strip()))
    return found


def is_at(root: Path) -> bool:
    """Whether `root` looks like UrbanSound8K."""
    return first_file(root, (META,)) is not None


def labels(root: Path) -> dict[str, list[str]]:
    """Its ten classes, in the order of their numbers.

    Raises:
        DataError: the table is missing, or its classes contradict each other.
    """
    return {"label": class_order([needed_file(root, META)], "classID", "class")}
