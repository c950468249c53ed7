"""AudioSet (Gemmeke 2017) and data sets in its format: lists of segments with any number of labels each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audiorep.datasets.example import Example
from audiorep.datasets.sound_index import SoundIndex, first_file, needed_file, split_files
from audiorep.datasets.table import class_order, finite, rows, stretch
from audiorep.errors import DataError

FILES = {
    "balanced_train_segments.csv": "train",
    "unbalanced_train_segments.csv": "train",
    "eval_segments.csv": "test",
}
CLASS_FILES = ("class_labels_indices.csv", "audioset_class_labels_indices.csv")
COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")


def examples(root: Path) -> list[Example]:
    """A clip for each segment. Segments of one video share a group.

    A sound file holds one segment and may lie anywhere below `root`. Its name is `{YTID}`, `Y{YTID}`, or `{YTID}_` with
    the start in seconds (`30`, `30.000`) or milliseconds, alone or with the end (`30000_40000`, `30.0-40.0`).

    Raises:
        DataError: a file is missing, a row is cut short, a time cannot be read, a segment does not end after it starts,
            or a label is none of the classes'.
    """
    names, tracks = _names(root), SoundIndex(root)
    found = []
    for path, split in split_files(root, FILES):
        for line, row in rows(path, COLUMNS, header=False):
            start, end = stretch(path, line, row, ("start_seconds", "end_seconds"), finite, "a number of seconds")
            video = row["YTID"].strip()
            classes = tuple(dict.fromkeys(_classes(path, line, row, names)))
            found.append(Example(tracks.find(*_file_names(video, start, end)), {"label": classes}, split=split, group=video))
    return found


def is_at(root: Path) -> bool:
    """Whether `root` looks like AudioSet."""
    return first_file(root, tuple(FILES)) is not None


def labels(root: Path) -> dict[str, list[str]]:
    """The names of its classes, in the order of their numbers: 527 in AudioSet.

    Raises:
        DataError: the file of classes is missing or not as documented.
    """
    return {"label": class_order([needed_file(root, *CLASS_FILES)], "index", "display_name")}


def _names(root: Path) -> dict[str, str]:
    """The name of each class by its identifier (`/m/09x0r`)."""
    identifiers = class_order([needed_file(root, *CLASS_FILES)], "index", "mid")
    return dict(zip(identifiers, labels(root)["label"], strict=True))


def _classes(path: Path, line: int, row: dict[str, str], names: dict[str, str]) -> Iterator[str]:
    for text in row["positive_labels"].split(","):
        if text.strip() not in names:
            raise DataError(
                f"{path}, line {line}: positive_labels holds {text.strip()!r}; it is not in the column mid of {CLASS_FILES[0]}."
            )
        yield names[text.strip()]


def _file_names(video: str, start: float, end: float) -> tuple[str, ...]:
    first, last = round(start * 1000), round(end * 1000)
    starts = f"{start:.3f}", f"{int(start)}", f"{first}", f"{first}_{last}", f"{start}-{end}"
    return (video, f"Y{video}", *(f"{video}_{text}" for text in starts))
