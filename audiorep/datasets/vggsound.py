"""VGG-Sound (Chen 2020), read from `vggsound.csv`, or from `[vggsound_]train.csv` and `[vggsound_]test.csv`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from audiorep.datasets.example import Example
from audiorep.datasets.sound_index import SoundIndex, first_file, split_files
from audiorep.datasets.table import one_of, rows, value, whole
from audiorep.errors import DataError

WHOLE = "vggsound.csv"
PARTS = {"vggsound_train.csv": "train", "train.csv": "train", "vggsound_test.csv": "test", "test.csv": "test"}

_NAME = re.compile(r"(?P<id>.{11})_\d{6}(\.\w+)?")


def examples(root: Path) -> list[Example]:
    """A clip for each row of `vggsound.csv` (id, start, label, split) or, without it, of the lists (file name, label).

    The sound file is named `{id}_{start:06d}` and lies anywhere below `root`. Clips of one video share a group.

    Raises:
        DataError: there is no such file, a row is cut short, or a start, name, label or split is wrong.
    """
    tracks = SoundIndex(root)
    path = first_file(root, (WHOLE,))
    clips = _of_whole(path) if path is not None else _of_parts(root)
    return [Example(tracks.find(name), {"label": (label,)}, split=split, group=name[:-7]) for name, label, split in clips]


def is_at(root: Path) -> bool:
    """Whether `root` looks like VGG-Sound; lists that are only called `train.csv` or `test.csv` must also look like its own."""
    if first_file(root, (WHOLE, "vggsound_train.csv", "vggsound_test.csv")):
        return True
    path = first_file(root, ("train.csv", "test.csv"))
    if path is None:
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return _NAME.fullmatch(file.readline(200).partition(",")[0]) is not None


def labels(root: Path) -> dict[str, list[str]]:
    """All 309 classes, sorted, as the authors' own evaluation orders them."""
    return {"label": list(_classes())}


@cache
def _classes() -> tuple[str, ...]:
    return tuple(Path(__file__).with_name("vggsound_classes.txt").read_text(encoding="utf-8").splitlines())


def _label(path: Path, line: int, row: dict[str, str]) -> str:
    return value(path, line, row, "label", one_of(_classes()), "one of the 309 classes of VGG-Sound")


def _of_whole(path: Path) -> Iterator[tuple[str, str, str]]:
    """(name, label, split) of each clip."""
    for line, row in rows(path, ("id", "start", "label", "split"), header=False):
        start = value(path, line, row, "start", whole(0, 999_999), "a whole number of seconds")
        split = value(path, line, row, "split", one_of(("train", "test")), "train or test")
        yield f"{row['id'].strip()}_{start:06d}", _label(path, line, row), split


def _of_parts(root: Path) -> Iterator[tuple[str, str, str]]:
    """(name, label, split) of each clip."""
    read: set[str] = set()
    for path, split in split_files(root, {WHOLE: "", **PARTS}):
        if split in read:  # the file was read under its other name
            continue
        read.add(split)
        for line, row in rows(path, ("file", "label"), header=False):
            if not _NAME.fullmatch(row["file"].strip()):
                raise DataError(f"{path}, line {line}: file is {row['file']!r}; a name like glLQrEijrKg_000300.mp4 is needed.")
            yield Path(row["file"].strip()).stem, _label(path, line, row), split
