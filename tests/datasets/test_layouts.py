"""Labelled clips in every layout become the same examples, and each lies in one split for good."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from audiorep import datasets
from audiorep.datasets import Example, Splits, labels_of
from audiorep.datasets.example import split_examples
from audiorep.errors import ConfigError, DataError


def touch(root: Path, *names: str) -> Path:
    """Empty files, for what is never opened."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def manifest(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "clips.csv"
    path.write_bytes(text.encode(encoding))
    return path


def refusal(root: Path, **arguments: object) -> str:
    """What the data is refused with; the text names it."""
    with pytest.raises(DataError) as caught:
        datasets.examples(root, **arguments)
    assert str(root) in str(caught.value)
    return str(caught.value)


def make(count: int, label: str = "dog", **fields: object) -> list[Example]:
    return [Example(Path("data") / label / f"{k}.wav", {"label": (label,)}, **fields) for k in range(count)]


def splits_of(examples: list[Example], splits: Splits | None = None) -> dict[str, str]:
    return {e.path.as_posix(): e.split for e in split_examples(examples, splits or Splits())}


# ---------------------------------------------------------------- folders


def test_folder_per_class_gives_its_name_as_the_label_at_any_depth(tmp_path):
    touch(tmp_path, "dog/a.wav", "dog/deep/er/b.FLAC", "cat/c.ogg", "readme.txt", "dog/notes.txt")
    found = datasets.examples(tmp_path)
    assert [(e.path.relative_to(tmp_path).as_posix(), e.labels) for e in found] == [
        ("cat/c.ogg", {"label": ("cat",)}),
        ("dog/a.wav", {"label": ("dog",)}),
        ("dog/deep/er/b.FLAC", {"label": ("dog",)}),
    ]


def test_what_is_hidden_or_background_is_no_clip(tmp_path):
    touch(tmp_path, "dog/a.wav", ".git/x/b.wav", "dog/.c.wav", "dog/._a.wav", "dog/.cache/d.wav", "_background_noise_/e.wav")
    (tmp_path / "dog" / "folder.wav").mkdir()
    assert [e.path.name for e in datasets.examples(tmp_path)] == ["a.wav"]


def test_link_to_a_sound_that_is_gone_stays_a_clip_so_that_it_is_reported(tmp_path):
    touch(tmp_path, "dog/a.wav")
    (tmp_path / "dog" / "b.wav").symlink_to(tmp_path / "gone.wav")
    assert [e.path.name for e in datasets.examples(tmp_path)] == ["a.wav", "b.wav"]


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Training", "val", "TESTING"), ("train", "dev", "test")])
def test_split_folders_above_the_classes_are_the_splits(tmp_path, names):
    for name in names:
        touch(tmp_path, f"{name}/dog/a.wav", f"{name}/cat/b.wav")
    found = datasets.examples(tmp_path)
    assert Counter((e.split, e.labels["label"]) for e in found) == {
        (split, (label,)): 1 for split in ("train", "valid", "test") for label in ("cat", "dog")
    }
    assert {e.path.parts[-3] for e in datasets.examples(tmp_path, "valid")} == {names[1]}


def test_split_folders_beside_others_are_the_splits_all_the_same(tmp_path):
    touch(tmp_path, "train/dog/a.wav", "test/dog/b.wav", "docs/readme.txt", "noise/c.wav")
    assert [(e.path.name, e.split) for e in datasets.examples(tmp_path)] == [("b.wav", "test"), ("a.wav", "train")]


def test_class_that_is_called_test_is_a_class_where_no_other_split_is(tmp_path):
    touch(tmp_path, "test/a.wav", "dog/b.wav")
    assert labels_of(datasets.examples(tmp_path)) == {"label": ["dog", "test"]}


@pytest.mark.parametrize("names", [(), ("a.wav",), ("dog/notes.txt",), ("train/a.wav",)])
def test_folder_without_classes_is_refused_with_the_layout(tmp_path, names):
    touch(tmp_path, *names)
    text = refusal(tmp_path)
    assert f"expected {tmp_path.name}/<class>/<clip>.wav, or a split (train, valid, test) above the class" in text


def test_file_read_as_a_folder_is_refused(tmp_path):
    assert "is a file; a folder with one folder a class is needed" in refusal(manifest(tmp_path, "x"), format="folder")


# ---------------------------------------------------------------- manifests


