"""The Free Spoken Digit Dataset in its own layout: `recordings/{digit}_{speaker}_{number}.wav`."""

from __future__ import annotations

import re
from pathlib import Path

from audiorep.audio import SUFFIXES
from audiorep.datasets.example import Example
from audiorep.errors import DataError

FOLDER = "recordings"
_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_\d+")


def examples(root: Path) -> list[Example]:
    """The 3,000 clips: 50 of each digit by george, jackson, lucas, nicolas, theo and yweweler.

    Each fold is one speaker, numbered from 1 in sorted order, so that a test on a fold is a test on a new speaker. The clips
    of a speaker share a group.

    Raises:
        DataError: there are no recordings, or one is not named like 7_jackson_32.wav.
    """
    paths = _recordings(root)
    if not paths:
        raise DataError(f"{root / FOLDER} holds no recordings; files like 7_jackson_32.wav are needed.")
    parts = [(path, _NAME.fullmatch(path.stem)) for path in paths]
    if wrong := [path for path, match in parts if match is None]:
        raise DataError(f"{wrong[0]} is not named as a recording; digit_speaker_number, as in 7_jackson_32.wav, is needed.")
    named = [(path, match["digit"], match["speaker"]) for path, match in parts if match is not None]
    speakers = sorted({speaker for _, _, speaker in named})
    return [
        Example(path, {"label": (digit,)}, fold=1 + speakers.index(speaker), group=speaker) for path, digit, speaker in named
    ]


def is_at(root: Path) -> bool:
    """Whether `root` looks like FSDD."""
    return any(_NAME.fullmatch(path.stem) for path in _recordings(root))


def labels(root: Path) -> dict[str, list[str]]:
    """The ten digits."""
    return {"label": list("0123456789")}


def _recordings(root: Path) -> list[Path]:
    folder = root / FOLDER
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
