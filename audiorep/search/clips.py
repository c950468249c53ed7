"""The clips of a search: those that trials train on and those they are judged by, never those to test on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from audiorep.datasets import Example, Labels, Splits, labels_of, missing_fold_advice
from audiorep.datasets.example import digest_of, split_examples
from audiorep.errors import DataError


@dataclass(frozen=True)
class SearchClips:
    """Clips to train on and to be judged by."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    classes: Labels
    held_out: bool
    """The data names no validation clips, so these were drawn from those to train on."""

    @property
    def both(self) -> list[Example]:
        """All of them."""
        return [*self.train, *self.valid]

    @property
    def digest(self) -> str:
        """The same for the same clips, labels and splits wherever they lie."""
        return hashlib.sha256(repr((digest_of(self.both), self.classes)).encode()).hexdigest()[:16]


def search_clips(examples: Sequence[Example], splits: Splits, name: str, classes: Labels | None = None) -> SearchClips:
    """The clips of `examples` to train on and to validate on.

    Where none validate, a share `splits.valid_fraction` of those to train on do, drawn by a stable hash within each class;
    clips of one group stay together. `classes` gives all classes in their order; without it they are the training clips'.

    Raises:
        DataError: folds of which none is named, no clips to train on, or none to validate on.
    """
    if advice := missing_fold_advice(examples, name):
        raise DataError(advice)
    train, valid = ([clip for clip in examples if clip.split == split] for split in ("train", "valid"))
    held_out = bool(train) and not valid
    if held_out:
        shares = Splits(valid_fraction=splits.valid_fraction, test_fraction=0.0)
        drawn = split_examples([replace(clip, split="", fold=None, optional=False) for clip in train], shares, name)
        pairs = list(zip(train, drawn, strict=True))
        train, valid = ([replace(e, split=split) for e, d in pairs if d.split == split] for split in ("train", "valid"))
    if not train or not valid:
        raise DataError(
            f"{name} has {len(train)} clips to train on and {len(valid)} to validate on; a search needs both, and never looks "
            "at those to test on. Name a fold with --valid-fold, or set splits.valid_fraction above 0."
        )
    return SearchClips(tuple(train), tuple(valid), classes or labels_of(train), held_out)
