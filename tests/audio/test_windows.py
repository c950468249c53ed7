"""A sound is cut into windows by one rule, and folders and patterns are searched for sounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audiorep import audio
from audiorep.errors import AudioError

# ---------------------------------------------------------------- windows


def windows_of_the_whole(waveform: np.ndarray, length: int, hop: int) -> list[tuple[int, np.ndarray]]:
    """The rule, said with the whole waveform at hand."""
    total = len(waveform)
    if total == 0:
        return []
    if total < length:
        return [(0, np.concatenate([waveform, np.zeros(length - total, np.float32)]))]
    starts = list(range(0, total - length + 1, hop))
    left = total - (starts[-1] + length)
    if left >= 1 and left >= audio.MIN_TAIL_SHARE * length:
        starts.append(total - length)
    return [(start, waveform[start : start + length]) for start in starts]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[np.ndarray], int, int]:
    """Blocks that count upwards from one, a window length, and a hop no longer than it."""
    sizes = draw(st.lists(st.integers(0, 60), max_size=8))
    length = draw(st.integers(1, 80))
    hop = draw(st.integers(1, length))
    waveform = np.arange(1, sum(sizes) + 1, dtype=np.float32)
    return np.split(waveform, np.cumsum(sizes)[:-1]) if sizes else [], length, hop


@pytest.mark.slow
@given(streams())
@example(([np.arange(1, 111, dtype=np.float32)], 100, 100))  # a tail of exactly a tenth
@example(([np.arange(1, 110, dtype=np.float32)], 100, 100))  # a tail just below it
@settings(max_examples=400, deadline=None, database=None)
def test_windows_of_a_stream_are_those_of_the_whole(stream):
    blocks, length, hop = stream
    whole = np.concatenate([np.zeros(0, np.float32), *blocks])
    expected = windows_of_the_whole(whole, length, hop)
    found = list(audio.windows(blocks, length, hop))
    assert [start for start, _ in found] == [start for start, _ in expected]
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("total", "starts"), [(100, [0]), (109, [0]), (110, [0, 10]), (199, [0, 99]), (200, [0, 100])])
def test_tail_gets_a_window_if_it_brings_a_tenth_of_one(total, starts):
    found = audio.windows([np.ones(total, np.float32)], 100, 100)
    assert [start for start, _ in found] == starts


def test_short_sound_is_padded_to_one_window():
    [(start, window)] = audio.windows([np.ones(30, np.float32), np.ones(10, np.float32)], 100, 50)
    assert start == 0
    np.testing.assert_array_equal(window, [1] * 40 + [0] * 60)


def test_windows_of_nothing_are_none():
    assert list(audio.windows([], 100, 50)) == []
    assert list(audio.windows([np.zeros(0, np.float32)], 100, 50)) == []


def test_fit_cuts_or_pads_at_the_end():
    np.testing.assert_array_equal(audio.pad(np.array([1, 2, 3], np.float32), 2), [1, 2])
    np.testing.assert_array_equal(audio.pad(np.array([1, 2, 3], np.float32), 3), [1, 2, 3])
    np.testing.assert_array_equal(audio.pad(np.array([1, 2, 3], np.float32), 5), [1, 2, 3, 0, 0])


# ---------------------------------------------------------------- finding files


@pytest.fixture
def folder(tmp_path) -> Path:
    """Sounds at several depths, with things that are none among them."""
    for name in ("b.wav", "a.WAV", "sub/c.Flac", "sub/deep/d.mp3", "notes.txt", ".hidden.wav", ".cache/e.wav", "sub/._c.flac"):
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "sounds" / "folder.wav").mkdir()
    return tmp_path / "sounds"


def names(found, folder) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found]


def test_folder_is_searched_for_sounds_at_any_depth_but_not_for_hidden_ones(folder):
    assert names(audio.find([folder]), folder) == ["a.WAV", "b.wav", "sub/c.Flac", "sub/deep/d.mp3"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.wav", ["b.wav"]),
        ("?.[wW]*", ["a.WAV", "b.wav"]),
        ("**/*", ["a.WAV", "b.wav", "sub/c.Flac", "sub/deep/d.mp3"]),
        ("sub/**/*.mp3", ["sub/deep/d.mp3"]),
        ("s*/*.[fF]lac", ["sub/c.Flac"]),
        (".cache/*.wav", [".cache/e.wav"]),
    ],
)
def test_pattern_is_expanded(folder, monkeypatch, pattern, expected):
    assert names(audio.find([folder / pattern]), folder) == expected
    monkeypatch.chdir(folder)
    assert [path.as_posix() for path in audio.find([pattern])] == expected


def test_hidden_folder_that_is_named_is_searched(folder):
    assert names(audio.find([folder / ".cache"]), folder) == [".cache/e.wav"]


def test_files_named_outright_are_taken_as_they_are_in_the_order_given(folder):
    given_paths = [folder / "notes.txt", folder / "gone.wav", folder / "b.wav", folder / ("a" * 300)]
    assert list(audio.find(given_paths)) == given_paths


def test_file_with_a_bracket_in_its_name_is_no_pattern(folder):
    path = (folder / "b.wav").rename(folder / "b[1].wav")
    assert list(audio.find([path])) == [path]


@pytest.mark.parametrize("empty", ["empty", "*.ogg", "nothing/**/*.wav"])
def test_folder_or_pattern_without_sounds_is_left_to_its_reader_to_refuse(folder, empty):
    (folder / "empty").mkdir()
    assert list(audio.find([folder / empty])) == [folder / empty]
    with pytest.raises(AudioError, match=r"is a folder|does not exist") as caught:
        audio.read(folder / empty, 16_000)
    assert str(folder / empty) in str(caught.value)


@pytest.mark.parametrize("block", [7, 100, 1000])
@pytest.mark.parametrize(("total", "count"), [(1000, 2), (1000, 10), (101, 3), (150, 1)])
def test_views_are_spread_from_the_start_to_the_end(total, count, block):
    ramp = np.arange(total, dtype=np.float32)
    found = list(audio.views([ramp[i : i + block] for i in range(0, total, block)], 100, total, count))
    assert [start for start, _ in found] == np.linspace(0, total - 100, count).round().astype(int).tolist()
    for start, window in found:
        np.testing.assert_array_equal(window, ramp[start : start + 100])


@pytest.mark.parametrize(("padding", "tail"), [("zeros", [0, 0]), ("edge", [3, 3]), ("edge_frames", [])])
def test_short_stream_is_one_view_padded_as_asked(padding, tail):
    short = np.array([1, 2, 3], np.float32)
    for found in (audio.views([short], 5, 3, 4, padding), audio.windows([short], 5, 2, padding)):
        [(start, window)] = found
        assert start == 0
        assert window.tolist() == [1, 2, 3, *tail]


def test_stream_that_resampling_left_a_sample_short_still_gives_whole_views():
    found = list(audio.views([np.ones(99, np.float32)], 50, 100, 2))
    assert [start for start, _ in found] == [0, 50]
    assert found[1][1].tolist() == [1] * 49 + [0]
