"""One labelled clip, and how clips are divided into train, valid and test."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from audiorep.config import Config
from audiorep.datasets.class_names import normalized, normalized_all
from audiorep.datasets.random_split import draw_splits, groups_of, stable_hash
from audiorep.errors import ConfigError, DataError
from audiorep.escape import visible

SPLITS = ("train", "valid", "test")
"""The splits in the order in which they are listed."""
CHECKSUM_BYTES = 2048


@dataclass(frozen=True)
class Example:
    """One labelled stretch of one file."""

    path: Path
    labels: dict[str, tuple[str, ...]]
    """The class names of each head: one for single-label tasks, any number for multi-label ones."""
    start: float = 0.0
    """Seconds from the beginning of the file."""
    end: float | None = None
    """Seconds from the beginning of the file; None is its end."""
    split: str = ""
    """`train`, `valid`, `test`, or empty if the data does not name one."""
    fold: int | None = None
    group: str = ""
    """Clips of one group, for example of one speaker, are never divided between splits."""
    license: str = ""
    """The license of this clip, if the data names one."""
    optional: bool = False
    """Whether it is used only if `Splits.classes` names its class, as the silence of a keyword data set is."""
    drawn: bool = field(default=False, compare=False)
    """Whether its split was drawn at random, not named by the data."""
    token: str = ""
    """Its identity before it was copied into a shard; empty for a clip that was not copied."""
    spelled: tuple[str, ...] = field(default=(), compare=False)
    """Its labels as the data writes them, if `labels` differs (see `class_names.normalized`)."""

    @property
    def all_labels(self) -> list[str]:
        """The class names of every head, one after another."""
        return [label for labels in self.labels.values() for label in labels]

    @property
    def part(self) -> str:
        """Its split, or its fold if it has no split yet."""
        return self.split or ("" if self.fold is None else f"fold {self.fold}")

    @property
    def identity(self) -> str:
        """Text that stays the same when the data moves: the end of its path, its times and a fingerprint of its file."""
        if self.token:
            return self.token
        stretch = f"{self.start} {'' if self.end is None else self.end}"
        return f"{'/'.join(self.path.parts[-2:])} {stretch} {_file_fingerprint(self.path)}"


@lru_cache(16)
def _file_fingerprint(path: Path) -> str:
    """The size of a file and a checksum of bytes in its middle; empty for a sound inside another file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size // 2)
            return f"{size} {zlib.crc32(file.read(CHECKSUM_BYTES)):08x}"
    except OSError:
        return ""


