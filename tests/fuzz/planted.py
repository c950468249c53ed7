"""Faults on purpose, by which the harness itself is tested."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

from audiorep.errors import AudiorepError
from fuzz.mutations import cut
from fuzz.oracle import demand


def prepare(folder: Path) -> None:
    """Writes the good file."""
    (folder / "good").write_bytes(bytes(100))


def warm(seeds: Path) -> None:
    """Nothing is waited for."""


def good(chance: Random, seeds: Path, place: Path) -> None:
    """What is right is accepted."""


def refuses(chance: Random, seeds: Path, place: Path) -> None:
    """A sentence."""
    raise AudiorepError("x.wav is damaged. Re-copy the file.")


def says_nothing(chance: Random, seeds: Path, place: Path) -> None:
    """A refusal that is no sentence."""
    raise AudiorepError("Traceback:\n  File x")


def raises(chance: Random, seeds: Path, place: Path) -> None:
    """An exception that is not ours."""
    (place / "x").write_bytes(chance.randbytes(4))
    raise ValueError("planted")


def hangs(chance: Random, seeds: Path, place: Path) -> None:
    """No end."""
    (place / "x").write_bytes(b"long")
    time.sleep(3600)


def dies(chance: Random, seeds: Path, place: Path) -> None:
    """The end of the process, in every other case."""
    (place / "x").write_bytes(b"dead")
    if chance.random() < 0.5:
        os.abort()


def takes_all_memory(chance: Random, seeds: Path, place: Path) -> None:
    """More than the limit."""
    bytearray(1 << 50)


def accepts_a_cut(chance: Random, seeds: Path, place: Path) -> None:
    """A reader that takes whatever there is."""
    content = cut(chance, (seeds / "good").read_bytes())
    (place / "x").write_bytes(content)
    demand(len(content) == 100, f"{len(content)} of 100 bytes were accepted")
