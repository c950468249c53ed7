"""The models inside the package, which are opened by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
DEFAULT = "nano"
FILE = "model.onnx"


@dataclass(frozen=True)
class Shipped:
    """A model inside the package: a checkpoint folder with its exported file, its card and its attributions."""

    name: str
    about: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return ASSETS / self.name

    @property
    def file(self) -> Path:
        """The file that runs."""
        return self.folder / FILE


SHIPPED: dict[str, Shipped] = {
    row.name: row
    for row in (
        Shipped("nano", "general tagger: AudioSet's 521 classes as YAMNet names them, any number a window"),
        Shipped("esc50", "50 environmental sounds, one a clip, or none of them"),
    )
}


def named(source: str | os.PathLike[str]) -> Shipped | None:
    """The model that `source` names; None if it is a path: that of something that exists wins over a name."""
    found = SHIPPED.get(os.fspath(source))
    return None if found is None or os.path.lexists(source) else found


def place(source: str | os.PathLike[str]) -> Path:
    """Where the checkpoint in the folder `source` is, or the one in the package under that name."""
    found = named(source)
    return Path(source) if found is None else found.folder


def file_of(source: str | os.PathLike[str]) -> Path:
    """Where the model `source` is, a path, or the file of the one in the package under that name."""
    found = named(source)
    return Path(source) if found is None else found.file