@dataclass(frozen=True)
class Splits(Config):
    """Settings that divide clips without a split of their own, and choose clips and classes."""

    valid_folds: tuple[int, ...] = ()
    """Folds for validation, in data with folds."""
    test_folds: tuple[int, ...] = ()
    """Folds for testing; the others train."""
    valid_fraction: float = 0.15
    """The share of each class for validation, in data without folds or splits."""
    test_fraction: float = 0.15
    """The share of each class for testing, in data without folds or splits."""
    licenses: tuple[str, ...] = ()
    """If not empty, only clips under one of these licenses are used."""
    classes: tuple[str, ...] = ()
    """If not empty, the classes of the model, in this order."""
    other: str = ""
    """The class that all other classes become; if empty, they are left out. Each split has as many clips of it as the named
    classes have on average, chosen by a stable hash (as in keyword spotting, arXiv 1804.03209)."""
    random: bool = False
    """Draw the split at random even if the data has its own splits or folds. Results then differ from published ones."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", normalized_all(self.classes))
        object.__setattr__(self, "other", normalized(self.other))
        if self.other and (not self.classes or self.other in self.classes):
            raise ConfigError(f"splits.other is {self.other!r}; it takes splits.classes that do not hold it")
        if self.random and (self.valid_folds or self.test_folds):
            raise ConfigError("splits.random and folds exclude each other")
        if min(self.valid_fraction, self.test_fraction) < 0 or self.valid_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"valid_fraction {self.valid_fraction} and test_fraction {self.test_fraction} must leave clips to train on"
            )
        if both := set(self.valid_folds) & set(self.test_folds):
            raise ConfigError(f"folds {sorted(both)} are named for validation and for testing")


def with_normalized_labels(example: Example) -> Example:
    """The clip with normalized class names (see `class_names.normalized`).

    Raises:
        DataError: a label is blank.
    """
    labels = {head: normalized_all(names) for head, names in example.labels.items()}
    if labels == example.labels:
        return example
    if "" in [name for names in labels.values() for name in names]:
        raise DataError(f"{example.path}: the name of its class is blank; give it one.")
    return replace(example, labels=labels, spelled=tuple(example.all_labels))


def labels_of(examples: Iterable[Example]) -> dict[str, list[str]]:
    """The sorted class names of each head."""
    names: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        for head, labels in example.labels.items():
            names[head].update(labels)
    return {head: sorted(found) for head, found in names.items()}


def count_splits(examples: Iterable[Example]) -> dict[str, int]:
    """The number of clips in each split."""
    counts = Counter(example.split for example in examples)
    return {split: counts[split] for split in SPLITS}


def order_labels(official: dict[str, list[str]] | None, splits: Splits) -> dict[str, list[str]] | None:
    """The classes in the order of `splits`, or else of the data set; None if neither has an order."""
    if not splits.classes:
        return official
    return {"label": [*splits.classes, *([splits.other] if splits.other else [])]}


def split_examples(examples: Sequence[Example], splits: Splits, source: Path | str = "the data") -> list[Example]:
    """The clips with their splits: their own, those of their folds, or drawn ones (see `draw_splits`).

    Clips with folds stay without a split if `splits` names no fold.

    Raises:
        DataError: the data lacks a fold or class that `splits` names, or no clip has an allowed license.
    """
    kept = [e for e in examples if not splits.licenses or e.license in splits.licenses]
    if not kept:
        found = ", ".join(
            f"{visible(license) or 'none'} ({count})" for license, count in Counter(e.license for e in examples).most_common()
        )
        raise DataError(f"No clip of {source} has the license {' or '.join(splits.licenses)}; found are {found}.")
    kept = _of_classes(kept, splits, source)
    if splits.random:
        return _without_surplus(_by_hash(kept, splits), splits)
    if any(example.split for example in kept):
        return _without_surplus([replace(e, split=e.split or "train") for e in kept], splits)
    if splits.valid_folds or splits.test_folds:
        return _without_surplus(_by_fold(kept, splits, source), splits)
    return _without_surplus(kept if any(e.fold is not None for e in kept) else _by_hash(kept, splits), splits)


def digest_of(examples: Iterable[Example]) -> str:
    """A hash of the clips, labels and splits that stays the same when the data moves."""
    found = hashlib.sha256()
    for clip in sorted(("/".join(e.path.parts[-2:]), str(e.labels), e.start, str(e.end), e.split) for e in examples):
        found.update(repr(clip).encode(errors="surrogateescape"))
    return found.hexdigest()[:16]


def missing_fold_advice(examples: Iterable[Example], source: Path | str) -> str:
    """Advice for clips that have folds and no split, because no fold was named; empty if there are none."""
    folds = sorted({e.fold for e in examples if e.fold is not None and not e.split})
    if not folds:
        return ""
    return (
        f"{source} has official folds ({', '.join(map(str, folds))}) and none is named. Name one to test on, for example "
        f"splits.test_folds=[{folds[-1]}], or ask for a random split with splits.random=true."
    )


def _of_classes(examples: Sequence[Example], splits: Splits, source: Path | str) -> list[Example]:
    """The clips of the classes that `splits` names, and the others as its `other` class."""
    if not splits.classes:
        return [e for e in examples if not e.optional]
    known = {label for e in examples for label in e.all_labels}
    if missing := [name for name in splits.classes if name not in known]:
        raise DataError(
            f"{source} has no clips of {', '.join(missing)}; its classes are {', '.join(map(visible, sorted(known)))}."
        )
    kept = []
    for e in examples:
        named = tuple(label for label in e.all_labels if label in splits.classes)
        if named:
            kept.append(replace(e, labels={"label": named}))
        elif splits.other and not e.optional:
            kept.append(replace(e, labels={"label": (splits.other,)}))
    return kept


def _without_surplus(examples: list[Example], splits: Splits) -> list[Example]:
    """Removes surplus clips of the `other` class and of optional ones: more than the other classes have on average."""
    if not splits.classes:
        return examples
    surplus: set[int] = set()
    groups = groups_of(examples)
    for split in {e.split for e in examples}:
        counts = Counter(e.labels["label"][0] for e in examples if e.split == split and not _is_filler(e, splits))
        most = round(sum(counts.values()) / max(len(counts), 1))
        for label in {e.labels["label"][0] for e in examples if e.split == split and _is_filler(e, splits)}:
            clips = [i for i, e in enumerate(examples) if e.split == split and e.labels["label"][0] == label]
            surplus.update(sorted(clips, key=lambda i: stable_hash(f"{groups[i]} {examples[i].identity}"))[most:])
    return [e for i, e in enumerate(examples) if i not in surplus]


def _is_filler(example: Example, splits: Splits) -> bool:
    return example.optional or example.labels["label"][0] == splits.other


def _by_fold(examples: Sequence[Example], splits: Splits, source: Path | str) -> list[Example]:
    folds = {example.fold for example in examples}
    if missing := {*splits.valid_folds, *splits.test_folds} - folds:
        have = ", ".join(str(f) for f in sorted(f for f in folds if f is not None)) or "none"
        raise DataError(f"Folds {sorted(missing)} are asked for; {source} has {have}.")
    named = {**dict.fromkeys(splits.valid_folds, "valid"), **dict.fromkeys(splits.test_folds, "test")}
    return [replace(e, split=named.get(e.fold, "train") if e.fold is not None else "train") for e in examples]


def _by_hash(examples: Sequence[Example], splits: Splits) -> list[Example]:
    drawn = draw_splits(examples, splits.test_fraction, splits.valid_fraction)
    return [replace(example, split=split, drawn=True) for example, split in zip(examples, drawn, strict=True)]