def test_manifest_row_becomes_an_example_with_every_field(tmp_path):
    text = "path,label,start,end,split,fold,group,license\nx/a.wav,dog,1.5,2,valid,3,rex,CC0\n/abs/b.wav, cat ; dog ,,,,,,\n"
    first, second = datasets.examples(manifest(tmp_path, text))
    assert first == Example(tmp_path / "x/a.wav", {"label": ("dog",)}, 1.5, 2.0, "valid", 3, "rex", "CC0")
    assert second == Example(Path("/abs/b.wav"), {"label": ("cat", "dog")}, split="train")


def test_manifest_needs_only_path_and_label_in_any_order(tmp_path):
    [found] = datasets.examples(manifest(tmp_path, "comment,label,path\nnice,dog,a.wav\n"))
    assert found == Example(tmp_path / "a.wav", {"label": ("dog",)}, split="train")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_manifest_of_any_editor_is_read(tmp_path, encoding, newline):
    text = newline.join(["path,label", '"größe, 1.wav","two', 'lines"', "", "b.wav,dog", ""])
    first, second = datasets.examples(manifest(tmp_path, text, encoding))
    assert first.path.name == "größe, 1.wav"
    assert first.labels["label"][0].split() == ["two", "lines"]
    assert second.path.name == "b.wav"


def test_manifest_without_a_needed_column_is_refused_with_what_it_has(tmp_path):
    text = refusal(manifest(tmp_path, "file,class\na.wav,dog\n"))
    assert "lacks the column path, label; its header names file, class." in text


def test_empty_manifest_is_refused(tmp_path):
    assert "lacks the column path, label; its header names nothing." in refusal(manifest(tmp_path, ""))


def test_manifest_with_a_header_alone_is_refused(tmp_path):
    assert "has a header and no rows" in refusal(manifest(tmp_path, "path,label\n"))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.wav", "7 columns are needed, as in the header"),
        ("a.wav,dog,0,1,train,1,g,more", "7 columns are needed, as in the header"),
        ("a.wav,dog,zero,,,,", "start is 'zero'; a number is needed"),
        ("a.wav,dog,nan,,,,", "start is 'nan'; a number is needed"),
        ("a.wav,dog,,inf,,,", "end is 'inf'; a number is needed"),
        ("a.wav,dog,,,,one,", "fold is 'one'; a number is needed"),
        ("a.wav,dog,,,,nan,", "fold is 'nan'; a number is needed"),
        ("a.wav,dog,,,,1.5,", "fold is '1.5'; a whole number is needed"),
        ("a.wav,dog,,,training,,", "split is 'training'; allowed are train, valid, test"),
        (" ,dog,,,,,", "the path is empty"),
    ],
)
def test_row_that_cannot_be_used_is_refused_with_its_line(tmp_path, row, problem):
    path = manifest(tmp_path, f'path,label,start,end,split,fold,group\n"b.wav","two\nlines",,,,,\n{row}\n')
    assert f"{path}, line 4: {problem}" in refusal(path)


@pytest.mark.parametrize("data", [b'path,label\n"a.wav,dog\n', b"path,label\n\xff\xfe.wav,dog\n", b"\x89PNG\r\n\x1a\n\0\0"])
def test_file_that_is_no_csv_is_refused(tmp_path, data):
    (tmp_path / "clips.csv").write_bytes(data)
    assert "is not a CSV file in UTF-8" in refusal(tmp_path / "clips.csv")


def test_folder_read_as_a_manifest_is_refused_with_the_reason(tmp_path):
    assert "cannot be read: Is a directory" in refusal(tmp_path, format="csv")


# ---------------------------------------------------------------- ESC-50


HEADER = "filename,fold,target,category,src_file,license\n"


def esc50(root: Path, rows: str) -> Path:
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text(HEADER + rows)
    return root


def test_esc50_layout_is_recognized_and_read(tmp_path):
    esc50(tmp_path, "1-a.ogg,1,0,dog,100,CC0\n2-b.ogg,2,1,rain,200,CC BY\n")
    first, second = datasets.examples(tmp_path, splits=Splits(test_folds=(2,)))
    assert first == Example(tmp_path / "audio/1-a.ogg", {"label": ("dog",)}, split="train", fold=1, group="100", license="CC0")
    assert (second.split, second.fold, second.group) == ("test", 2, "200")


