"""Made-up data in the layouts of public data sets."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiorep.datasets import vggsound
from audiorep.training.recipe import PROTOCOLS


def noise(path: Path, seconds: float, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(zlib.crc32(str(path).encode()))
    soundfile.write(path, 0.1 * generator.standard_normal(int(seconds * rate)), rate)


def table(path: Path, header: Sequence[str] | None, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)


def make_vggsound(root: Path) -> None:
    rows = [(f"video-{n}", 10 * n, vggsound.labels(root)["label"][n % 3], "test" if n == 5 else "train") for n in range(6)]
    table(root / "vggsound.csv", None, rows)
    for n, (name, start, *_) in enumerate(rows):
        noise(root / "audio" / f"{name}_{start:06d}.wav", (10.0, 3.0)[n % 2], 16_000)


def make_epic_kitchens(root: Path) -> None:
    for head, count in PROTOCOLS["epic_kitchens"].heads.items():
        names = [(k, f"{head}{k}", "[]", "x") for k in range(count)]
        table(root / f"EPIC_100_{head}_classes.csv", ("id", "key", "instances", "category"), names)
    header = ("narration_id", "video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
    for name, video, count in (("train", "P01_11", 6), ("validation", "P02_01", 2)):
        rows = [(n, video, f"00:00:0{n}.500", f"00:00:0{n + 1 + n % 3}.25", n % 97, 299 - n) for n in range(count)]
        table(root / f"EPIC_100_{name}.csv", header, rows)
    with pytest.importorskip("h5py").File(root / "EPIC_audio.hdf5", "w") as file:
        for video in ("P01_11", "P02_01"):
            file[video] = (0.1 * np.random.default_rng(0).standard_normal(12 * 24_000)).astype(np.float32)


def make_epic_sounds(root: Path) -> None:
    header = ("annotation_id", "video_id", "start_sample", "stop_sample", "class", "class_id")
    rows = [(n, "P01_11", 24_000 * (n % 8), 24_000 * (n % 8) + 30_000, f"class {n}", n) for n in range(44)]
    table(root / "EPIC_Sounds_train.csv", header, rows)
    table(root / "EPIC_Sounds_validation.csv", header, [(n, "P02_01", *rest) for n, _, *rest in rows[:3]])
    for video in ("P01_11", "P02_01"):
        noise(root / f"{video}.flac", 12, 24_000)


def make_speech_commands(root: Path) -> None:
    for n in range(35):
        for speaker in "abc"[: 3 if n < 3 else 1]:
            noise(root / f"word{n:02}" / f"{speaker}_nohash_0.wav", (1.0, 0.7)[n % 2], 16_000)
    (root / "validation_list.txt").write_text("word00/b_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("word01/c_nohash_0.wav\n")
    noise(root / "_background_noise_" / "hum.wav", 20, 16_000)


def make_urbansound8k(root: Path) -> None:
    rows = [(f"{n}-{n % 10}-0-0.wav", n, 0.0, 4.0, 1, n % 10 + 1, n % 10, f"class{n % 10}") for n in range(20)]
    table(
        root / "metadata/UrbanSound8K.csv",
        ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"),
        rows,
    )
    for name, *_, fold, _, _ in rows:
        noise(root / f"audio/fold{fold}" / name, 1.5, 22_050)


def make_nsynth(root: Path) -> None:
    for split in ("train", "valid", "test"):
        names = [f"{family}_acoustic_00{n}" for n in range(2) for family in ("bass", "synth_lead", "vocal")]
        notes = {f"{name}-060-100": {"instrument_family_str": name[:-13], "instrument_str": name} for name in names}
        for key in notes:
            noise(root / f"nsynth-{split}/audio/{key}.wav", 4, 16_000)
        (root / f"nsynth-{split}/examples.json").write_text(json.dumps(notes))


def make_esc50(root: Path) -> None:
    rows = [
        (f"{fold}-{fold}{n}-A-{n}.wav", fold, n, f"class{n}", "False", f"{fold}{n}", "A")
        for fold in range(1, 6)
        for n in range(2)
    ]
    table(root / "meta/esc50.csv", ("filename", "fold", "target", "category", "esc10", "src_file", "take"), rows)
    for name, *_ in rows:
        noise(root / "audio" / name, 5, 16_000)


PAPER = ("vggsound", "epic_kitchens", "epic_sounds", "speech_commands", "urbansound8k", "nsynth", "esc50")
MAKERS: dict[str, Callable[[Path], None]] = {name: globals()[f"make_{name}"] for name in PAPER}
