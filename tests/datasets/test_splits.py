"""Each class gets its share of every split, groups stay whole, and the same clips are always divided alike."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from audiorep.datasets import Example, Splits, examples
from audiorep.datasets.example import split_examples
from audiorep.datasets.prepare import prepare
from audiorep.datasets.random_split import draw_splits, groups_of

SHARES = (0.15, 0.15)  # test, valid


def clip(path: str, *labels: str, group: str = "", **fields: object) -> Example:
    return Example(Path(path), {"label": labels}, group=group, **fields)


def counts_of(clips: list[Example], drawn: list[str]) -> dict[str, Counter[str]]:
    """{label: {split: clips}}."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for example, split in zip(clips, drawn, strict=True):
        for label in example.all_labels:
            found[label][split] += 1
    return found


def whole(clips: list[Example], drawn: list[str]) -> bool:
    """Whether no group lies in two splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(groups_of(clips), drawn, strict=True):
        splits[group].add(split)
    return all(len(found) == 1 for found in splits.values())


def test_clips_of_two_classes_are_no_group_because_their_folders_have_the_same_numbers():
    clips = [clip(f"data/{label}/{k}/{n}.wav", label) for label in ("dog", "cat", "cow") for k in range(10) for n in range(2)]
    assert len(set(groups_of(clips))) == 60
    found = counts_of(clips, draw_splits(clips, *SHARES))
    assert found == {label: {"test": 3, "valid": 3, "train": 14} for label in ("dog", "cat", "cow")}


def test_files_of_one_name_in_one_class_are_drawn_apart():
    clips = [clip(f"data/dog/take{k}/audio/1.wav", "dog") for k in range(20)]
    drawn = draw_splits(clips, *SHARES)
    assert Counter(drawn) == {"test": 3, "valid": 3, "train": 14}
    assert drawn[:3] != ["test"] * 3 or drawn[3:6] != ["valid"] * 3  # by hash, not by name


def test_the_draw_is_of_the_lowest_hashes_of_the_ends_of_paths_wherever_the_data_lies():
    clips = [clip(f"/one/data/dog/{k}.wav", "dog") for k in range(40)]
    ordered = sorted(range(40), key=lambda k: hashlib.sha256(f"dog/{k}.wav".encode()).digest())
    drawn = draw_splits(clips, *SHARES)
    assert [k for k in range(40) if drawn[k] == "test"] == sorted(ordered[:6])
    assert [k for k in range(40) if drawn[k] == "valid"] == sorted(ordered[6:12])
    assert draw_splits([clip(f"elsewhere/dog/{k}.wav", "dog") for k in range(40)], *SHARES) == drawn


def test_names_of_files_are_as_long_as_it_takes_to_tell_them_apart():
    paths = ["r/dog/1/a.wav", "r/cat/1/a.wav", "r/cat/1/b.wav", "r/x/cat/1/a.wav", "a.wav", "/abs/b.wav"]
    names = ["dog/1/a.wav", "r/cat/1/a.wav", "1/b.wav", "x/cat/1/a.wav", "a.wav", "abs/b.wav"]
    same = ["r/dog/a.wav", "r/x/dog/a.wav", "r/a.wav", "r/r/a.wav"]
    for root in ("r", "/else/where/q"):  # the root's own name is no part of them
        clips = [clip(f"{root}{path.removeprefix('r')}", "x") for path in same]
        assert groups_of(clips)[:2] == ["dog/a.wav", "x/dog/a.wav"]
        assert len(set(groups_of(clips))) == 4
    assert groups_of([clip(path, "x") for path in paths]) == names
    assert groups_of([clip("r/dog/1.wav", "x", group="7"), clip("q/dog/1.wav", "x", start=1.0)]) == ["7", "dog/1.wav"]


def test_speakers_who_say_all_words_are_divided_as_a_whole_and_every_word_is_in_every_split():
    clips = [clip(f"{w}/{s}_{n}.wav", f"w{w}", group=f"s{s}") for w in range(12) for s in range(20) for n in range(3)]
    drawn = draw_splits(clips, *SHARES)
    assert whole(clips, drawn)
    assert counts_of(clips, drawn) == {f"w{w}": {"test": 9, "valid": 9, "train": 42} for w in range(12)}


def test_one_huge_recording_does_not_take_a_class_along_into_the_test():
    for name in "abcdefgh":  # whichever hash it has
        clips = [clip(f"{k}.wav", "dog", group=f"small {k}") for k in range(20)]
        clips += [clip("huge.wav", "dog", group=name, start=float(k)) for k in range(100)]
        drawn = draw_splits(clips, *SHARES)
        assert whole(clips, drawn)
        assert drawn[-1] == "train"
        assert Counter(drawn) == {"train": 100 + 14, "test": 3, "valid": 3}


@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 1, 1), (30, 40, 50), (9, 9, 9, 9)])
def test_a_class_of_three_groups_has_one_in_each_split_however_large_they_are(sizes):
    clips = [clip(f"{g}/{k}.wav", "dog", group=f"g{g}") for g, size in enumerate(sizes) for k in range(size)]
    drawn = draw_splits(clips, *SHARES)
    assert whole(clips, drawn)
    assert set(drawn) == {"train", "valid", "test"}


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_of_one_or_two_clips_trains(count):
    assert draw_splits([clip(f"{k}.wav", "dog") for k in range(count)], *SHARES) == ["train"] * count


@pytest.mark.parametrize("seed", range(40))
def test_no_class_is_without_clips_to_train_on_and_large_ones_are_in_every_split(seed):
    chance = random.Random(seed)
    groups = [f"g{k}" for k in range(chance.randint(3, 60))]
    labels = [f"c{k}" for k in range(chance.randint(2, 12))]
    clips = [
        clip(f"{k}.wav", *chance.sample(labels, chance.randint(1, 2)), group=chance.choice([*groups, ""])) for k in range(300)
    ]
    drawn = draw_splits(clips, *SHARES)
    assert whole(clips, drawn)
    members: dict[str, set[str]] = defaultdict(set)
    for example, group in zip(clips, groups_of(clips), strict=True):
        for label in example.all_labels:
            members[label].add(group)
    for label, found in counts_of(clips, drawn).items():
        assert found["train"] > 0
        if len(members[label]) >= 12:
            assert min(found["test"], found["valid"]) > 0
            assert 0.04 < found["test"] / found.total() < 0.4
    order = chance.sample(range(300), 300)
    assert draw_splits([clips[k] for k in order], *SHARES) == [drawn[k] for k in order]


def test_a_label_on_every_clip_and_one_on_a_single_clip_are_learnt_too():
    clips = [clip(f"{k}.wav", "any", f"c{k % 5}", *(["once"] if k == 7 else [])) for k in range(100)]
    drawn = draw_splits(clips, *SHARES)
    assert drawn[7] == "train"
    assert counts_of(clips, drawn)["any"] == {"test": 15, "valid": 15, "train": 70}
    assert {counts["test"] for label, counts in counts_of(clips, drawn).items() if label in ("c0", "c1", "c3")} == {3}


def test_verb_and_noun_of_the_same_name_are_two_classes():
    clips = [Example(Path(f"{k}.wav"), {"verb": ("cut",), "noun": ("cut" if k < 3 else "pan",)}) for k in range(30)]
    drawn = draw_splits(clips, *SHARES)
    assert {drawn[k] for k in range(3)} == {"train", "valid", "test"}


def test_clips_without_a_label_are_divided_like_a_class():
    assert Counter(draw_splits([clip(f"{k}.wav") for k in range(20)], *SHARES)) == {"test": 3, "valid": 3, "train": 14}


def test_no_clips_are_no_draw():
    assert draw_splits([], *SHARES) == []


def test_share_of_zero_holds_nothing_out():
    clips = [clip(f"{k}.wav", "dog", group=f"g{k % 5}") for k in range(30)]
    assert set(draw_splits(clips, 0.0, 0.2)) == {"train", "valid"}
    assert set(draw_splits(clips, 0.0, 0.0)) == {"train"}


def test_adding_clips_to_a_class_moves_none_of_a_class_that_shares_no_group_with_it():
    dogs = [clip(f"dog/{k}.wav", "dog", group=f"d{k % 9}") for k in range(60)]
    cats = [clip(f"cat/{k}.wav", "cat", group=f"c{k % 12}") for k in range(40)]
    more = [clip(f"dog/new{k}.wav", "dog", group=f"d{k}") for k in range(9, 30)]
    assert draw_splits([*dogs, *cats, *more], *SHARES)[60:100] == draw_splits([*dogs, *cats], *SHARES)[60:]


def test_shards_are_divided_as_the_folders_they_were_made_of_also_where_names_repeat(tmp_path, tone):
    for label in ("dog", "cat"):
        for k in range(4):
            tone(f"data/{label}/{k}/1.wav", frequency=300 + 10 * k, seconds=0.05)
    found = examples(tmp_path / "data")
    prepare(found, None, tmp_path / "shards", 16000, workers=1)
    copies = examples(tmp_path / "shards")
    assert sorted((e.labels["label"], e.split) for e in copies) == sorted((e.labels["label"], e.split) for e in found)
    assert {e.split for e in found if e.labels == {"label": ("cat",)}} == {"train", "valid", "test"}


def test_drawn_splits_say_so():
    found = split_examples([clip(f"{k}.wav", "dog") for k in range(5)], Splits())
    assert all(example.drawn for example in found)
