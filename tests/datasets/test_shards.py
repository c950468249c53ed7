"""Any data set survives being copied into shards."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from support.shards import RATE, folder, manifest, noise
from support.sounds import loudest_frequency, sine
from torch.utils.data import DataLoader

from audiorep import audio, datasets
from audiorep.datasets import Example, Splits, clips, shards
from audiorep.datasets.prepare import prepare
from audiorep.errors import DataError


def test_shards_hold_the_same_samples_labels_folds_groups_and_licenses(tmp_path):
    folder(tmp_path)
    rows = [
        {"path": f"{'cd'[k % 2]}{'ao'[k % 2]}{'tg'[k % 2]}/{k:03d}.wav", "label": "ab"[k // 5], "fold": 1 + k % 3}
        | {"group": f"speaker{k // 2}", "license": "CC0" if k % 2 else "CC BY"}
        for k in range(10)
    ]
    sources = datasets.listed_examples(manifest(tmp_path, rows))
    done = prepare(sources, None, tmp_path / "out", RATE, shard_clips=4, workers=2)
    assert [(s.name, s.split, s.clips) for s in done.shards] == [
        ("all-000000.tar", "", 4), ("all-000001.tar", "", 4), ("all-000002.tar", "", 2)
    ]  # fmt: skip
    copies = datasets.examples(tmp_path / "out")
    assert datasets.detect(tmp_path / "out") == "shards"
    assert datasets.folds(tmp_path / "out") == [1, 2, 3]
    for k, (source, copy) in enumerate(zip(sources, copies, strict=True)):
        assert replace(copy, path=source.path, token="") == source
        assert copy.identity == source.identity
        assert np.array_equal(audio.read(copy.path, RATE), noise(k) / np.float32(32768))


def test_official_splits_name_the_shards(tmp_path):
    folder(tmp_path)
    splits = ["train"] * 6 + ["valid"] * 2 + ["test"] * 2
    rows = [
        {"path": f"{['cat', 'dog'][k % 2]}/{k:03d}.wav", "label": "x", "split": split, "group": k}
        for k, split in enumerate(splits)
    ]
    prepare(datasets.listed_examples(manifest(tmp_path, rows)), None, tmp_path / "out", RATE, 5, 1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.json"} | {
        f"{name}.{suffix}"
        for name in ("train-000000", "train-000001", "valid-000000", "test-000000")
        for suffix in ("tar", "json")
    }
    assert [example.split for example in datasets.examples(tmp_path / "out")] == splits
    assert len(datasets.examples(tmp_path / "out", "valid")) == 2


@pytest.mark.parametrize("random", [False, True])
def test_splits_are_drawn_at_training_time_as_from_the_folder(tmp_path, random):
    data = folder(tmp_path / "data", 40)
    # also of examples whose split was drawn
    prepare(datasets.examples(data), None, tmp_path / "out", RATE, 7, 2)
    splits = Splits(valid_fraction=0.3, test_fraction=0.2, random=random)
    sources, copies = (datasets.examples(root, splits=splits) for root in (data, tmp_path / "out"))
    assert [example.split for example in copies] == [example.split for example in sources]
    assert all(example.drawn for example in copies)
    assert {example.split for example in copies} == {"train", "valid", "test"}


def test_members_are_pairs_as_webdataset_reads_them(tmp_path):
    data = folder(tmp_path / "data")
    prepare(datasets.listed_examples(data), None, tmp_path / "out", RATE, 100, 1)
    with tarfile.open(tmp_path / "out" / "all-000000.tar") as tar:
        members = tar.getmembers()
        names = [member.name for member in members]
        keys = [name.removesuffix(".flac") for name in names[::2]]
        assert names[1::2] == [f"{key}.json" for key in keys]
        assert sorted(keys) == [f"{k:06d}" for k in range(10)] != keys  # shuffled, for who reads them as a stream
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}
        place = keys.index("000003")
        about = json.load(tar.extractfile(members[2 * place + 1]))  # type: ignore[arg-type]
        sound = soundfile.info(tar.extractfile(members[2 * place]))
    example = datasets.listed_examples(data)[3]
    assert about == {
        "key": "000003", "labels": {"label": ["cat"]}, "split": "", "fold": None, "group": "", "license": "",
        "optional": False, "token": example.identity, "source": "cat/006.wav", "start": 0.0, "end": None,
    }  # fmt: skip
    assert (sound.format, sound.subtype, sound.channels, sound.samplerate, sound.frames) == ("FLAC", "PCM_16", 1, RATE, 2000)


def test_sound_of_another_rate_is_resampled_mixed_and_limited(tmp_path):
    square = np.sign(sine(300, 1.0, 44_100)) * np.float32(0.999)
    soundfile.write(tmp_path / "square.wav", np.stack([square, square], 1), 44_100, "FLOAT")
    soundfile.write(tmp_path / "tone.wav", np.stack([sine(440, 1.0, 44_100), 0 * square], 1), 44_100)
    examples = [Example(tmp_path / name, {"label": ("x",)}) for name in ("square.wav", "tone.wav")]
    expected = [audio.read(example.path, 16_000) for example in examples]
    assert np.abs(expected[0]).max() > 1.05  # resampling rings
    prepare(examples, None, tmp_path / "out", 16_000, workers=1)
    square, tone = (audio.read(example.path, 16_000) for example in shards.examples(tmp_path / "out"))
    assert np.abs(square - np.clip(expected[0], -1, 1)).max() <= 1 / 32768
    assert np.abs(tone - expected[1]).max() <= 1 / 32768
    assert loudest_frequency(tone, 16_000) == pytest.approx(440, abs=1)
    assert np.abs(tone).max() == pytest.approx(0.25, abs=0.01)


def test_stretches_of_a_long_track_become_clips_of_their_own(tmp_path):
    track = noise(0, 25 * RATE)
    soundfile.write(tmp_path / "track.wav", track, RATE)
    path, parts = tmp_path / "track.wav", [(0.0, 12.5), (3.25, 4.0), (20.0, None)]
    sources = [Example(path, {"label": ("x",)}, start, end) for start, end in parts]
    prepare(sources, None, tmp_path / "out", RATE, 2, 1)
    copies = datasets.examples(tmp_path / "out")
    for (start, end), copy in zip(parts, copies, strict=True):
        assert (copy.start, copy.end) == (0.0, None)
        cut = track[round(start * RATE) : None if end is None else round(end * RATE)]
        assert np.array_equal(audio.read(copy.path, RATE), cut / np.float32(32768))
    assert len({copy.split for copy in copies}) == 1  # of one recording, so never in two splits
    assert len({copy.identity for copy in copies}) == 3


def test_multi_label_clips_two_heads_and_the_official_order_are_kept(tmp_path):
    folder(tmp_path, 3)
    labels = [{"verb": ("cut",), "noun": ("onion", "knife")}, {"verb": ("wash",), "noun": ()}]
    paths = [tmp_path / "cat" / "000.wav", tmp_path / "dog" / "001.wav"]
    sources = [Example(path, of, split="train") for path, of in zip(paths, labels, strict=True)]
    official = {"verb": ["wash", "cut", "open"], "noun": ["knife", "onion"]}
    prepare(sources, official, tmp_path / "out", RATE, workers=1)
    assert [example.labels for example in datasets.examples(tmp_path / "out")] == labels
    assert list(datasets.examples(tmp_path / "out")[0].labels) == ["verb", "noun"]
    assert datasets.labels(tmp_path / "out") == official
    prepare(sources, None, tmp_path / "none", RATE, workers=1)
    assert datasets.labels(tmp_path / "none") is None


def test_optional_clips_stay_optional(tmp_path):
    data = folder(tmp_path / "data")
    sources = [replace(example, optional=k == 4) for k, example in enumerate(datasets.listed_examples(data))]
    prepare(sources, None, tmp_path / "out", RATE, workers=1)
    assert len(datasets.examples(tmp_path / "out")) == 9
    assert [example.optional for example in datasets.listed_examples(tmp_path / "out")].index(True) == 4


def test_names_that_are_no_text_are_kept(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(os.fsencode(path), noise(0), RATE, format="WAV")
    missing = tmp_path / os.fsdecode(b"th\xe9.wav")
    examples = [Example(path, {"label": ("x",)}), Example(missing, {"label": ("x",)})]
    done = prepare(examples, None, tmp_path / "out", RATE, workers=1)
    assert done.failures[0].path == str(missing)
    assert shards.examples(tmp_path / "out")[0].identity == examples[0].identity
    assert prepare(examples, None, tmp_path / "out", RATE, workers=1) == done


def test_shards_can_be_made_of_shards(tmp_path):
    prepare(datasets.listed_examples(folder(tmp_path / "data")), None, tmp_path / "once", RATE, 3, 1)
    prepare(datasets.listed_examples(tmp_path / "once"), None, tmp_path / "twice", RATE, 5, 1)
    once, twice = (datasets.examples(tmp_path / name) for name in ("once", "twice"))
    for first, second in zip(once, twice, strict=True):
        assert (first.identity, first.split, first.labels) == (second.identity, second.split, second.labels)
        assert np.array_equal(audio.read(first.path, RATE), audio.read(second.path, RATE))


def test_a_newer_format_is_refused(tmp_path):
    (tmp_path / "index.json").write_text('{"format": "audiorep shards", "version": 2, "shards": []}')
    with pytest.raises(DataError, match=r"version 2 .*version 1"):
        datasets.examples(tmp_path)


def whole(batch: object) -> object:
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("kept_in_memory", [True, False])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2, 5])
def test_an_epoch_from_shards_draws_each_clip_once(tmp_path, monkeypatch, workers, kept_in_memory):
    if not kept_in_memory:
        monkeypatch.setattr(clips, "MEMORY_LIMIT", -1)
    folder(tmp_path, 11)
    rows = [{"path": f"{['cat', 'dog'][k % 2]}/{k:03d}.wav", "label": f"c{k:02d}", "split": "train"} for k in range(11)]
    prepare(datasets.listed_examples(manifest(tmp_path, rows)), None, tmp_path / "out", RATE, 4, 1)
    examples = datasets.examples(tmp_path / "out")
    found = clips.Clips(examples, datasets.labels_of(examples), RATE, 2000, random_cuts=True)
    loader = DataLoader(found, 3, sampler=clips.EpochSampler(found, seed=1), num_workers=workers, collate_fn=whole)
    seen = []
    for waveforms, targets, _ in loader:
        numbers = targets["label"].argmax(1).tolist()
        seen += numbers
        for number, waveform in zip(numbers, waveforms.numpy(), strict=True):
            assert np.array_equal(waveform, noise(number) / np.float32(32768))
    assert sorted(seen) == list(range(11)) != seen
    assert found.failures == []


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("count", "ranks"), [(10, 1), (10, 2), (11, 2), (9, 3), (10, 3), (11, 3), (1, 3)])
def test_ranks_share_one_order_and_each_clip_is_drawn_by_one_of_them(tmp_path, count, ranks, balanced):
    examples = datasets.listed_examples(folder(tmp_path, count))
    found = clips.Clips(examples, datasets.labels_of(examples), RATE, 1000, random_cuts=True)
    for epoch in range(2):
        samplers = [clips.EpochSampler(found, 5, balanced, rank, ranks) for rank in range(ranks)]
        samplers[0].set_epoch(epoch)
        parts = [list(sampler) for sampler in samplers]
        assert [len(sampler) for sampler in samplers] == [len(part) for part in parts]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        together = list(clips.EpochSampler(found, 5, balanced))
        assert [parts[place % ranks][place // ranks] for place in range(count)] == together
        assert balanced or sorted(together) == list(range(count))
