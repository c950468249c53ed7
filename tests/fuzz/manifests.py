"""Manifests: read as they were meant, or refused with a reason."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from random import Random
from typing import Any

from audiorep import datasets
from audiorep.datasets import Example
from audiorep.datasets.class_names import normalized
from audiorep.datasets.manifest import joined, separated
from audiorep.errors import DataError
from audiorep.training.workflow import write_clips
from fuzz import words
from fuzz.oracle import demand

COLUMNS = ["start", "end", "split", "fold", "group", "license", "note", ""]
ENCODINGS = ["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
SEPARATORS = [","] * 6 + [";", "\t", "|"]
NAMES_OF_SEPARATORS = ("semicolons", "tabs", "vertical bars")
DAMAGES = ["none"] * 5 + ["cut", "flip", "insert", "blank first", "delete"]
Meant = list[tuple[str, tuple[str, ...]]]


def prepare(folder: Path) -> None:
    """No seeds are needed."""


def warm(seeds: Path) -> None:
    """Nothing is waited for."""


def table(chance: Random, seeds: Path, place: Path) -> None:
    """A manifest of any separator, encoding, quoting and damage."""
    rows, meant = _rows(chance)
    separator, encoding, damage = chance.choice(SEPARATORS), chance.choice(ENCODINGS), chance.choice(DAMAGES)
    content = _damaged(chance, _written(chance, rows, separator).encode(encoding, "replace"), damage)
    path = place / "clips.csv"
    path.write_bytes(content)
    is_whole = damage in ("none", "blank first")
    is_ours = separator == "," and encoding in ("utf-8", "utf-8-sig")
    try:
        datasets.examples(path)
        datasets.notes(path)
        listed = datasets.listed_examples(path)
    except DataError as error:
        demand(str(path) in str(error), f"the manifest is not named: {error}")
        if is_whole and is_ours and meant:
            demand("no rows" in str(error) or "has official folds" in str(error), f"a good manifest was refused: {error}")
        if damage == "none":
            _check_reason(str(error), separator, encoding, len(content))
        raise
    demand(damage != "none" or separator == ",", "another separator was read as commas")
    if is_whole and is_ours:
        found = [(str(example.path.relative_to(place)), example.labels["label"]) for example in listed]
        demand(found == meant, f"{found} was read of {meant}")


def round_trip(chance: Random, seeds: Path, place: Path) -> None:
    """Labels, places, times and groups that `clips.csv` gives back as it got them."""
    clips = [_clip(chance, place / str(number)) for number in range(chance.randint(1, 6))]
    for clip in clips:
        demand(separated(joined(clip.labels["label"])) == list(clip.labels["label"]), clip.labels)
    clips = [clip for clip in clips if "\\" not in str(clip.path)]  # which a manifest takes for Windows' /
    write_clips(clips, place / "clips.csv")
    if clips:
        wanted = [_content(clip) for clip in clips]
        found = [_content(clip) for clip in datasets.listed_examples(place / "clips.csv")]
        demand(found == wanted, f"{found} was read of {wanted}")


def _rows(chance: Random) -> tuple[list[list[str]], Meant]:
    """A table with its header, blank rows among it, and what it means."""
    columns = ["path", "label", *chance.sample(COLUMNS, chance.randint(0, 4))]
    chance.shuffle(columns)
    rows, meant = [columns], []
    for number in range(chance.randint(0, 8)):
        made = (words.name(chance).replace("\0", "").strip() for _ in range(chance.choice([1, 1, 1, 2, 3])))
        labels = [label for label in made if label]
        path = f"{number}{words.file_name(chance)}.wav".replace("\\", "/")
        cells = {
            "path": path, "label": joined(labels), "start": chance.choice(["", "0", "0.5", "1e-3"]),
            "end": chance.choice(["", "2", "3.5"]),
            "split": chance.choice(["", "train", "valid", "test"]), "fold": chance.choice(["", "1", "2"]),
            "group": words.file_name(chance).strip(), "license": "CC0",
        }  # fmt: skip
        rows.append([cells.get(column, "") for column in columns])
        meant.append((str(Path(path.strip())), tuple(dict.fromkeys(map(normalized, labels)))))
        if chance.random() < 0.2:
            blanks = chance.choice([0, 1, len(columns), len(columns) + 2])
            rows.append([chance.choice(["", " ", "\t"]) for _ in range(blanks)])
    return rows, meant


def _written(chance: Random, rows: list[list[str]], separator: str) -> str:
    end = chance.choice(["\r\n", "\r\n", "\n"])
    quote_all = end == "\n" or chance.random() < 0.5  # with "\n" alone csv leaves "\r" bare
    text = io.StringIO()
    settings: dict[str, Any] = {
        "delimiter": separator,
        "lineterminator": end,
        "quoting": csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
    }
    csv.writer(text, **settings).writerows(rows)
    return text.getvalue()


def _check_reason(error: str, separator: str, encoding: str, size: int) -> None:
    """What is not as expected is named."""
    if encoding.startswith(("utf-16", "utf-32")) and size > 40:
        demand("UTF-16" in error or "UTF-32" in error, f"{encoding} is not named: {error}")
    if separator != "," and encoding in ("utf-8", "utf-8-sig"):
        demand(any(word in error for word in NAMES_OF_SEPARATORS), f"{separator!r} is not named: {error}")


def _damaged(chance: Random, content: bytes, how: str) -> bytes:
    if how == "cut":
        return content[: chance.randint(0, len(content))]
    if how == "blank first":
        blank = chance.choice([b"\n", b"\r\n\n", b" \n", b",,\n"])
        return content if content.startswith(b"\xef\xbb\xbf") else blank + content
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        if how == "flip" and place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
        elif how == "insert":
            changed[place:place] = bytes([chance.choice([0, 10, 13, 34, 44, 59, 92, 255, chance.randrange(256)])])
        elif how == "delete" and place < len(changed):
            del changed[place]
    return bytes(changed)


def _clip(chance: Random, folder: Path) -> Example:
    labels = words.labels(chance, chance.choice([0, 1, 1, 2, 4]))
    path = folder / f"{words.file_name(chance)}.wav"
    end, split, group = chance.choice([None, 9.0]), chance.choice(["train", "test"]), words.file_name(chance).strip()
    return Example(path, {"label": tuple(labels)}, chance.choice([0.0, 0.25, 1.5]), end, split, None, group)


def _content(clip: Example) -> tuple[object, ...]:
    return os.path.abspath(clip.path), clip.labels, clip.start, clip.end, clip.split, clip.group  # noqa: PTH100  as it stands
