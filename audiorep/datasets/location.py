"""Where a data set lies, in which layout, and which of its folds are held out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audiorep import audio, config, datasets
from audiorep.datasets import Example, Labels, Splits
from audiorep.errors import DataError


@dataclass(frozen=True)
class Data:
    """A data set on disk. A plain path stands for one whose layout is recognized.

    >>> audiorep.Data("clips.csv", format="csv", test_folds=[1]).test_folds
    [1]
    """

    path: str | os.PathLike[str]
    """A folder of classes, a CSV manifest, shards, or a data set in its own layout."""
    format: str | None = None
    """A key of `audiorep.datasets.LAYOUTS`; recognized, if not given."""
    test_folds: tuple[int, ...] | list[int] = ()
    """Folds to test on; none: as the model was trained."""
    valid_folds: tuple[int, ...] | list[int] = ()
    """Folds to validate on."""

    @property
    def root(self) -> Path:
        """The path as a `Path`."""
        return Path(self.path)

    def examples(self, splits: Splits, say: Callable[[str], None]) -> list[Example]:
        """The clips, divided by `splits`; `say` is told what a user should know of how they were read.

        Raises:
            DataError: nothing there, or another layout than documented.
        """
        found = datasets.examples(self.path, None, self.format, splits)
        self._say_notes(say)
        return found

    def sounds(self, splits: Splits, say: Callable[[str], None]) -> list[Example]:
        """The clips, divided by `splits`, without their labels; in a plain folder every sound at any depth trains.

        Raises:
            DataError: as `examples`, or there are no sounds.
        """
        if self.root.is_dir() and (self.format or datasets.detect(self.root)) == "folder":
            found = [Example(path, {"label": ()}, split="train") for path in audio.find([self.root])]
            if found[0].path == self.root:
                raise DataError(f"{self.root} holds no sound files.")
            return found
        return [replace(example, labels=dict.fromkeys(example.labels, ())) for example in self.examples(splits, say)]

    def listed(self, say: Callable[[str], None]) -> list[Example]:
        """The clips as the data set lists them: without new splits, and with those that are optional.

        Raises:
            DataError: as `examples`.
        """
        found = datasets.listed_examples(self.path, self.format)
        self._say_notes(say)
        return found

    def _say_notes(self, say: Callable[[str], None]) -> None:
        for note in datasets.notes(self.path, self.format):
            say(f"Note: {note}")

    def labels(self, splits: Splits) -> Labels | None:
        """The classes in their official order, or None where the data set has none."""
        return datasets.labels(self.path, self.format, splits)

    def splits(self, provenance: Mapping[str, Any]) -> Splits:
        """The rule by which a model's clips were divided, as its provenance tells it, or the folds that are asked for."""
        splits = config.from_plain(Splits, provenance.get("splits", {}))
        if self.test_folds or self.valid_folds:
            return replace(splits, test_folds=tuple(self.test_folds), valid_folds=tuple(self.valid_folds))
        return splits

    def in_split(self, split: str, provenance: Mapping[str, Any], say: Callable[[str], None]) -> list[Example]:
        """The clips in a split, which is drawn as it was for the training that `provenance` tells of, or all clips.

        Raises:
            DataError: there are none, or the data cannot be read.
        """
        splits = Splits() if split == "all" else self.splits(provenance)
        return datasets.examples_in_split(self.examples(splits, say), split, self.root)


Place = Data | str | os.PathLike[str]
"""What a function that needs labelled clips is given."""


def located(data: Place) -> Data:
    """The data set at a path, or as it was described."""
    return data if isinstance(data, Data) else Data(data)
