"""Speech Commands (Warden 2018), V1 or V2: a folder per word, `validation_list.txt` and `testing_list.txt`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from audiorep import audio
from audiorep.audio import SUFFIXES
from audiorep.datasets.example import Example
from audiorep.datasets.table import lines
from audiorep.errors import AudioError, DataError

LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}
"""The lists and their splits. Clips in neither list are for training."""

NOISE = "_background_noise_"
SILENCE = "_silence_"
SILENCE_SECONDS, SILENCE_HOP_SECONDS = 1.0, 0.5
SILENCE_SHARES = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}
"""The part of each noise recording that belongs to a split, as (begin, end) shares of its length."""


def examples(root: Path) -> list[Example]:
    """Every sound in the folders of words, and clips of silence.

    The clips of a speaker share a group. The lists may name clips that do not exist, and name clips without their suffix.

    The official lists have no silence. Here a clip of silence is one second of `_background_noise_`, taken every half
    second. The first 80 % of each recording are for training, the next 10 % for validation, the last 10 % for testing, and
    no clip crosses a border. These clips are optional: they are used only if `Splits.classes` names `_silence_`. A
    recording that cannot be read is one clip, so that it is reported.

    Raises:
        DataError: there are no words, a list is missing, or it names a word without a folder or a clip of the other list.
    """
    words = labels(root)["label"]
    splits = _listed(root, words)
    found = [
        Example(
            path,
            {"label": (word,)},
            split=splits.get(f"{word}/{path.stem}", "train"),
            group=path.stem.partition("_nohash_")[0],
        )
        for word in words
        for path in _sounds(root / word)
    ]
    if not found:
        raise DataError(f"{root} has folders of words ({', '.join(words[:5])} …) and no sound in them.")
    return [*found, *(silence for path in _sounds(root / NOISE) for silence in _silence(path))]


def is_at(root: Path) -> bool:
    """Whether `root` looks like Speech Commands."""
    return (root / "testing_list.txt").is_file()


def labels(root: Path) -> dict[str, list[str]]:
    """The words that have a folder, sorted: 30 in V1, 35 in V2.

    Raises:
        DataError: there are no folders of words.
    """
    words = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    if not words:
        raise DataError(f"{root} holds no folders of words; expected {root.name}/<word>/<speaker>_nohash_<number>.wav.")
    return {"label": words}


def _listed(root: Path, words: Sequence[str]) -> dict[str, str]:
    """The split of each clip that a list names, by `word/name`."""
    known = frozenset(words)
    found: dict[str, str] = {}
    for name, split in LISTS.items():
        for number, line in lines(root / name):
            word, slash, file = line.partition("/")
            if not slash or word not in known:
                raise DataError(
                    f"{root / name}, line {number}: {line!r} names the word {word!r}, which has no folder; "
                    f"there are {', '.join(words)}."
                )
            if found.setdefault(f"{word}/{Path(file).stem}", split) != split:
                raise DataError(f"{root / name}, line {number}: {line!r} is in {next(iter(LISTS))} too; one split is needed.")
    return found


def _sounds(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _silence(path: Path) -> Iterator[Example]:
    """The clips of one noise recording. Clips of one split share a group."""
    try:
        seconds = audio.probe(path).seconds
    except AudioError:
        yield Example(path, {"label": (SILENCE,)}, split="train", optional=True)
        return
    for split, (first, last) in SILENCE_SHARES.items():
        room = (last - first) * seconds - SILENCE_SECONDS
        for step in range(int(room / SILENCE_HOP_SECONDS + 1e-6) + 1 if room > -1e-6 else 0):
            start = first * seconds + step * SILENCE_HOP_SECONDS
            yield Example(
                path,
                {"label": (SILENCE,)},
                start,
                start + SILENCE_SECONDS,
                split,
                group=f"{NOISE}/{path.stem} {split}",
                optional=True,
            )