def test_esc50_with_a_fold_that_is_no_number_is_refused_with_its_line(tmp_path):
    assert "line 3: fold is 'x'; a number is needed" in refusal(esc50(tmp_path, "a.ogg,1,0,dog,1,\nb.ogg,x,0,dog,1,\n"))


def test_esc50_without_clips_is_refused(tmp_path):
    assert "has a header and no rows" in refusal(esc50(tmp_path, ""))


def test_folder_that_is_said_to_be_esc50_and_is_not_is_refused(tmp_path):
    assert "esc50.csv cannot be read: No such file" in refusal(tmp_path, format="esc50")


def test_real_esc50_is_whole(audiorep_data):
    found = datasets.examples(audiorep_data / "esc50", splits=Splits(valid_folds=(4,), test_folds=(5,)))
    assert len(found) == 2000
    counts = Counter(e.labels["label"] for e in found)
    assert len(counts) == 50
    assert set(counts.values()) == {40}
    assert Counter(e.fold for e in found) == dict.fromkeys(range(1, 6), 400)
    assert Counter(e.split for e in found) == {"train": 1200, "valid": 400, "test": 400}
    assert {e.fold for e in found if e.split == "test"} == {5}
    folds_of: dict[str, set[int | None]] = {}
    for e in found:
        folds_of.setdefault(e.group, set()).add(e.fold)
    assert {group for group, folds in folds_of.items() if len(folds) > 1} == {"131943", "134049", "209698", "234879"}
    assert all(e.path.is_file() for e in found)


# ---------------------------------------------------------------- recognizing the layout


def test_layout_is_recognized(tmp_path):
    (tmp_path / "e").mkdir()
    assert datasets.detect(manifest(tmp_path, "path,label\n")) == "csv"
    assert datasets.detect(esc50(tmp_path / "e", "")) == "esc50"
    assert datasets.detect(tmp_path) == "folder"


def test_missing_data_is_refused(tmp_path):
    assert "does not exist; a folder of clips or a CSV manifest is needed" in refusal(tmp_path / "gone")


def test_unknown_format_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(DataError, match=r"'xml'.* csv, shards, esc50, "):
        datasets.examples(tmp_path, format="xml")


def test_split_without_clips_is_refused_with_those_there_are(tmp_path):
    path = manifest(tmp_path, "path,label,split\na.wav,dog,train\nb.wav,dog,test\n")
    assert "has no clips in split 'valid'; it has test, train." in refusal(path, split="valid")


# ---------------------------------------------------------------- labels


def test_labels_of_each_head_are_sorted_and_told_once():
    found = [
        Example(Path("a"), {"verb": ("wash", "cut"), "noun": ("pan",)}),
        Example(Path("b"), {"verb": ("cut",), "noun": ()}),
    ]
    assert labels_of(found) == {"verb": ["cut", "wash"], "noun": ["pan"]}


# ---------------------------------------------------------------- splits


def test_split_that_the_data_names_wins_over_folds_and_fractions():
    clips = [*make(2, split="test", fold=1), *make(3, "cat", fold=2), *make(1, "cow", split="valid", fold=2)]
    found = split_examples(clips, Splits(valid_folds=(1,), test_folds=(2,)))
    assert [e.split for e in found] == ["test", "test", "train", "train", "train", "valid"]


def test_folds_that_are_named_validate_and_test_and_the_others_train():
    clips = [clip for fold in (1, 2, 3, 4, None) for clip in make(2, f"class{fold}", fold=fold)]
    found = split_examples(clips, Splits(valid_folds=(2,), test_folds=(3, 4)))
    assert [e.split for e in found] == ["train"] * 2 + ["valid"] * 2 + ["test"] * 4 + ["train"] * 2


@pytest.mark.parametrize(("fold", "have"), [(1, "1"), (None, "none")])
def test_fold_that_the_data_does_not_have_is_refused_with_those_it_has(fold, have):
    with pytest.raises(DataError, match=rf"\[7\].* {have}\."):
        split_examples(make(3, fold=fold), Splits(test_folds=(7,)))


@pytest.mark.parametrize("count", [3, 4, 5, 10, 37, 100])
def test_each_class_is_divided_by_the_fractions_with_one_clip_at_least_in_each(count):
    found = splits_of([*make(count), *make(50, "cat")], Splits(valid_fraction=0.1, test_fraction=0.2))
    counts = Counter(split for path, split in found.items() if "/dog/" in path)
    assert counts["test"] == max(1, round(0.2 * count))
    assert counts["valid"] == max(1, round(0.1 * count))
    assert counts["train"] == count - counts["test"] - counts["valid"]
    assert counts["train"] >= 1


