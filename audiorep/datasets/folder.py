"""Data sets with a folder per class, optionally inside `train/`, `valid/` and `test/`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiorep.datasets.example import SPLITS, Example
from audiorep.datasets.sound_files import FoundFiles, files_below, files_in, is_hidden
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
_NOISE = "_background"  # beginning of the names of folders with background noise, which is no class
_SHOWN = 5  # most files or folders that a note names


def examples(root: Path) -> list[Example]:
    """Every sound file below each class folder, at any depth. The name of the folder is the label.

    Folders named train, valid or test (for other names see `_NAMES`) are splits if they hold folders of sounds. A single
    one beside folders that hold more sounds is a class of that name. `notes` tells how it was read.

    Raises:
        DataError: no class folder has sound files, or splits have sounds and no class folders.
    """
    layout = _read_layout(root)
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
    """Sentences about what was passed over in a folder, or read in an unexpected way.

    Raises:
        DataError: `root` is not a folder.
    """
    layout = _read_layout(root)
    found = _splits_notes(root, layout) if layout.splits else _classes_notes(root, layout)
    if layout.loose:
        lie, are = ("1 sound lies", "is") if len(layout.loose) == 1 else (f"{len(layout.loose)} sounds lie", "are")
        found.append(f"{lie} outside class folders and {are} passed over: {_listed(_within(root, layout.loose))}.")
    return [*found, *([text] if (text := _others_note(layout.others)) else [])]


@dataclass(frozen=True)
class _Part:
    """A folder directly below the root."""

    path: Path
    split: str
    """The split that its name means, or empty."""
    found: FoundFiles

    @property
    def sounds(self) -> tuple[Path, ...]:
        """Its sounds at any depth."""
        return self.found.sounds

    @property
    def in_classes(self) -> list[Path]:
        """The sounds in its folders, without background noise."""
        inside = [(path, path.relative_to(self.path).parts) for path in self.sounds]
        return [path for path, parts in inside if len(parts) > 1 and not _is_noise(parts[0])]

    @property
    def folders(self) -> list[str]:
        """The names of its folders."""
        return sorted(path.name for path in self.path.iterdir() if path.is_dir() and not is_hidden(path.name))


@dataclass(frozen=True)
class _Layout:
    """How a folder is read."""

    parts: list[_Part]
    splits: dict[str, str]
    """The split of each top folder that is one; empty if the top folders are classes."""
    loose: list[Path]
    """Sounds outside class folders."""
    others: list[Path]
    """Files that may be sounds of formats that are not read."""


def _read_layout(root: Path) -> _Layout:
    if not root.is_dir():
        raise DataError(f"{root} is a file; a folder with one folder a class is needed here.")
    tops = [path for path in sorted(root.iterdir()) if path.is_dir() and not is_hidden(path.name)]
    splits = _split_names([path.name for path in tops])
    parts = [_Part(path, splits.get(path.name, ""), files_below(path)) for path in tops]
    loose = files_in(root)
    others = [*loose.others, *(path for part in parts for path in part.found.others)]
    if _are_splits(parts):
        flat = [path for part in parts if part.split for path in part.sounds if path.parent == part.path]
        return _Layout(parts, splits, [*loose.sounds, *flat], others)
    return _Layout([part for part in parts if not _is_noise(part.path.name)], {}, list(loose.sounds), others)


def _split_names(names: Iterable[str]) -> dict[str, str]:
    """The split of each folder whose name means one; what a name means depends on the others.

    `dev` is for training if no folder is named train, and `eval` for validation if there are train and test.
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
    """Whether the top folders with names of splits are splits, and not classes with these names."""
    named = [part for part in parts if part.split and part.sounds]
    beside = [part for part in parts if not part.split and part.sounds]
    if len({part.split for part in named}) > 1 or not beside:
        return bool(named)
    classed = sum(len(part.in_classes) for part in named)
    if 2 * classed <= sum(len(part.sounds) for part in named):  # most sounds are not in class folders
        return False
    classes = [folder for part in named for folder in part.folders]
    alike = any(part.folders == classes for part in beside)  # the same classes again: a split with another name
    return len(beside) == 1 or alike or classed > sum(len(part.sounds) for part in beside)


def _is_noise(name: str) -> bool:
    return name.lower().startswith(_NOISE)


# --- notes ---


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
    """Notes about class folders without sounds, and folders of noise."""
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
    """A note that counts passed-over files of other formats by suffix; empty if there are none."""
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
