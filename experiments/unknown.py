"""What it costs and brings to teach a model what is none of its classes: three trainings from the tagger in the package.

    python experiments/unknown.py AUDIOREP_DATA -o runs/unknown [--set epochs=10]
    python experiments/unknown.py AUDIOREP_DATA -o runs/unknown --link  (only links to the sounds of no class that train)

- `plain`: ESC-50's classes alone.
- `taught`: the same clips, and sounds of no class: synthetic ones, and free recordings of speech, music and effects.
- `forty`: as `taught`, without every fifth class, whose clips of fold 5 are unknown sounds to it.

Folds 1 to 4 train and fold 5 tests, which neither the tagger nor these trainings heard. Free recordings are divided by where
they came from, synthetic sounds are drawn with another seed, and speech is of other collections (spoken digits, and the
testing list of Speech Commands). The tagger itself heard all of `FREE` without labels, and other files of Speech Commands.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import zlib
from datetime import date
from pathlib import Path
from typing import Any

import soundfile
import torch

import audiorep
from audiorep import config, datasets
from audiorep.evaluation import rejection
from audiorep.evaluation.scored import score_clips
from audiorep.files import write_json
from audiorep.training.unknown import draw_sounds

RESULT = Path(__file__).parent.parent / "results" / "unknown.json"
FREE = ("speech", "speech_synthetic", "music", "singing", "instrument", "synth", "ui_synth", "whoosh", "drum_perc")
"""Kinds of free recordings that sound like no class of ESC-50."""
MUSIC = ("music", "singing", "instrument", "synth", "ui_synth", "drum_perc")
RATE, SECONDS, DRAWN, SPOKEN = 16_000, 5, 400, 400
"""Of synthetic sounds, and how many of them and of spoken words are tested."""


def main() -> None:
    """A row a training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE", dest="changes")
    parser.add_argument("--link", action="store_true", help="link the freest recordings that train into OUTPUT/sounds")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    known, foreign = free_recordings(given.data / "free_audio")
    if given.link:
        link([path for path in known if path.parent.name == "audio"], given.output / "sounds")  # others ask to share alike
        return
    tests = {**foreign, "synthetic": synthetic(given.output / "synthetic"), "speech": speech(given.data)}
    folds = {"test_folds": [5], "valid_folds": []}
    names = datasets.labels_of(datasets.listed_examples(given.data / "esc50"))["label"]
    forty = [name for number, name in enumerate(names) if number % 5]
    taught = {"folders": sorted({str(path) for path in known}), "synthetic": 0.1}
    runs: dict[str, dict[str, Any]] = {
        "plain": {"splits": folds},
        "taught": {"splits": folds, "unknown": taught, "audible": 0.5},
        "forty": {"splits": {**folds, "classes": forty}, "unknown": taught, "audible": 0.5},
    }
    left_out = [clip.path for clip in fold_5(given.data / "esc50") if clip.all_labels[0] not in forty]
    rows = {}
    for name, settings in runs.items():
        own = {"ten classes left out": left_out} if name == "forty" else {}
        rows[name] = trained(given, name, settings, {**tests, **own})
        print(name, rows[name])
    sounds = {"of no class in training": len(known), "tested": {kind: len(paths) for kind, paths in tests.items()}}
    about = {"command": " ".join(["python", *sys.argv]), "date": date.today().isoformat(), "sounds": sounds}
    write_json(RESULT, {**about, "rows": rows})


def trained(given: argparse.Namespace, name: str, settings: dict[str, Any], tests: dict[str, list[Path]]) -> dict[str, Any]:
    """A training, its accuracy on fold 5, and how well each kind of unknown sounds is told from fold 5."""
    data, run = given.data / "esc50", given.output / name
    settings = config.merged(config.override({}, given.changes), settings)
    tested = audiorep.train(data, run, say=print, **settings)
    classifier = audiorep.load(run)
    known = classifier.info.labels["label"]
    clips = [clip for clip in fold_5(data) if clip.all_labels[0] in known]
    scores = score_clips(classifier, clips, "fold 5").given["label"]
    told = {kind: rejection.measure(classifier, scores, paths).as_dict() for kind, paths in tests.items()}
    return {"top1": tested[0].heads["label"].summary["top1"], "unknown": told}


def fold_5(data: Path) -> list[datasets.Example]:
    """The clips that nothing here was trained on."""
    return [clip for clip in datasets.listed_examples(data) if clip.fold == 5]


def free_recordings(folder: Path) -> tuple[list[Path], dict[str, list[Path]]]:
    """Free recordings of no class of ESC-50 to train on, and {kind: those to test on}."""
    known: list[Path] = []
    tests: dict[str, list[Path]] = {"free speech": [], "music": [], "effects": []}
    with (folder / "manifest.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            if line["kind"] not in FREE:
                continue
            if zlib.crc32(line["source_repo"].encode()) % 3:
                known.append(folder / line["file"])
            else:
                kind = "music" if line["kind"] in MUSIC else "free speech" if "speech" in line["kind"] else "effects"
                tests[kind].append(folder / line["file"])
    return known, {kind: paths for kind, paths in tests.items() if paths}


def link(paths: list[Path], folder: Path) -> None:
    """A folder of links to the files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted(set(paths)):  # a file of several recordings is listed for each
        (folder / path.name).symlink_to(path.resolve())


def synthetic(folder: Path) -> list[Path]:
    """Files of synthetic sounds, and of the plainest: white noise, a tone, silence."""
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(1_000_003)
    sounds = draw_sounds(DRAWN, SECONDS * RATE, RATE, generator)
    seconds = torch.arange(SECONDS * RATE) / RATE
    plain = [0.1 * torch.randn(len(seconds), generator=generator), 0.1 * torch.sin(6283.2 * seconds), torch.zeros(len(seconds))]
    paths = [folder / f"{number:03}.wav" for number in range(DRAWN + len(plain))]
    for path, sound in zip(paths, [*sounds, *plain], strict=True):
        soundfile.write(path, sound.numpy(), RATE, subtype="FLOAT")
    return paths


def speech(data: Path) -> list[Path]:
    """Spoken digits, and words of Speech Commands' testing list."""
    digits = sorted((data / "fsdd").rglob("*.wav"))
    words = sorted(clip.path for clip in datasets.examples(data / "speech_commands") if clip.split == "test")
    return [*digits[:: max(1, 2 * len(digits) // SPOKEN)], *words[:: max(1, 2 * len(words) // SPOKEN)]]


if __name__ == "__main__":
    main()
