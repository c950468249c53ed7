"""A folder per class, optionally inside `train/`, `valid/` and `test/`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiorep.datasets.example import SPLITS, Example
from audiorep.datasets.walk import Found, below, inside, is_hidden
from audiorep.errors import DataError

_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "devel": "valid",
    "development": "valid",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_SET = re.compile(r"[ _-]*(set|split|data)$")
_DEVELOPMENT, _EVALUATION = ("dev", "devel", "development"), ("eval", "evaluation")
_NOISE = "_background"  # what names of folders of background noise begin with, which is no class
_SHOWN = 5  # files or folders that a note names


def examples(root: Path) -> list[Example]:
    """Every sound file below each class's folder, at any depth; the folder's name is the label.

    Folders called train, valid or test (or otherwise, see `_NAMES`) are splits, whatever lies beside them, if they hold
    folders of sounds. One alone beside folders that hold more sounds is a class of that name. `notes` says which it was.

    Raises:
        DataError: no class folder with sound files, or splits with sounds and no class folders.
    """
    layout = _look(root)
    found = [
        Example(path, {"label": (path.relative_to(part.path).parts[0],)}, split=layout.splits[part.path.name])
        for part in layout.parts
        if part.path.name in layout.splits
        for path in part.in_classes
    ]
    if not layout.splits:
        found = [Example(path, {"label": (part.path.name,)}) for part in layout.parts for path in part.sounds]
    if found:
        return found
    flat = [part.path.name for part in layout.parts if part.split and part.sounds]
    raise DataError(
        f"{root} holds no sound files in class folders{f' of {_listed(flat)}' if flat else ''}; expected "
        f"{root.name}/<class>/<clip>.wav, or a split ({', '.join(SPLITS)}) above the class. "
        f"A CSV manifest names the classes of files that lie otherwise. {_others_note(layout.others)}".rstrip()
    )


def notes(root: Path) -> list[str]:
    """What of a folder was read otherwise than a user may think, or passed over: a sentence each.

    Raises:
        DataError: `root` is no folder.
    """
    layout = _look(root)
    found = _splits_notes(root, layout) if layout.splits else _classes_notes(root, layout)
    if layout.loose:
        lie, are = ("1 sound lies", "is") if len(layout.loose) == 1 else (f"{len(layout.loose)} sounds lie", "are")
        found.append(f"{lie} outside class folders and {are} passed over: {_listed(_within(root, layout.loose))}.")
    return [*found, *([text] if (text := _others_note(layout.others)) else [])]


@dataclass(frozen=True)
class _Part:
    """A folder at the top."""

    path: Path
    split: str
    """What its name says, or empty."""
    found: Found

    @property
    def sounds(self) -> tuple[Path, ...]:
        """All of it, at any depth."""
        return self.found.sounds

    @property
    def in_classes(self) -> list[Path]:
        """The sounds that lie in folders of it, but for background noise."""
        inside = [(path, path.relative_to(self.path).parts) for path in self.sounds]
        return [path for path, parts in inside if len(parts) > 1 and not _is_noise(parts[0])]

    @property
    def folders(self) -> list[str]:
        """The folders in it."""
        return sorted(path.name for path in self.path.iterdir() if path.is_dir() and not is_hidden(path.name))


@dataclass(frozen=True)
class _Layout:
    """How a folder is read."""

    parts: list[_Part]
    splits: dict[str, str]
    """Split of each top folder that is one; none where these are the classes."""
    loose: list[Path]
    """Sounds that have no class."""
    others: list[Path]
    """Files that may be sounds and are not read."""


def _look(root: Path) -> _Layout:
    if not root.is_dir():
        raise DataError(f"{root} is a file; a folder with one folder a class is needed here.")
    tops = [path for path in sorted(root.iterdir()) if path.is_dir() and not is_hidden(path.name)]
    splits = _split_names([path.name for path in tops])
    parts = [_Part(path, splits.get(path.name, ""), below(path)) for path in tops]
    loose = inside(root)
    others = [*loose.others, *(path for part in parts for path in part.found.others)]
    if _are_splits(parts):
        flat = [path for part in parts if part.split for path in part.sounds if path.parent == part.path]
        return _Layout(parts, splits, [*loose.sounds, *flat], others)
    return _Layout([part for part in parts if not _is_noise(part.path.name)], {}, list(loose.sounds), others)


def _split_names(names: Iterable[str]) -> dict[str, str]:
    """Split of each folder whose name says one, all of them together.

    `dev` trains where nothing is called train, and `eval` validates between train and test.
    """
    plain = {name: _SET.sub("", name.strip().lower()) for name in names}
    found = {name: _NAMES[word] for name, word in plain.items() if word in _NAMES}
    splits = {split for name, split in found.items() if plain[name] not in (*_DEVELOPMENT, *_EVALUATION)}
    for name in found:
        if plain[name] in _DEVELOPMENT and "train" not in splits:
            found[name] = "train"
        if plain[name] in _EVALUATION and "test" in splits and "valid" not in found.values():
            found[name] = "valid"
    return found


def _are_splits(parts: Sequence[_Part]) -> bool:
    """Whether the folders at the top that are called so are splits, rather than classes of these names."""
    named = [part for part in parts if part.split and part.sounds]
    beside = [part for part in parts if not part.split and part.sounds]
    if len({part.split for part in named}) > 1 or not beside:
        return bool(named)
    classed = sum(len(part.in_classes) for part in named)
    if 2 * classed <= sum(len(part.sounds) for part in named):  # most lie right in it
        return False
    classes = [folder for part in named for folder in part.folders]
    alike = any(part.folders == classes for part in beside)  # the same classes again: another split, by another name
    return len(beside) == 1 or alike or classed > sum(len(part.sounds) for part in beside)


def _is_noise(name: str) -> bool:
    return name.lower().startswith(_NOISE)


# --- what to say ---


def _splits_notes(root: Path, layout: _Layout) -> list[str]:
    beside = [part for part in layout.parts if part.path.name not in layout.splits]
    if not beside and set(layout.splits) <= set(SPLITS):
        return _empty_notes(layout)
    read = ", ".join(f"{name} as {split}" for name, split in layout.splits.items())
    text = f"{root} is read as splits: {read}."
    if beside:
        text += f" Passed over, since beside them: {_listed([f'{part.path.name} ({_sounds(part)})' for part in beside])}."
    return [text, *_empty_notes(layout)]


def _empty_notes(layout: _Layout) -> list[str]:
    """Class folders without sounds, and those of noise."""
    empty, noise = [], []
    for part in layout.parts:
        if part.path.name in layout.splits:
            full = {path.relative_to(part.path).parts[0] for path in part.sounds}
            empty += [f"{part.path.name}/{name}" for name in part.folders if name not in full]
            noise += [f"{part.path.name}/{name}" for name in part.folders if _is_noise(name) and name in full]
    return [
        *([f"No sounds are in {_listed(empty)}."] if empty else []),
        *([f"Background noise is no class and passed over: {_listed(noise)}."] if noise else []),
    ]


def _classes_notes(root: Path, layout: _Layout) -> list[str]:
    found = []
    if named := [part.path.name for part in layout.parts if part.split and part.sounds]:
        found.append(
            f"{root} is read as a folder a class: {_listed(named)} is one too, and no split, since most sounds lie beside it."
        )
    if within := sorted({name for part in layout.parts for name in _split_names(part.folders)}):
        found.append(f"Folders called {_listed(within)} lie inside class folders of {root} and are not read as splits.")
    if empty := [part.path.name for part in layout.parts if not part.sounds]:
        found.append(f"No sounds are in {_listed(empty)}.")
    noise = [path.name for path in sorted(root.iterdir()) if path.is_dir() and _is_noise(path.name)]
    if noise:
        found.append(f"Background noise is no class and passed over: {_listed(noise)}.")
    return found


def _others_note(others: Sequence[Path]) -> str:
    """That files of formats that are not read were passed over, by their suffixes; nothing where there are none."""
    if not others:
        return ""
    counts = Counter(path.suffix.lower() or "without suffix" for path in others)
    kinds = ", ".join(f"{suffix} ({count})" for suffix, count in sorted(counts.items()))
    return f"{_files(len(others))} of other formats {'was' if len(others) == 1 else 'were'} passed over: {kinds}."


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _sounds(part: _Part) -> str:
    count = len(part.sounds)
    return "no sounds" if not count else "1 sound" if count == 1 else f"{count} sounds"


def _within(root: Path, paths: Iterable[Path]) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
