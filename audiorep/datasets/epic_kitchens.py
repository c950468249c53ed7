"""EPIC-KITCHENS-100 (Damen 2022), read from its annotation files; each clip has a verb and a noun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from audiorep.datasets.example import Example
from audiorep.datasets.sound_index import SoundIndex, first_file, needed_file, split_files
from audiorep.datasets.table import class_order, clock, rows, stretch, value, whole

FILES = {"EPIC_100_train.csv": "train", "EPIC_100_validation.csv": "valid"}
CLASS_FILES = {"verb": "EPIC_100_verb_classes.csv", "noun": "EPIC_100_noun_classes.csv"}
COLUMNS = ("narration_id", "video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")


def examples(root: Path) -> list[Example]:
    """A stretch of a video's sound for each narrated action. Clips of one video share a group.

    The sound has the name of the video and is a file anywhere below `root`, or a track of an HDF5 file there.

    Raises:
        DataError: a file or column is missing, a row is cut short, a time or class number cannot be read, or an action
            does not end after it starts.
    """
    names, tracks = labels(root), SoundIndex(root)
    found = []
    for path, split in split_files(root, FILES):
        for line, row in rows(path, COLUMNS):
            start, end = stretch(path, line, row, ("start_timestamp", "stop_timestamp"), clock, "a time like 00:01:02.30")
            classes: dict[str, tuple[str, ...]] = {head: (_class(path, line, row, head, names[head]),) for head in CLASS_FILES}
            video = row["video_id"].strip()
            found.append(Example(tracks.find(video), classes, start, end, split, group=video))
    return found


def is_at(root: Path) -> bool:
    """Whether `root` looks like EPIC-KITCHENS-100."""
    return first_file(root, tuple(FILES)) is not None


def labels(root: Path) -> dict[str, list[str]]:
    """97 verbs and 300 nouns, in the order of their numbers.

    Raises:
        DataError: a file of classes is missing or not as documented.
    """
    return {head: class_order([needed_file(root, name)], "id", "key") for head, name in CLASS_FILES.items()}


def _class(path: Path, line: int, row: dict[str, str], head: str, names: Sequence[str]) -> str:
    read: Callable[[str], int] = whole(0, len(names) - 1)
    what = f"a whole number from 0 to {len(names) - 1}, as in {CLASS_FILES[head]},"
    return names[value(path, line, row, f"{head}_class", read, what)]
