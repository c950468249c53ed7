"""Draws the split of clips that have none, by a stable hash, with groups kept whole."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiorep.datasets.example import Example

Class = tuple[str, str]
"""(head, label)."""


def draw_splits(examples: Sequence[Example], test_fraction: float, valid_fraction: float) -> list[str]:
    """The split of each clip: `test`, `valid` or `train`.

    Classes are divided one after another, the rarest first. The groups of a class with the lowest hashes go to test and the
    next ones to valid, until the fractions of its clips and groups are reached; the rest trains. So adding clips moves few
    other clips, and none of a class that shares no group with theirs. A class with three groups or more has at least one in
    each split, unless classes that share its groups prevent it. Every class has a group to train on.
    """
    fractions = {"test": test_fraction, "valid": valid_fraction}
    groups = groups_of(examples)
    drawn = _Drawn(examples, groups)
    rarest_first = sorted(drawn.clips, key=lambda name: (len(drawn.clips[name]), drawn.clips[name].total(), name))
    for name in rarest_first:
        drawn.divide(name, fractions)
    for name in rarest_first:
        drawn.complete(name, fractions)
    return [drawn.split_of[group] for group in groups]


def groups_of(examples: Sequence[Example]) -> list[str]:
    """The group of each clip: the one that the data names, else its file.

    A file is identified by the last two parts of its path, or by more if they are not unique, so that the group stays the
    same when the data moves.
    """
    names = _unique_endings({example.path for example in examples if not example.group})
    return [example.group or names[example.path] for example in examples]


def stable_hash(text: str) -> bytes:
    """A hash that orders clips randomly, but always in the same way."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


class _Drawn:
    """The splits drawn so far."""

    def __init__(self, examples: Sequence[Example], groups: Sequence[str]) -> None:
        self.split_of: dict[str, str] = {}
        self.clips: dict[Class, Counter[str]] = defaultdict(Counter)
        """The number of clips of each class in each group."""
        self._classes: dict[str, set[Class]] = defaultdict(set)
        for example, group in zip(examples, groups, strict=True):
            for name in _classes(example):
                self.clips[name][group] += 1
                self._classes[group].add(name)
        self._left = {name: len(found) for name, found in self.clips.items()}
        """The number of groups of each class that are not held out."""

    def divide(self, name: Class, fractions: dict[str, float]) -> None:
        """Draws the split of those groups of a class that have none yet."""
        clips = self.clips[name]
        free = sorted((group for group in clips if group not in self.split_of), key=lambda group: (stable_hash(group), group))
        for split, most, wanted in zip(
            fractions, _shares(len(clips), fractions), _shares(clips.total(), fractions), strict=True
        ):
            held = [group for group in clips if self.split_of.get(group) == split]
            missing, room = wanted - sum(clips[group] for group in held), most - len(held)
            for group in free:
                if room > 0 and clips[group] <= 2 * missing and self._hold_out(group, split):
                    missing, room = missing - clips[group], room - 1
            free = [group for group in free if group not in self.split_of]
        self.split_of |= dict.fromkeys(free, "train")

    def complete(self, name: Class, fractions: dict[str, float]) -> None:
        """Moves the smallest training group of a class to each split that lacks the class, if it has three groups or more."""
        clips = self.clips[name]
        for split, most in zip(fractions, _shares(len(clips), fractions), strict=True):
            if most and not any(self.split_of[group] == split for group in clips):
                trained = [group for group in clips if self.split_of[group] == "train"]
                smallest_first = sorted(trained, key=lambda group: (clips[group], stable_hash(group), group))
                next((group for group in smallest_first if self._hold_out(group, split)), None)

    def _hold_out(self, group: str, split: str) -> bool:
        """Moves a group out of training, unless one of its classes would have nothing left to train on."""
        if any(self._left[name] < 2 for name in self._classes[group]):
            return False
        for name in self._classes[group]:
            self._left[name] -= 1
        self.split_of[group] = split
        return True


def _classes(example: Example) -> Iterable[Class]:
    return [(head, label) for head, labels in example.labels.items() for label in labels] or [("", "")]


def _shares(count: int, fractions: dict[str, float]) -> list[int]:
    """[to test, to validate] out of `count`: at least one each if there are three or more, and one is left to train on."""
    test, valid = (max(round(count * fraction), int(count >= 3 and fraction > 0)) for fraction in fractions.values())
    while test + valid >= count > 0:
        test, valid = (test - 1, valid) if test >= valid else (test, valid - 1)
    return [test, valid]


def _unique_endings(paths: Collection[Path]) -> dict[Path, str]:
    """The shortest ending of each path, at least two parts, that is unique among the paths."""
    levels = zip(*(path.parts[:-1] for path in paths), strict=False)
    above = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))
    below = {path: path.parts[above:] for path in paths}
    found: dict[Path, str] = {}
    left, length = list(paths), 2
    while left and length <= max(2, *map(len, below.values())):
        by_end: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        for path in left:
            by_end[path.parts[-min(length, max(2, len(below[path]))) :]].append(path)
        found |= {same[0]: "/".join(end) for end, same in by_end.items() if len(same) == 1}
        left = [path for same in by_end.values() if len(same) > 1 for path in same]
        length += 1
    return found | {path: "/".join(("", *below[path])) for path in left}
