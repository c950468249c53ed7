"""Labelled clips from disk: one reader per layout, one rule for splits, one Dataset class."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiorep.datasets import (
    audioset,
    epic_kitchens,
    epic_sounds,
    esc50,
    folder,
    fsdd,
    manifest,
    nsynth,
    shards,
    speech_commands,
    urbansound8k,
    vggsound,
)
from audiorep.datasets.class_names import normalized_all
from audiorep.datasets.example import (
    SPLITS,
    Example,
    Splits,
    count_splits,
    digest_of,
    labels_of,
    missing_fold_advice,
    order_labels,
    split_examples,
    with_normalized_labels,
)
from audiorep.errors import DataError

Labels = dict[str, list[str]]
"""The class names of each head, in the order of its scores."""


@dataclass(frozen=True)
class Layout:
    """One kind of data set on disk, and the functions that read it."""

    examples: Callable[[Path], list[Example]]
    is_at: Callable[[Path], bool]
    """Whether a path looks like this layout."""
    labels: Callable[[Path], Labels | None] | None = None
    """All classes in the official order. Without this the classes are those of the training clips, sorted."""
    notes: Callable[[Path], list[str]] | None = None
    """Sentences about files that were passed over or read in an unexpected way."""
    folds: int = 0
    """The number of official folds; 0 if it is not fixed."""


LAYOUTS: dict[str, Layout] = {
    "csv": Layout(manifest.examples, Path.is_file, notes=manifest.notes),
    "shards": Layout(shards.examples, shards.is_at, shards.labels),
    "esc50": Layout(esc50.examples, esc50.is_at, folds=5),
    "vggsound": Layout(vggsound.examples, vggsound.is_at, vggsound.labels),
    "epic_kitchens": Layout(epic_kitchens.examples, epic_kitchens.is_at, epic_kitchens.labels),
    "epic_sounds": Layout(epic_sounds.examples, epic_sounds.is_at, epic_sounds.labels),
    "speech_commands": Layout(speech_commands.examples, speech_commands.is_at, speech_commands.labels),
    "urbansound8k": Layout(urbansound8k.examples, urbansound8k.is_at, urbansound8k.labels),
    "nsynth": Layout(nsynth.examples, nsynth.is_at, nsynth.labels),
    "audioset": Layout(audioset.examples, audioset.is_at, audioset.labels),
    "fsdd": Layout(fsdd.examples, fsdd.is_at, fsdd.labels),
    "folder": Layout(folder.examples, Path.exists, notes=folder.notes),
}
"""The layouts by name. The first one that a path looks like is used."""


def examples(
    root: str | os.PathLike[str], split: str | None = None, format: str | None = None, splits: Splits | None = None
) -> list[Example]:
    """The clips at `root`, all of them or one `split` (`train`, `valid` or `test`).

    `format` is a key of LAYOUTS; without it the layout is recognized. `splits` tells how clips without a split of their
    own are divided.

    Raises:
        DataError: `root` does not exist, is not laid out as documented, or has no clips in `split`.
    """
    root, name = _located(root, format)
    found = split_examples(_read(root, name), splits or Splits(), root)
    return found if split is None else examples_in_split(found, split, root)


def examples_in_split(found: Sequence[Example], split: str, root: str | Path) -> list[Example]:
    """The clips among `found`, read from `root`, that are in `split` (`train`, `valid`, `test`, or `all`).

    Raises:
        DataError: there are none.
    """
    chosen = [example for example in found if split in ("all", example.split)]
    if not chosen:
        there = ", ".join(sorted({example.split for example in found}))
        raise DataError(missing_fold_advice(found, root) or f"{root} has no clips in split {split!r}; it has {there}.")
    return chosen


def listed_examples(root: str | os.PathLike[str], format: str | None = None) -> list[Example]:
    """The clips at `root` as the data set lists them: without new splits, and with those that are optional.

    Raises:
        DataError: `root` does not exist or is not laid out as documented.
    """
    root, name = _located(root, format)
    return _read(root, name)


def labels(root: str | os.PathLike[str], format: str | None = None, splits: Splits | None = None) -> Labels | None:
    """The classes of the data set at `root` in their official order, or None if it has no such order.

    Raises:
        DataError: `root` does not exist or is not laid out as documented.
    """
    root, name = _located(root, format)
    official = LAYOUTS[name].labels
    found = official(root) if official else None
    return order_labels(found and {head: list(normalized_all(names)) for head, names in found.items()}, splits or Splits())


def notes(root: str | os.PathLike[str], format: str | None = None) -> list[str]:
    """Sentences about what was passed over at `root`, or read in an unexpected way.

    Raises:
        DataError: `root` does not exist or is not laid out as documented.
    """
    root, name = _located(root, format)
    found = LAYOUTS[name].notes
    return found(root) if found else []


def folds(root: str | os.PathLike[str], format: str | None = None) -> list[int]:
    """The official folds of the data set at `root`.

    Raises:
        DataError: it has no folds, or one of the official folds is missing.
    """
    root, name = _located(root, format)
    found = sorted({example.fold for example in LAYOUTS[name].examples(root) if example.fold is not None})
    official = LAYOUTS[name].folds or max(found, default=0)
    if missing := set(range(1, official + 1)) - set(found):
        raise DataError(f"{root} lacks fold {', '.join(map(str, sorted(missing)))} of its {official} official folds.")
    if len(found) < 2:
        raise DataError(f"{root} has no folds; they are needed to train once for each.")
    return found


def detect(root: Path) -> str:
    """The layout at `root`, a key of LAYOUTS."""
    return next(name for name, layout in LAYOUTS.items() if layout.is_at(root))


def _read(root: Path, name: str) -> list[Example]:
    return [with_normalized_labels(example) for example in LAYOUTS[name].examples(root)]


def _located(root: str | os.PathLike[str], format: str | None) -> tuple[Path, str]:
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root} does not exist; a folder of clips or a CSV manifest is needed.")
    name = format or detect(root)
    if name not in LAYOUTS:
        raise DataError(f"{name!r} is not a data format; allowed are {', '.join(LAYOUTS)}.")
    return root, name


__all__ = [
    "LAYOUTS", "SPLITS", "Example", "Labels", "Layout", "Splits", "count_splits", "detect", "digest_of", "examples",
    "examples_in_split", "labels", "labels_of", "listed_examples", "missing_fold_advice", "notes",
]  # fmt: skip
