"""Which clips test and validate where the data does not say: drawn by a stable hash, with groups kept whole."""

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
"""Head and label."""


def draw(examples: Sequence[Example], test_fraction: float, valid_fraction: float) -> list[str]:
    """The split of each clip: `test`, `valid` or `train`.

    Of each class, from the rarest on, the groups of lowest hash test and the next validate, up to its share of clips and of
    groups; what it is left with trains. So adding clips moves few of the others, and none of a class that shares no group
    with theirs. A class of three groups or more has one at least in each split, unless classes that share its groups forbid
    it, and every class has one to train on.
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
    """What each clip is kept together with: the group that the data names, else its file.

    A file is called by the last two parts of its path, or by as many more as tell it from others, so that its name stays
    the same when the data moves.
    """
    names = _ends({example.path for example in examples if not example.group})
    return [example.group or names[example.path] for example in examples]


def digest(text: str) -> bytes:
    """A hash by which clips are ordered at random, but always alike."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


class _Drawn:
    """A division in the making."""

    def __init__(self, examples: Sequence[Example], groups: Sequence[str]) -> None:
        self.split_of: dict[str, str] = {}
        self.clips: dict[Class, Counter[str]] = defaultdict(Counter)
        """Clips of a class in each group."""
        self._classes: dict[str, set[Class]] = defaultdict(set)
        for example, group in zip(examples, groups, strict=True):
            for name in _classes(example):
                self.clips[name][group] += 1
                self._classes[group].add(name)
        self._left = {name: len(found) for name, found in self.clips.items()}
        """Groups of a class that are not held out."""

    def divide(self, name: Class, fractions: dict[str, float]) -> None:
        """Settles the groups of a class that no rarer class has settled."""
        clips = self.clips[name]
        free = sorted((group for group in clips if group not in self.split_of), key=lambda group: (digest(group), group))
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
        """Gives each split that lacks a class its smallest training group, where it has three groups or more."""
        clips = self.clips[name]
        for split, most in zip(fractions, _shares(len(clips), fractions), strict=True):
            if most and not any(self.split_of[group] == split for group in clips):
                trained = [group for group in clips if self.split_of[group] == "train"]
                smallest_first = sorted(trained, key=lambda group: (clips[group], digest(group), group))
                next((group for group in smallest_first if self._hold_out(group, split)), None)

    def _hold_out(self, group: str, split: str) -> bool:
        """Takes a group out of training, unless a class of it would have nothing left to train on."""
        if any(self._left[name] < 2 for name in self._classes[group]):
            return False
        for name in self._classes[group]:
            self._left[name] -= 1
        self.split_of[group] = split
        return True


def _classes(example: Example) -> Iterable[Class]:
    return [(head, label) for head, labels in example.labels.items() for label in labels] or [("", "")]


def _shares(count: int, fractions: dict[str, float]) -> list[int]:
    """Of `count` how many to test and to validate: at least one each of three or more, and at least one left to train on."""
    test, valid = (max(round(count * fraction), int(count >= 3 and fraction > 0)) for fraction in fractions.values())
    while test + valid >= count > 0:
        test, valid = (test - 1, valid) if test >= valid else (test, valid - 1)
    return [test, valid]


def _ends(paths: Collection[Path]) -> dict[Path, str]:
    """The last parts of each path that no other of them ends in: two, or as many more as it takes below their root."""
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
