"""A folder of sounds is read as splits or classes whatever lies beside them, and what is passed over is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audiorep import datasets
from audiorep.errors import DataError


def touch(root: Path, *names: str) -> Path:
    """Empty files, for what is never opened; a name that ends in `/` is a folder."""
    for name in names:
        if name.endswith("/"):
            (root / name).mkdir(parents=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    return root


def read(root: Path) -> set[tuple[str, str, str]]:
    """(split as the data names it, label, file) of each clip."""
    return {(e.split, e.labels["label"][0], e.path.name) for e in datasets.listed_examples(root)}


TRAIN_AND_TEST = ("train/dog/a.wav", "train/cat/b.wav", "test/dog/c.wav", "test/cat/d.wav")
SPLIT = {("train", "dog", "a.wav"), ("train", "cat", "b.wav"), ("test", "dog", "c.wav"), ("test", "cat", "d.wav")}


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        (("docs/readme.txt",), "docs (no sounds)"),
        (("docs/",), "docs (no sounds)"),
        (("background_noise/n.wav", "background_noise/m.wav"), "background_noise (2 sounds)"),
        (("_background_noise_/n.wav",), "_background_noise_ (1 sound)"),
        (("extra/dog/e.wav", "extra/cow/f.wav"), "extra (2 sounds)"),
        (("a/x.wav", "b/x.wav"), "a (1 sound), b (1 sound)"),
    ],
)
def test_folder_beside_splits_is_passed_over_and_named(tmp_path, beside, told):
    touch(tmp_path, *TRAIN_AND_TEST, *beside)
    assert read(tmp_path) == SPLIT
    assert datasets.notes(tmp_path) == [
        f"{tmp_path} is read as splits: test as test, train as train. Passed over, since beside them: {told}."
    ]


@pytest.mark.parametrize("beside", [".git/x/y.wav", "__MACOSX/dog/a.wav", ".ipynb_checkpoints/z.wav", "@eaDir/a.wav"])
def test_what_machines_leave_beside_is_passed_over_without_a_word(tmp_path, beside):
    touch(tmp_path, *TRAIN_AND_TEST, beside, "README", "labels.csv", "notes.txt")
    assert read(tmp_path) == SPLIT
    assert datasets.notes(tmp_path) == []


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "val", "test"), ("train", "valid", "test")),
        (("Train", "VALIDATION", "Testing"), ("train", "valid", "test")),
        (("training", "dev", "eval"), ("train", "valid", "test")),
        (("train", "evaluation"), ("train", "test")),
        (("train", "eval", "test"), ("train", "valid", "test")),
        (("development", "evaluation"), ("train", "test")),
        (("train_set", "test-data"), ("train", "test")),
        (("trainset", "testset", "devset"), ("train", "test", "valid")),
    ],
)
def test_split_folders_of_other_names_are_read_as_what_they_are_together_and_that_is_said(tmp_path, names, splits):
    for name in names:
        touch(tmp_path, f"{name}/dog/a.wav", f"{name}/cat/b.wav")
    found = datasets.listed_examples(tmp_path)
    assert {(e.path.parts[-3], e.split) for e in found} == set(zip(names, splits, strict=True))
    [note] = datasets.notes(tmp_path)
    assert all(f"{name} as {split}" in note for name, split in zip(names, splits, strict=True))


def test_two_folders_of_one_split_are_both_read(tmp_path):
    touch(tmp_path, "train/dog/a.wav", "val/dog/b.wav", "validation/dog/c.wav")
    assert {e.split for e in datasets.listed_examples(tmp_path) if e.path.parts[-3].startswith("val")} == {"valid"}
    assert "val as valid, validation as valid" in datasets.notes(tmp_path)[0]


def test_plain_splits_and_plain_classes_need_no_word(tmp_path):
    touch(tmp_path / "one", *TRAIN_AND_TEST, "valid/dog/e.wav", "valid/cat/f.wav")
    touch(tmp_path / "two", "dog/a.wav", "cat/deep/b.wav")
    assert datasets.notes(tmp_path / "one") == datasets.notes(tmp_path / "two") == []


@pytest.mark.parametrize(
    "beside", [("noise/n.wav",), ("extra/dog/e.wav", "extra/cat/f.wav", "extra/cat/g.wav"), ("docs/x.txt",)]
)
def test_one_split_beside_another_folder_is_a_split(tmp_path, beside):
    touch(tmp_path, "train/dog/a.wav", "train/cat/b.wav", *beside)
    assert read(tmp_path) == {("train", "dog", "a.wav"), ("train", "cat", "b.wav")}
    assert "is read as splits: train as train. Passed over" in datasets.notes(tmp_path)[0]


@pytest.mark.parametrize("name", ["train", "test", "val", "Eval"])
@pytest.mark.parametrize("inside", ["", "first take/"])
def test_class_that_is_called_like_a_split_is_a_class_among_others(tmp_path, name, inside):
    touch(tmp_path, f"{name}/{inside}a.wav", "plane/b.wav", "car/c.wav")
    assert {label for _, label, _ in read(tmp_path)} == {name, "plane", "car"}
    [note] = datasets.notes(tmp_path)
    assert f"is read as a folder a class: {name} is one too, and no split" in note


def test_splits_inside_the_classes_are_not_honoured_and_that_is_said(tmp_path):
    touch(tmp_path, "dog/train/a.wav", "dog/test/b.wav", "cat/train/c.wav")
    assert {split for split, _, _ in read(tmp_path)} == {""}
    assert datasets.notes(tmp_path) == [
        f"Folders called test, train lie inside class folders of {tmp_path} and are not read as splits."
    ]


def test_sounds_outside_class_folders_are_named(tmp_path):
    touch(tmp_path, *TRAIN_AND_TEST, "loose.wav", "train/too.wav")
    assert read(tmp_path) == SPLIT
    assert datasets.notes(tmp_path) == ["2 sounds lie outside class folders and are passed over: loose.wav, train/too.wav."]


def test_class_folder_without_sounds_is_named_with_the_formats_that_are_not_read(tmp_path):
    touch(tmp_path, "dog/a.wav", "cat/b.m4a", "cat/c.M4A", "cat/d", "cow/", "dog/notes.txt")
    assert {label for _, label, _ in read(tmp_path)} == {"dog"}
    assert datasets.notes(tmp_path) == [
        "No sounds are in cat, cow.",
        "3 files of other formats were passed over: .m4a (2), without suffix (1).",
    ]


def test_empty_class_of_a_split_and_noise_in_it_are_named(tmp_path):
    touch(tmp_path, *TRAIN_AND_TEST, "test/cow/", "train/_background_noise_/n.wav")
    assert read(tmp_path) == SPLIT
    assert datasets.notes(tmp_path) == [
        "No sounds are in test/cow.",
        "Background noise is no class and passed over: train/_background_noise_.",
    ]


def test_background_noise_beside_classes_is_passed_over_and_named(tmp_path):
    touch(tmp_path, "dog/a.wav", "_Background_/n.wav")
    assert {label for _, label, _ in read(tmp_path)} == {"dog"}
    assert datasets.notes(tmp_path) == ["Background noise is no class and passed over: _Background_."]


def test_splits_without_class_folders_are_refused_with_their_names(tmp_path):
    touch(tmp_path, "train/a.wav", "test/b.wav", "noise/c.wav")
    with pytest.raises(DataError, match="test, train"):
        datasets.listed_examples(tmp_path)


def test_empty_split_folders_beside_classes_do_not_hide_the_classes(tmp_path):
    touch(tmp_path, "train/", "test/", "dog/a.wav", "cat/b.wav")
    assert {label for _, label, _ in read(tmp_path)} == {"dog", "cat"}
    assert datasets.notes(tmp_path) == ["No sounds are in test, train."]


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    touch(tmp_path, "elsewhere/deep/a.wav", "data/dog/b.wav", "data/cat/c.wav")
    (tmp_path / "data" / "dog" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "cow").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "data" / "cat" / "up").symlink_to(tmp_path / "data" / "cat")
    assert read(tmp_path / "data") == {("", "dog", "a.wav"), ("", "dog", "b.wav"), ("", "cat", "c.wav"), ("", "cow", "a.wav")}


def test_name_that_is_no_text_is_a_class_of_an_escaped_name(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    touch(tmp_path, os.fsdecode(b"caf\xe9/\xff.wav"), "dog/a.wav")
    assert {label for _, label, _ in read(tmp_path)} == {"caf\\xe9", "dog"}


def test_folder_with_a_blank_name_is_refused(tmp_path):
    touch(tmp_path, " /a.wav", "dog/b.wav")
    with pytest.raises(DataError, match="blank"):
        datasets.listed_examples(tmp_path)
