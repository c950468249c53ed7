"""What a search found, as tables, as sound files, and as a page with players."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audiorep import audio
from audiorep.audio.decode import Stretch
from audiorep.embeddings import page
from audiorep.embeddings.search import Match
from audiorep.embeddings.suggest import Suggestion, as_csv
from audiorep.errors import AudioError, ConfigError
from audiorep.files import replacing, reserve, write_text

COLUMNS = ("path", "start", "end", "score")
LONGEST_CLIP = 60.0  # seconds

Write = Callable[[Stretch, Sequence[Match], float], None]
"""Writes what was found for a sound, with so many seconds around each place where it holds sound."""


def writer(path: Path) -> Write:
    """What writes a file, by its suffix; into a folder, a file of Audacity's labels for each sound.

    Raises:
        ConfigError: another suffix, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix:
        return lambda sound, found, around: _label_files(path, found)
    if suffix not in _WRITERS:
        raise ConfigError(f"{path} must end in {', '.join(_WRITERS)}, or be a folder for Audacity's labels.")
    reserve(path)
    make = _WRITERS[suffix]
    return lambda sound, found, around: write_text(path, make(sound, found, around))


def suggestions_writer(path: Path, label: str) -> Callable[[Sequence[Suggestion], float], None]:
    """What writes places that are worth a label: a table to fill in, or a page.

    Raises:
        ConfigError: another suffix, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".html"):
        raise ConfigError(f"{path} must end in .csv or .html.")
    reserve(path)

    def text(found: Sequence[Suggestion], around: float) -> str:
        if suffix == ".csv":
            return as_csv(found)
        return page.of_sounds(f"Is this {label}?", [_row(row, f"{row.score:.0%}", around) for row in found])

    return lambda found, around: write_text(path, text(found, around))


def as_dict(match: Match) -> dict[str, Any]:
    """A match as plain values for JSON."""
    return {
        "path": str(match.path),
        "start": round(match.start, 4),
        "end": round(match.end, 4),
        "score": round(match.score, 4),
    }


def write_clips(folder: Path, found: Sequence[Match], around: float) -> list[str]:
    """Writes the places as FLAC files, numbered from the best; gives a sentence for each that could not be read.

    Raises:
        ConfigError: the folder cannot be written.
    """
    failures = []
    for number, match in enumerate(found, 1):
        try:
            samples, rate = sound_of(match, around)
        except AudioError as error:
            failures.append(str(error))
            continue
        with replacing(folder / f"{number:03d}_{match.path.stem}_{match.start:.1f}s.flac") as partial:
            soundfile.write(partial, samples, rate, format="FLAC")
    return failures


def sound_of(place: Match | Suggestion | Stretch, around: float) -> tuple[np.ndarray, int]:
    """The samples (N,) of a place with what is around it, at most `LONGEST_CLIP`, and their rate.

    Raises:
        AudioError: the file cannot be used any more.
    """
    about = audio.probe(place.path)
    begin = max(0.0, place.start - around)
    end = min(about.seconds, (about.seconds if place.end is None else place.end) + around, begin + LONGEST_CLIP)
    return audio.read(place.path, about.sample_rate, begin, end), about.sample_rate


def _label_files(folder: Path, found: Sequence[Match]) -> None:
    """Writes Audacity's labels of each sound; those of the same name have a number behind it."""
    sounds: dict[Path, list[Match]] = {}
    for match in found:
        sounds.setdefault(match.path, []).append(match)
    names: Counter[str] = Counter()
    for path, matches in sounds.items():
        names[path.name] += 1
        number = f".{names[path.name]}" if names[path.name] > 1 else ""
        lines = [f"{each.start:.6f}\t{each.end:.6f}\talike {each.score:.2f}\n" for each in matches]
        write_text(folder / f"{path.name}{number}.audacity.txt", "".join(lines))


def _csv(sound: Stretch, found: Sequence[Match], around: float) -> str:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows((match.path, f"{match.start:.3f}", f"{match.end:.3f}", f"{match.score:.4f}") for match in found)
    return text.getvalue()


def _json_lines(sound: Stretch, found: Sequence[Match], around: float) -> str:
    return "".join(json.dumps(as_dict(match), ensure_ascii=False) + "\n" for match in found)


def _page(sound: Stretch, found: Sequence[Match], around: float) -> str:
    title = f"What sounds like {sound.path.name}"
    rows = [_row(sound, "looked for", 0.0), *(_row(match, f"{match.score:.3f}", around) for match in found)]
    return page.of_sounds(title, rows)


def _row(place: Match | Suggestion | Stretch, caption: str, around: float) -> page.Sound:
    end = "" if place.end is None else f" to {place.end:.1f}"
    about = f"{place.path}, {place.start:.1f}{end} s"
    try:
        samples, rate = sound_of(place, around)
    except AudioError as error:
        return page.Sound(caption, about, None, 0, str(error))
    return page.Sound(caption, about, samples, rate)


_WRITERS: dict[str, Callable[[Stretch, Sequence[Match], float], str]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".html": _page,
}
