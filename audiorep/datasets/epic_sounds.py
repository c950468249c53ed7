"""EPIC-Sounds (Huh 2023), read from its annotation files; its sound files are those of EPIC-KITCHENS-100."""

from __future__ import annotations

from pathlib import Path

from audiorep.datasets.example import Example
from audiorep.datasets.sound_index import SoundIndex, first_file, split_files
from audiorep.datasets.table import class_order, rows, stretch, whole

FILES = {"EPIC_Sounds_train.csv": "train", "EPIC_Sounds_validation.csv": "valid"}
COLUMNS = ("video_id", "start_sample", "stop_sample", "class", "class_id")
RATE = 24_000  # Hz; the annotations count samples at this rate, whatever the rate of the files is


def examples(root: Path) -> list[Example]:
    """A stretch of a video's sound for each annotated sound. Clips of one video share a group.

    The sound has the name of the video and is a file anywhere below `root`, or a track of an HDF5 file there.

    Raises:
        DataError: a file or column is missing, a row is cut short, a sample or class number cannot be read, a class has
            two names or is left out, or a sound does not end after it starts.
    """
    labels(root)  # refuses classes that contradict each other
    tracks = SoundIndex(root)
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
        DataError: an annotation file is missing, or its classes contradict each other.
    """
    return {"label": class_order([path for path, _ in split_files(root, FILES)], "class_id", "class")}
