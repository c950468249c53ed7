"""One labelled clip, and how clips are divided into train, valid and test."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audiorep.config import Config
from audiorep.errors import ConfigError, DataError

SPLITS = ("train", "valid", "test")
"""In the order in which they are told."""


@dataclass(frozen=True)
class Example:
    """One labelled stretch of one file."""

    path: Path
    labels: dict[str, tuple[str, ...]]
    """Class names of each head: one for single-label tasks, any number for multi-label ones."""
    start: float = 0.0
    """Seconds into the file."""
    end: float | None = None
    """Seconds; None is the file's end."""
    split: str = ""
    """`train`, `valid`, `test`, or empty where the data does not say."""
    fold: int | None = None
    group: str = ""
    """Clips of one group (one recording, one speaker) never lie in two splits."""
    licence: str = ""
    """Of this clip, where the data names one."""

    @property
    def all_labels(self) -> list[str]:
        """The class names of every head, one after another."""
        return [label for labels in self.labels.values() for label in labels]


@dataclass(frozen=True)
class Splits(Config):
    """How clips are divided where they do not name their split."""

    valid_folds: tuple[int, ...] = ()
    """Folds for validation, in data with folds."""
    test_folds: tuple[int, ...] = ()
    """Folds for testing; the others train."""
    valid_fraction: float = 0.15
    """Of each class, in data without folds or splits."""
    test_fraction: float = 0.15
    """Of each class, in data without folds or splits."""
    licences: tuple[str, ...] = ()
    """Where not empty, only clips under one of these are used."""

    def __post_init__(self) -> None:
        if min(self.valid_fraction, self.test_fraction) < 0 or self.valid_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"valid_fraction {self.valid_fraction} and test_fraction {self.test_fraction} must leave clips to train on"
            )
        if both := set(self.valid_folds) & set(self.test_folds):
            raise ConfigError(f"folds {sorted(both)} are named for validation and for testing")


def labels_of(examples: Iterable[Example]) -> dict[str, list[str]]:
    """The sorted class names of each head."""
    names: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        for head, labels in example.labels.items():
            names[head].update(labels)
    return {head: sorted(found) for head, found in names.items()}


def count_splits(examples: Iterable[Example]) -> dict[str, int]:
    """Clips in each split."""
    counts = Counter(example.split for example in examples)
    return {split: counts[split] for split in SPLITS}


def split_examples(examples: Sequence[Example], splits: Splits) -> list[Example]:
    """The same clips, each with its split: its own, its fold's, or one drawn by a stable hash within its class.

    Raises:
        DataError: folds are asked for that the data does not have, or no clip has an allowed licence.
    """
    kept = [e for e in examples if not splits.licences or e.licence in splits.licences]
    if not kept:
        found = ", ".join(
            f"{licence or 'none'} ({count})" for licence, count in Counter(e.licence for e in examples).most_common()
        )
        raise DataError(f"No clip has the licence {' or '.join(splits.licences)}; found are {found}.")
    if any(example.split for example in kept):
        return [replace(e, split=e.split or "train") for e in kept]
    if splits.valid_folds or splits.test_folds:
        return _by_fold(kept, splits)
    return _by_hash(kept, splits)


def _by_fold(examples: Sequence[Example], splits: Splits) -> list[Example]:
    folds = {example.fold for example in examples}
    if missing := {*splits.valid_folds, *splits.test_folds} - folds:
        have = ", ".join(str(f) for f in sorted(f for f in folds if f is not None)) or "none"
        raise DataError(f"Folds {sorted(missing)} are asked for; the data has {have}.")
    named = {**dict.fromkeys(splits.valid_folds, "valid"), **dict.fromkeys(splits.test_folds, "test")}
    return [replace(e, split=named.get(e.fold, "train") if e.fold is not None else "train") for e in examples]


def _by_hash(examples: Sequence[Example], splits: Splits) -> list[Example]:
    """Within each class the groups of lowest hash test, the next validate, so adding clips moves few of the others.

    A clip of several labels counts for its rarest.
    """
    counts = Counter(label for example in examples for label in example.all_labels)
    groups: dict[str, set[str]] = defaultdict(set)
    home: dict[str, str] = {}
    for example in examples:
        group = _group(example)
        rarest = min(example.all_labels, key=lambda label: (counts[label], label), default="")
        groups[home.setdefault(group, rarest)].add(group)
    split_of: dict[str, str] = {}
    for members in groups.values():
        ordered = sorted(members, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())
        test, valid = _shares(len(ordered), splits)
        for index, name in enumerate(ordered):
            split_of[name] = "test" if index < test else "valid" if index < test + valid else "train"
    return [replace(example, split=split_of[_group(example)]) for example in examples]


def _group(example: Example) -> str:
    """The group, or the path's last two parts, which stay the same when the data moves."""
    return example.group or "/".join(example.path.parts[-2:])


def _shares(count: int, splits: Splits) -> tuple[int, int]:
    """Clips of `count` to test and to validate: at least one each of three or more, and at least one left to train on."""
    test, valid = (
        max(round(count * fraction), int(count >= 3 and fraction > 0))
        for fraction in (splits.test_fraction, splits.valid_fraction)
    )
    while test + valid >= count > 0:
        test, valid = (test - 1, valid) if test >= valid else (test, valid - 1)
    return test, valid
