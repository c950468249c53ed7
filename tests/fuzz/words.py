"""Names as people, programs and mistakes write them."""

from __future__ import annotations

import os
from random import Random

from audiorep.datasets.class_names import normalized

PIECES = [
    "dog", "Dog", "cat", "a", "1", "01", "x y", " ", "\u00a0", "é", "e\u0301", "ñ", "n\u0303", "ß", "音", "😀", "👩\u200d🔬",
    "\u200b", "\u202e",
    "$", "$x$", "\\", "|", "*", "_", "__", "`", "<b>", "&amp;", "[x](y)", "[bold]", "[/]", "#", "-", "+", "=", "@", "%s",
    "{}", "{0}",
    "'", '"', ",", ";", "\\;", "\t", "\n", "\r",
    "\x1b[31m", "\x7f", "\x85", "\u2028", "!", "?", ":", "~", "^", "(", ")", "null", "NaN",
    "True", "../", "C:\\", ".", "train", "test", "²", "ﬁ", "İ", "ı", "Ⅷ", "\ufeff", "\u0000",
]  # fmt: skip
TOPS = [
    "train", "Train", "training", "valid", "val", "VALIDATION", "dev", "test", "Test", "testing", "eval", "evaluation",
    "train_set",
    "dog", "cat", "cow", "noise", "_background_noise_", "background_noise", "docs", "__MACOSX", ".git", ".cache", "@eaDir",
    "extra",
    "1", "2", "café", "cafe\u0301", "DOG", "dog ", os.fsdecode(b"caf\xe9"), "metadata", "audio", "recordings", "a" * 200,
]  # fmt: skip
INSIDE = ["dog", "cat", "cow", "1", "train", "Test", "e\u0301", "_background_x"]
FILES = [
    "a.wav", "b.WAV", "c.flac", "1.wav", "2.wav", "d.m4a", "e", "README", "n.txt", "._a.wav", ".h.wav", "x.csv", "a.b.ogg",
    "\xe9.wav",
    os.fsdecode(b"\xff.wav"), "-o.wav", " s.wav",
]  # fmt: skip


def name(chance: Random, most: int = 4) -> str:
    """A few pieces, one after the other."""
    return "".join(chance.choices(PIECES, k=chance.randint(1, most)))


def file_name(chance: Random, most: int = 3) -> str:
    """The same as a disk takes it."""
    made = name(chance, most).replace("/", "").replace("\0", "")
    return made if made not in ("", ".", "..") else "x"


def labels(chance: Random, count: int) -> list[str]:
    """Up to `count` labels in the form in which they are read, all different."""
    made = (normalized(name(chance).replace("\0", "")) for _ in range(count))
    return list(dict.fromkeys(label for label in made if label))
