"""Data in folders: every sound file becomes a clip of its folder's class, or what became of it is said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

from audiorep import datasets
from audiorep.audio.sources import SUFFIXES
from audiorep.datasets import Example
from audiorep.datasets.class_names import look_alikes, normalized
from audiorep.datasets.random_split import groups_of
from audiorep.errors import DataError
from fuzz import words
from fuzz.oracle import demand

SYSTEM_FOLDERS = ("__macosx", "@eadir")


def prepare(folder: Path) -> None:
    """No seeds are needed."""


def warm(seeds: Path) -> None:
    """Nothing is waited for."""


def tree(chance: Random, seeds: Path, place: Path) -> None:
    """A folder of folders and links."""
    root = place / "data"
    root.mkdir()
    _make(chance, root)
    demand(datasets.detect(root) == "folder", datasets.detect(root))
    told = " ".join(datasets.notes(root))
    try:
        found, listed = datasets.examples(root), datasets.listed_examples(root)
    except DataError as error:
        demand(str(root) in str(error), f"the folder is not named: {error}")
        raise
    for path in _sounds_in(root) - {example.path for example in found}:
        parts = path.relative_to(root).parts
        demand("more" in told or any(part in told for part in parts), f"{parts} is neither read nor named: {told}")
    _check_labels(listed, root)
    _check_draw(found)
    demand(datasets.examples(root) == found, "a second reading gives others")
    if not any(path.is_symlink() for path in root.rglob("*")):
        _check_moved(found, root)
    list(look_alikes(label for example in found for label in example.all_labels))


def _make(chance: Random, root: Path) -> None:
    for _ in range(chance.randint(0, 7)):
        folder = root / (chance.choice(words.TOPS) if chance.random() < 0.85 else words.file_name(chance))
        folder.mkdir(parents=True, exist_ok=True)
        for inside in [""] * chance.randint(0, 2) + [chance.choice(words.INSIDE) for _ in range(chance.randint(0, 3))]:
            _fill(chance, folder / inside / chance.choice(["", "", "", "deep", "1"]))
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        (root / chance.choice(words.FILES)).touch()
    folders = sorted(path for path in root.rglob("*") if path.is_dir())
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        link = chance.choice([root, *folders]) / chance.choice(["link", "dog", "train", "gone.wav"])
        if not os.path.lexists(link):
            link.symlink_to(chance.choice([*folders, root, root / "nowhere"]))


def _fill(chance: Random, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(chance.randint(0, 4)):
            (folder / chance.choice(words.FILES)).touch()
    except (FileExistsError, NotADirectoryError):  # a file has that name
        return


def _sounds_in(root: Path) -> set[Path]:
    """Every file a user could take for a clip, folders that are links apart."""
    found = set()
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name.lower() not in SYSTEM_FOLDERS]
        found |= {Path(folder, name) for name in files if Path(name).suffix.lower() in SUFFIXES and name[0] != "."}
    return found


def _check_labels(listed: list[Example], root: Path) -> None:
    demand(bool(listed), "no clip was found, and nothing said")
    by_split = any(example.split for example in listed)
    for example in listed:
        parts = example.path.relative_to(root).parts
        wanted = normalized(parts[1 if by_split else 0])
        demand(example.labels["label"] == (wanted,), f"{parts} is labelled {example.labels}")
        wanted.encode()
        demand(bool(example.split) == by_split, f"{parts} has another kind of split")


def _check_draw(found: list[Example]) -> None:
    """Where splits were drawn, each group lies in one, and every class has its share."""
    if not any(example.drawn for example in found):
        return
    splits: dict[str, set[str]] = {}
    for example, group in zip(found, groups_of(found), strict=True):
        splits.setdefault(group, set()).add(example.split)
    demand(all(len(names) == 1 for names in splits.values()), f"a group lies in two splits: {splits}")
    for label in {label for example in found for label in example.all_labels}:
        own = [example for example in found if label in example.all_labels]
        where = {example.split for example in own}
        demand("train" in where, f"{label} has nothing to train on")
        if len({example.path for example in own}) >= 3 and all(len(example.all_labels) == 1 for example in found):
            demand(where == {"train", "valid", "test"}, f"{label} with {len(own)} clips is only in {where}")


def _check_moved(found: list[Example], root: Path) -> None:
    moved = root.with_name("moved")
    shutil.copytree(root, moved)
    again = {example.path.relative_to(moved): example.split for example in datasets.examples(moved)}
    before = {example.path.relative_to(root): example.split for example in found}
    demand(again == before, "moved data is divided otherwise")
