"""EPIC-Sounds (Huh 2023) by its annotation files; the sound is that of EPIC-KITCHENS-100."""

from __future__ import annotations

from pathlib import Path

from audiorep.datasets.example import Example
from audiorep.datasets.table import class_order, rows, stretch, whole
from audiorep.datasets.tracks import Tracks, first_file, split_files

FILES = {"EPIC_Sounds_train.csv": "train", "EPIC_Sounds_validation.csv": "valid"}
COLUMNS = ("video_id", "start_sample", "stop_sample", "class", "class_id")
RATE = 24_000  # Hz; what the annotations count in, whatever the rate of the sound at hand


def examples(root: Path) -> list[Example]:
    """A stretch of its video's sound for each annotated sound; those of one video share a group.

    The sound is called as the video is: a file anywhere below `root`, or a track of an HDF5 file there.

    Raises:
        DataError: a file or column is missing, a row is cut short, a sample or class number cannot be read, a class has
            two names or is left out, or a sound does not end after it starts.
    """
    labels(root)  # refuses classes that contradict each other
    tracks = Tracks(root)
    found = []
    for path, split in split_files(root, FILES):
        for line, row in rows(path, COLUMNS):
            first, stop = stretch(
                path, line, row, ("start_sample", "stop_sample"), whole(0), "a whole number of samples from 0 up"
            )
            video = row["video_id"].strip()
            found.append(
                Example(tracks.find(video), {"label": (row["class"].strip(),)}, first / RATE, stop / RATE, split, group=video)
            )
    return found


def is_at(root: Path) -> bool:
    """Whether `root` looks like EPIC-Sounds."""
    return first_file(root, tuple(FILES)) is not None


def labels(root: Path) -> dict[str, list[str]]:
    """Its 44 classes, in the order of their numbers.

    Raises:
        DataError: as `examples`.
    """
    return {"label": class_order([path for path, _ in split_files(root, FILES)], "class_id", "class")}
