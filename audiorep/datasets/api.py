"""`audiorep.check_data` and `audiorep.prepare_data`: data sets looked at, and copied into few large files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from audiorep import datasets
from audiorep.datasets import shards
from audiorep.datasets.example import Example
from audiorep.datasets.location import Data, Place, located
from audiorep.datasets.prepare import prepare
from audiorep.datasets.problems import Problem, damaged_shards, find_problems
from audiorep.errors import DataError

Progress = Callable[[str, float], AbstractContextManager[Callable[[float], None]]]
"""Makes a progress bar of a title and a total; within it, a function is told how much more is done."""


@contextmanager
def unseen(title: str, total: float) -> Iterator[Callable[[float], None]]:
    """A progress bar that nobody sees."""
    yield lambda amount: None


@dataclass(frozen=True)
class Checked:
    """What is wrong with a data set."""

    clips: int
    """That were looked at."""
    problems: list[Problem]


def check_data(
    data: Place,
    *,
    shortest_seconds: float = 0.1,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = unseen,
) -> Checked:
    """Finds what is wrong with a data set: unreadable, silent, clipped, duplicate or leaking clips, and more.

    Args:
        data: a folder of classes, a CSV manifest, another data set, or a `Data` with its layout and folds.
        shortest_seconds: clips below this are too short.
        say: is told what should be known of how the data was read.
        progress: makes a progress bar of a title and a number of clips.

    Raises:
        DataError: nothing there, or another layout than documented.

    >>> checked = audiorep.check_data(clips)
    >>> checked.clips, checked.problems
    (40, [])
    """
    place = located(data)
    damaged = damaged_shards(place.root) if place.format in (None, "shards") and shards.is_at(place.root) else []
    examples = _readable(place, damaged, say)
    with progress("Checking", len(examples)) as advance:
        return Checked(len(examples), [*damaged, *find_problems(examples, shortest_seconds, advance)])


def _readable(place: Data, damaged: list[Problem], say: Callable[[str], None]) -> list[Example]:
    try:
        return place.examples(place.splits({}), say)
    except DataError:
        if not damaged:
            raise
        return []  # a shard is missing or cut off: its clips, and what they share with others, cannot be told


@dataclass(frozen=True)
class Written:
    """Shards that were written and read back."""

    shards: shards.Prepared
    faults: dict[Path, str]
    """What is wrong with each file that was not read back as it was written."""

    @property
    def index(self) -> Path:
        """The file that lists all shards, and the clips that could not be read."""
        return self.shards.folder / shards.INDEX


def prepare_data(
    data: Place,
    output: str | os.PathLike[str],
    *,
    sample_rate: int = 16_000,
    shard_clips: int = 1000,
    workers: int | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = unseen,
) -> Written:
    """Copies a data set into a few large tar files of mono FLAC (WebDataset), or goes on where such a copy stopped.

    It starts processes, so a script must call it below `if __name__ == "__main__"`.

    Args:
        data: as for `check_data`; folds and splits are copied as the data set lists them.
        output: the folder for the shards.
        sample_rate: Hz of the clips in them.
        shard_clips: clips in each.
        workers: processes; one a processor, if not given.
        say: is told what should be known of how the data was read.
        progress: makes a progress bar of a title and a number of clips.

    Raises:
        DataError: there are no clips, none can be read, or `output` holds something else.
        ConfigError: an argument is out of range, or nothing can be written.
        KeyboardInterrupt: stopped; the same call goes on.

    >>> made = audiorep.prepare_data(clips, "shards", sample_rate=4000, workers=1)
    >>> made.shards.clips, made.faults
    (40, {})
    """
    place = located(data)
    examples = place.listed(say)
    labels = datasets.labels(place.path, place.format)
    with progress("Preparing", len(examples)) as advance:
        done = prepare(examples, labels, Path(output), sample_rate, shard_clips, workers, advance)
    with progress("Reading back", done.clips) as advance:
        return Written(done, shards.verify(Path(output), advance))