@pytest.mark.parametrize("fractions", [(0.45, 0.5), (0.5, 0.45), (0.9, 0.05), (0.3, 0.69)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_some_clip_of_each_class_is_left_to_train_on_and_no_split_is_without(count, fractions):
    counts = Counter(splits_of(make(count), Splits(valid_fraction=fractions[0], test_fraction=fractions[1])).values())
    assert counts["train"] >= 1
    assert count < 3 or min(counts["valid"], counts["test"]) >= 1


def test_split_of_fraction_zero_stays_empty():
    counts = Counter(splits_of(make(20), Splits(valid_fraction=0.25, test_fraction=0)).values())
    assert counts == {"train": 15, "valid": 5}


def test_split_depends_on_neither_order_nor_the_place_of_the_data():
    clips = [*make(30), *make(20, "cat")]
    shuffled = random.Random(0).sample(clips, len(clips))
    moved = [Example(Path("/elsewhere") / clip.path, clip.labels) for clip in clips]
    found = splits_of(clips)
    assert splits_of(shuffled) == found
    assert [split for _, split in sorted(splits_of(moved).items())] == [split for _, split in sorted(found.items())]


def test_adding_clips_moves_few_of_the_others_and_none_of_another_class():
    before = splits_of([*make(100), *make(50, "cat")])
    after = splits_of([*make(120), *make(50, "cat")])
    moved = [path for path in before if before[path] != after[path]]
    assert len(moved) <= 20
    assert not any("/cat/" in path for path in moved)
    ever_tested = {path for path in before if before[path] == "test"}
    assert sum(after[path] == "train" for path in ever_tested) <= 4


def test_clips_of_a_group_never_lie_in_two_splits_even_with_several_labels():
    clips = [Example(Path(f"{k}.wav"), {"label": (f"class{k % 3}",)}, group=f"speaker{k % 17}") for k in range(400)]
    found = split_examples(clips, Splits())
    splits: dict[str, set[str]] = {}
    for clip in found:
        splits.setdefault(clip.group, set()).add(clip.split)
    assert all(len(names) == 1 for names in splits.values())
    assert {name for names in splits.values() for name in names} == {"train", "valid", "test"}


def test_stretches_of_one_recording_never_lie_in_two_splits():
    clips = [
        Example(Path("data") / f"{k % 10}.wav", {"label": (f"class{k % 2}",)}, start=float(k), end=k + 1.0) for k in range(200)
    ]
    splits: dict[Path, set[str]] = {}
    for clip in split_examples(clips, Splits()):
        splits.setdefault(clip.path, set()).add(clip.split)
    assert all(len(names) == 1 for names in splits.values())


def test_name_that_is_not_utf_8_is_divided_like_any_other():
    assert set(splits_of([Example(Path("dog/\udcff.wav"), {"label": ("dog",)})]).values()) == {"train"}


def test_only_clips_under_the_licenses_named_are_used():
    clips = [*make(2, license="CC0"), *make(2, "cat", license="CC BY"), *make(2, "cow", license="CC BY-NC"), *make(1, "hen")]
    found = split_examples(clips, Splits(licenses=("CC0", "CC BY")))
    assert [e.license for e in found] == ["CC0", "CC0", "CC BY", "CC BY"]
    assert len(split_examples(clips, Splits())) == 7


def test_licenses_that_no_clip_has_are_refused_with_those_found():
    with pytest.raises(DataError) as caught:
        split_examples([*make(2, license="CC BY-NC"), *make(1, "cat")], Splits(licenses=("CC0", "CC BY")))
    assert str(caught.value) == "No clip of the data has the license CC0 or CC BY; found are CC BY-NC (2), none (1)."


@pytest.mark.parametrize(("valid", "test"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5), (1.0, 0.0)])
def test_fractions_that_leave_nothing_to_train_on_are_refused(valid, test):
    with pytest.raises(ConfigError, match=f"valid_fraction {valid} .*test_fraction {test}"):
        Splits(valid_fraction=valid, test_fraction=test)


def test_fold_that_validates_and_tests_is_refused():
    with pytest.raises(ConfigError, match=r"\[2\]"):
        Splits(valid_folds=(1, 2), test_folds=(2, 3))
