"""NSynth (Engel 2017) in its own layout, `nsynth-train/`, `nsynth-valid/`, `nsynth-test/`: notes by instrument family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audiorep.datasets.example import Example
from audiorep.datasets.sound_index import SoundIndex
from audiorep.errors import DataError

FOLDERS = {"nsynth-train": "train", "nsynth-valid": "valid", "nsynth-test": "test"}
FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
)  # fmt: skip
"""The families in the order of the official numbers. `synth_lead` has training clips only."""

META = "examples.json"


def examples(root: Path) -> list[Example]:
    """A clip for each note in each folder's `examples.json`. Notes of one instrument share a group.

    `root` holds one or more of the three folders, or is one of them.

    Raises:
        DataError: there is no such folder, a JSON file is missing, or a note lacks its family or instrument.
    """
    folders = [root] if (root / META).is_file() else [root / name for name in FOLDERS if (root / name).is_dir()]
    if not folders:
        raise DataError(f"{root} holds none of the folders {', '.join(FOLDERS)}, and no {META}.")
    return [example for folder in folders for example in _of_folder(folder)]


def is_at(root: Path) -> bool:
    """Whether `root` looks like NSynth."""
    return any((folder / META).is_file() for folder in (root / name for name in FOLDERS)) or (
        (root / META).is_file() and root.resolve().name in FOLDERS
    )


def labels(root: Path) -> dict[str, list[str]]:
    """All eleven families."""
    return {"label": list(FAMILIES)}


def _of_folder(folder: Path) -> list[Example]:
    path, tracks, split = folder / META, SoundIndex(folder), FOLDERS.get(folder.resolve().name, "")
    found = []
    for key, note in _notes(path).items():
        family, instrument = (_text(path, key, note, name) for name in ("instrument_family_str", "instrument_str"))
        if family not in FAMILIES:
            raise DataError(f"{path}, {key}: instrument_family_str is {family!r}; allowed are {', '.join(FAMILIES)}.")
        found.append(Example(tracks.find(key), {"label": (family,)}, split=split, group=instrument))
    return found


def _notes(path: Path) -> dict[str, Any]:
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise DataError(f"{path} is not a JSON file in UTF-8: {error}.") from None
    if not isinstance(notes, dict) or not notes:
        raise DataError(f"{path} holds no notes; an object with one key a note is needed.")
    return notes


def _text(path: Path, key: str, note: Any, name: str) -> str:
    found = note.get(name) if isinstance(note, dict) else None
    if not isinstance(found, str) or not found:
        raise DataError(f"{path}, {key}: {name} is {found!r}; a name is needed.")
    return found
