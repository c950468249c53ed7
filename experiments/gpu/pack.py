"""What a bare machine with a GPU needs to teach the tagger: the sounds, the teacher, and a manifest without labels.

python -m experiments.gpu.pack --data AUDIOREP_DATA --out FOLDER
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import audiorep.audio as audio
from audiorep.datasets.manifest import COLUMNS

HELD_OUT = "5"  # the fold of ESC-50 that no training hears
A_WORD = 40  # clips of a spoken word
LONGEST = 25.0  # seconds of a row: clips above 30 s are read by the cut, and do not lie on the card
Row = tuple[Path, str, str]
"""A sound, the folder that it goes to, and its license."""


def main() -> None:
    """Copies and lists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take one of so many sounds, for a rehearsal")
    given = parser.parse_args()
    rows = [*esc50(given.data / "esc50"), *free_audio(given.data / "free_audio"), *speech(given.data / "speech_commands")]
    lines = []
    for source, folder, license in rows[:: given.every]:
        target = given.out / folder / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        seconds = audio.probe(source).seconds
        for part in range(int(seconds // LONGEST) + 1):
            start = part * LONGEST
            if seconds - start > 0.3:
                end = min(start + LONGEST, seconds)
                lines.append((target.relative_to(given.out), "", start, f"{end:.3f}", "train", "", "", license))
    with (given.out / "sounds.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])
    shutil.copytree(given.data / "yamnet", given.out / "yamnet", dirs_exist_ok=True)
    print(f"{len(lines)} rows of {len(rows)} sounds")


def esc50(root: Path) -> Iterator[Row]:
    """The clips of the other folds whose own license is a free one."""
    with (root / "meta" / "esc50.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["fold"] != HELD_OUT and row["licence"] in ("CC0", "CC-BY"):
                yield root / "audio" / row["filename"], "esc50", row["licence"]


def free_audio(root: Path) -> Iterator[Row]:
    """What does not ask for its own license on works made of it."""
    with (root / "manifest.csv").open(newline="") as file:
        licenses = {row["file"]: row["licence"] for row in csv.DictReader(file)}
    for name, license in licenses.items():
        if name.startswith("audio/"):
            yield root / name, "free_audio", license


def speech(root: Path) -> Iterator[Row]:
    """Some clips of each word, none of the official validation or test lists, and the background noises."""
    lists = [(root / name).read_text().split() for name in ("validation_list.txt", "testing_list.txt")]
    listed = {line.rsplit(".", 1)[0] for lines in lists for line in lines}
    for word in sorted(path for path in root.iterdir() if path.is_dir()):
        clips = [path for path in sorted(word.glob("*.flac")) if f"{word.name}/{path.stem}" not in listed]
        for path in clips if word.name.startswith("_") else clips[:A_WORD]:
            yield path, f"speech/{word.name}", "CC-BY 4.0"


if __name__ == "__main__":
    main()
