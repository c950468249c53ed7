"""Labelled clips from disk: one reader a layout, one rule for splits, one Dataset class for all."""

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
from audiorep.datasets.example import (
    SPLITS,
    Example,
    Splits,
    count_splits,
    digest_of,
    labels_of,
    order_labels,
    spelled_plainly,
    split_examples,
    undivided,
)
from audiorep.datasets.spelling import plain_all
from audiorep.errors import DataError

Labels = dict[str, list[str]]
"""Class names of each head, in the order of its scores."""


@dataclass(frozen=True)
class Layout:
    """How one kind of data set lies on disk."""

    examples: Callable[[Path], list[Example]]
    is_at: Callable[[Path], bool]
    """Whether a path looks like it."""
    labels: Callable[[Path], Labels | None] | None = None
    """All its classes in the official order; without it the classes of the training clips, sorted."""
    notes: Callable[[Path], list[str]] | None = None
    """What a user should know of how it was read, a sentence each."""
    folds: int = 0
    """How many official folds it has; 0 where their number is not fixed."""


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
"""By name; the first that a path looks like is taken for its layout."""


def examples(
    root: str | os.PathLike[str], split: str | None = None, format: str | None = None, splits: Splits | None = None
) -> list[Example]:
    """The clips at `root`, all of them or one `split` (`train`, `valid` or `test`).

    `format` (a key of LAYOUTS) is recognized where it is not given. `splits` says how clips without a split of their own
    are divided.

    Raises:
        DataError: nothing there, another layout than documented, or a split without clips.
    """
    root, name = _located(root, format)
    found = split_examples(_read(root, name), splits or Splits(), root)
    return found if split is None else of_split(found, split, root)


def of_split(found: Sequence[Example], split: str, root: str | Path) -> list[Example]:
    """Those of `found`, the clips at `root`, that are in `split` (`train`, `valid`, `test`, or `all`).

    Raises:
        DataError: none is.
    """
    chosen = [example for example in found if split in ("all", example.split)]
    if not chosen:
        there = ", ".join(sorted({example.split for example in found}))
        raise DataError(undivided(found, root) or f"{root} has no clips in split {split!r}; it has {there}.")
    return chosen


def listed(root: str | os.PathLike[str], format: str | None = None) -> list[Example]:
    """The clips at `root` as they are listed there, optional ones too: none divided, renamed or left out.

    Raises:
        DataError: nothing there, or another layout than documented.
    """
    root, name = _located(root, format)
    return _read(root, name)


def labels(root: str | os.PathLike[str], format: str | None = None, splits: Splits | None = None) -> Labels | None:
    """The classes of the data set at `root` in their official order, or None where it has none.

    Raises:
        DataError: as `examples`.
    """
    root, name = _located(root, format)
    official = LAYOUTS[name].labels
    found = official(root) if official else None
    return order_labels(found and {head: list(plain_all(names)) for head, names in found.items()}, splits or Splits())


def notes(root: str | os.PathLike[str], format: str | None = None) -> list[str]:
    """What of the data set at `root` was passed over, or read otherwise than one may think: a sentence each.

    Raises:
        DataError: as `examples`.
    """
    root, name = _located(root, format)
    found = LAYOUTS[name].notes
    return found(root) if found else []


def folds(root: str | os.PathLike[str], format: str | None = None) -> list[int]:
    """The official folds of the data set at `root`.

    Raises:
        DataError: it has none, or one of them is not here.
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
    return [spelled_plainly(example) for example in LAYOUTS[name].examples(root)]


def _located(root: str | os.PathLike[str], format: str | None) -> tuple[Path, str]:
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root} does not exist; a folder of clips or a CSV manifest is needed.")
    name = format or detect(root)
    if name not in LAYOUTS:
        raise DataError(f"{name!r} is not a data format; allowed are {', '.join(LAYOUTS)}.")
    return root, name


__all__: Sequence[str] = [
    "LAYOUTS", "SPLITS", "Example", "Labels", "Layout", "Splits", "count_splits", "detect", "digest_of", "examples", "labels",
    "labels_of", "listed", "notes", "of_split", "undivided",
]  # fmt: skip
