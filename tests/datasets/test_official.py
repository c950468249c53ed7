"""Official layouts are read whole, and whatever is not as documented is named with its file and line."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from support.layouts import MAKERS, noise, table

from audiorep import datasets
from audiorep.datasets import Splits
from audiorep.datasets.clips import Clips
from audiorep.datasets.problems import find_problems
from audiorep.errors import DataError


def replaced(name: str, old: str, new: str, count: int = 1) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, count))

    return edit


def cut(name: str, keep: int) -> Callable[[Path], None]:
    """Leaves out the end of a file, from within its last row."""
    return lambda root: (root / name).write_text((root / name).read_text().rstrip()[:-keep])


def gone(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


EPIC = "EPIC_100_train.csv"
REFUSED = [
    ("vggsound", cut("vggsound.csv", 30), r"vggsound.csv, line 5: (split is ''|4 columns)"),
    ("vggsound", replaced("vggsound.csv", "airplane", "aeroplane", 9), r"vggsound.csv, line 3: .*aeroplane"),
    ("vggsound", replaced("vggsound.csv", "video-1,10", "video-1,ten"), r"vggsound.csv, line 2: .*ten"),
    ("epic_kitchens", replaced(EPIC, "start_timestamp", "start"), r"EPIC_100_train.csv lacks the column start_timestamp"),
    ("epic_kitchens", replaced(EPIC, "00:00:01.500", "1.5 s"), r"EPIC_100_train.csv, line 3: .*1\.5 s"),
    ("epic_kitchens", replaced(EPIC, ",299", ",300"), r"EPIC_100_train.csv, line 2: .*300"),
    ("epic_kitchens", replaced(EPIC, "00:00:01.25", "00:00:00.25"), r"EPIC_100_train.csv, line 2: "),
    ("epic_kitchens", gone("EPIC_100_noun_classes.csv"), r"EPIC_100_noun_classes.csv"),
    ("epic_kitchens", replaced("EPIC_100_verb_classes.csv", "\n3,", "\n4,"), r"EPIC_100_verb_classes.csv"),
    ("epic_sounds", replaced("EPIC_Sounds_train.csv", "class_id", "klass"), r"EPIC_Sounds_train.csv lacks the column class_id"),
    ("epic_sounds", replaced("EPIC_Sounds_train.csv", "class 7,7", "class 7,8"), r"EPIC_Sounds_train.csv, line \d+: .*class"),
    ("epic_sounds", replaced("EPIC_Sounds_train.csv", ",24000,", ",x,"), r"EPIC_Sounds_train.csv, line 3: .*'x'"),
    ("speech_commands", gone("validation_list.txt"), r"validation_list.txt"),
    ("speech_commands", replaced("testing_list.txt", "word01/", "wurd/"), r"testing_list.txt, line 1: .*wurd"),
    ("urbansound8k", replaced("metadata/UrbanSound8K.csv", "slice_file_name", "file"), r"lacks the column slice_file_name"),
    ("urbansound8k", replaced("metadata/UrbanSound8K.csv", ",1,2,1,", ",1,11,1,"), r"UrbanSound8K.csv, line 3: fold is '11'"),
    ("nsynth", cut("nsynth-valid/examples.json", 20), r"nsynth-valid/examples.json"),
    ("nsynth", replaced("nsynth-train/examples.json", "instrument_family_str", "family"), r"instrument_family_str"),
    ("nsynth", replaced("nsynth-train/examples.json", '"bass"', '"kazoo"'), r"kazoo"),
    ("esc50", replaced("meta/esc50.csv", "category", "class"), r"esc50.csv lacks the column category"),
]


@pytest.mark.parametrize(("name", "damage", "says"), REFUSED, ids=[f"{name}-{k}" for k, (name, *_) in enumerate(REFUSED)])
def test_what_is_not_as_documented_is_named(name, damage, says, tmp_path):
    MAKERS[name](tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=says):
        datasets.examples(tmp_path, format=name)


def make_audioset(root: Path) -> None:
    table(
        root / "class_labels_indices.csv", ("index", "mid", "display_name"), [(0, "/m/a", "Speech"), (1, "/m/b", "Music, loud")]
    )
    for name in ("balanced_train_segments", "eval_segments"):
        rows = ['aaa, 30.000, 40.000, "/m/a,/m/b"', '-b_b, 0.000, 10.000, "/m/b"']
        (root / f"{name}.csv").write_text(
            "\n".join(["# Segments", "# YTID, start_seconds, end_seconds, positive_labels", *rows]) + "\n"
        )
    noise(root / "audio" / "Yaaa.wav", 1, 16_000)
    noise(root / "audio" / "-b_b.wav", 1, 16_000)


def test_audioset_gives_several_labels_a_clip(tmp_path):
    make_audioset(tmp_path)
    found = datasets.examples(tmp_path)
    assert datasets.labels(tmp_path) == {"label": ["Speech", "Music, loud"]}
    assert [(e.split, e.labels["label"]) for e in found] == [
        (split, labels) for split in ("train", "test") for labels in (("Speech", "Music, loud"), ("Music, loud",))
    ]
    assert all(e.path.exists() for e in found)
    replaced("eval_segments.csv", "/m/b", "/m/c")(tmp_path)
    with pytest.raises(DataError, match=r"eval_segments.csv, line 3: .*/m/c"):
        datasets.examples(tmp_path)


def test_missing_audio_is_listed_and_the_rest_is_used(tmp_path):
    MAKERS["vggsound"](tmp_path)
    next((tmp_path / "audio").iterdir()).unlink()
    found = datasets.examples(tmp_path)
    assert [p.kind for p in find_problems(found, 0.1) if p.kind == "missing"] == ["missing"]
    clips = Clips(found, datasets.labels(tmp_path), 16_000, 16_000, random_cuts=True)
    assert (len(clips), len(clips.failures)) == (5, 1)


def test_track_that_hdf5_lacks_and_times_past_its_end_are_listed(tmp_path):
    MAKERS["epic_kitchens"](tmp_path)
    replaced(EPIC, "P01_11", "P09_99")(tmp_path)
    replaced(EPIC, "00:00:05.25", "01:00:05.25")(tmp_path)
    problems = find_problems(datasets.examples(tmp_path), 0.1)
    assert Counter(p.kind for p in problems if p.kind in ("missing", "unreadable")) == {"missing": 1, "unreadable": 1}
    assert "is not inside it" in next(p.detail for p in problems if p.kind == "unreadable")


def test_speech_commands_lists_decide_and_silence_is_asked_for(tmp_path):
    MAKERS["speech_commands"](tmp_path)
    found = datasets.examples(tmp_path)
    assert {e.path.parent.name: e.split for e in found if e.split != "train"} == {"word00": "valid", "word01": "test"}
    assert not [e for e in found if e.optional]
    splits = Splits(classes=("word00", "_silence_"), other="_unknown_")
    chosen = datasets.examples(tmp_path, splits=splits)
    assert datasets.labels(tmp_path, splits=splits) == {"label": ["word00", "_silence_", "_unknown_"]}
    silence = [e for e in datasets.listed_examples(tmp_path) if e.optional]
    borders = {"train": (0, 16), "valid": (16, 18), "test": (18, 20)}  # of a recording of 20 s
    assert all(borders[e.split][0] <= e.start and e.end <= borders[e.split][1] + 1e-6 for e in silence)
    assert {e.split for e in silence} == set(borders)
    counts = Counter(e.labels["label"][0] for e in chosen if e.split == "train")
    assert counts == {"word00": 2, "_silence_": 2, "_unknown_": 2}
    with pytest.raises(DataError, match="yes"):
        datasets.examples(tmp_path, splits=Splits(classes=("yes",)))


def test_fsdd_leaves_out_a_speaker_a_fold(tmp_path):
    for digit in range(2):
        for speaker in ("theo", "ann"):
            noise(tmp_path / f"recordings/{digit}_{speaker}_0.wav", 0.4, 8000)
    found = datasets.examples(tmp_path, splits=Splits(test_folds=(1,)))
    assert {(e.group, e.fold, e.split) for e in found} == {("ann", 1, "test"), ("theo", 2, "train")}
    soundfile.write(tmp_path / "recordings/odd.wav", [0.0] * 100, 8000)
    with pytest.raises(DataError, match=r"odd\.wav"):
        datasets.examples(tmp_path, format="fsdd")


def test_urbansound8k_with_a_fold_missing_is_not_cross_validated(tmp_path):
    MAKERS["urbansound8k"](tmp_path)
    assert datasets.folds(tmp_path) == list(range(1, 11))
    path = tmp_path / "metadata/UrbanSound8K.csv"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if ",1,4,3," not in line) + "\n")
    with pytest.raises(DataError, match=r"lacks fold 4|left out"):
        datasets.folds(tmp_path)


OFFICIAL = [
    ("vggsound", ["vggsound_test.csv"], 15_446, {"label": 309}, {"test"}),
    (
        "epic_kitchens",
        ["EPIC_100_validation.csv", "EPIC_100_verb_classes.csv", "EPIC_100_noun_classes.csv"],
        9_668,
        {"verb": 97, "noun": 300},
        {"valid"},
    ),
    ("epic_sounds", ["EPIC_Sounds_validation.csv"], 8_035, {"label": 44}, {"valid"}),
    ("urbansound8k", ["UrbanSound8K.csv"], 8_732, {"label": 10}, {""}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "files", "clips", "heads", "splits"), OFFICIAL, ids=[row[0] for row in OFFICIAL])
def test_official_annotations_are_whole(name, files, clips, heads, splits, audiorep_data, tmp_path):
    for file in files:
        shutil.copy(audiorep_data / "annotations" / file, tmp_path)
    found, labels = datasets.examples(tmp_path), datasets.labels(tmp_path)
    assert datasets.detect(tmp_path) == name
    assert len(found) == clips
    assert {head: len(set(names)) for head, names in labels.items()} == heads
    assert {e.split for e in found} == splits
    assert all(label in labels[head] for e in found for head, names in e.labels.items() for label in names)
    assert len({e.fold for e in found}) == (10 if name == "urbansound8k" else 1)


@pytest.mark.slow
def test_real_words_and_digits_are_whole(audiorep_data):
    words = datasets.examples(audiorep_data / "speech_commands")
    assert len(words) == 5_458
    assert len(datasets.labels(audiorep_data / "speech_commands")["label"]) == 30
    assert not {e.group for e in words if e.split == "train"} & {e.group for e in words if e.split == "test"}
    digits = datasets.examples(audiorep_data / "fsdd")
    assert Counter(e.fold for e in digits) == dict.fromkeys(range(1, 7), 500)
    assert {e.group for e in digits if e.fold == 1} == {"george"}
