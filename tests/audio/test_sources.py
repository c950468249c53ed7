"""A folder's sounds are all found, through links too, and what is passed over is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audiorep import audio
from audiorep.audio import sources
from audiorep.errors import AudioError


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def found(folder: Path, pattern: str = "") -> list[str]:
    return [path.relative_to(folder).as_posix() for path in audio.find([folder / pattern])]


def over(*given: Path) -> list[str]:
    paths: list[Path] = []
    list(audio.find(given, paths.append))
    return [path.name for path in paths]


@pytest.fixture
def linked(tmp_path) -> Path:
    """A folder with links to a folder and a file elsewhere, to itself, to its child's parent, and to nothing."""
    make(tmp_path / "far", "a.wav", "deep/b.wav")
    folder = make(tmp_path / "here", "c.wav", "sub/d.wav")
    (folder / "link").symlink_to(tmp_path / "far")
    (folder / "e.wav").symlink_to(tmp_path / "far" / "a.wav")
    (folder / "self").symlink_to(folder)
    (folder / "sub" / "up").symlink_to("..")
    (folder / "round").symlink_to("round")
    return folder


EVERYTHING = ["c.wav", "e.wav", "link/a.wav", "link/deep/b.wav", "sub/d.wav"]


@pytest.mark.parametrize("pattern", ["", "**/*.wav", "**", "**/*"])
def test_links_are_followed_once_and_never_round(linked, pattern):
    (linked / "round").unlink()
    assert found(linked, pattern) == EVERYTHING


def test_folders_that_link_to_each_other_end(tmp_path):
    make(tmp_path, "a/x.wav", "b/y.wav")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
    assert found(tmp_path) == ["a/b/y.wav", "a/x.wav", "b/a/x.wav", "b/y.wav"]


def test_link_that_is_given_itself_is_searched(linked, tmp_path):
    (linked / "round").unlink()
    (tmp_path / "given").symlink_to(linked / "sub")
    assert found(tmp_path, "given") == ["given/d.wav", *(f"given/up/{name}" for name in EVERYTHING if name[:3] != "sub")]


@pytest.mark.parametrize("name", ["gone.wav", "gone"])
@pytest.mark.parametrize("pattern", ["", "**/*"])
def test_link_that_leads_nowhere_is_a_failure_that_says_where_it_led(tmp_path, name, pattern):
    make(tmp_path, "a.wav")
    (tmp_path / name).symlink_to(tmp_path / "moved" / "x.wav")
    assert found(tmp_path, pattern) == ["a.wav", name]
    with pytest.raises(AudioError, match=rf"{name} .*moved/x\.wav") as caught:
        audio.read(tmp_path / name, 16000)
    assert caught.value.kind == "missing"


def test_link_to_itself_is_a_failure(linked):
    assert "round" in found(linked)
    with pytest.raises(AudioError, match="round"):
        audio.read(linked / "round", 16000)


def test_sounds_in_other_formats_and_without_suffix_are_told_and_others_are_not(tmp_path):
    make(tmp_path, "a.wav", "b.m4a", "sub/c.AMR", "sub/noise", "d.txt", "e.csv", ".hidden.m4a", ".DS_Store", "f.wma")
    assert found(tmp_path) == ["a.wav"]
    assert sorted(over(tmp_path)) == ["b.m4a", "c.AMR", "f.wma", "noise"]
    assert sorted(over(tmp_path / "**/*")) == ["b.m4a", "c.AMR", "f.wma", "noise"]
    assert over(tmp_path / "a.wav", tmp_path / "b.m4a") == []  # named outright: tried


def test_pipe_in_a_folder_is_passed_over_rather_than_waited_for(tmp_path):
    make(tmp_path, "a.wav")
    os.mkfifo(tmp_path / "b.wav")
    assert found(tmp_path) == ["a.wav"]
    assert over(tmp_path) == ["b.wav"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "1 file of another format was passed over: 0.m4a."),
        (3, "3 files of other formats were passed over: 0.m4a, 1.m4a, 2.m4a."),
        (7, "7 files of other formats were passed over: 0.m4a, 1.m4a, 2.m4a, 3.m4a, 4.m4a and 2 more."),
    ],
)
def test_what_was_passed_over_is_one_line(count, text):
    line = sources.describe_passed_over([Path(f"{k}.m4a") for k in range(count)])
    assert line.startswith(text)
    assert "\n" not in line


@pytest.mark.skipif(not os.getuid(), reason="root may read everything")
def test_folder_that_may_not_be_read_is_a_failure(tmp_path):
    make(tmp_path, "a.wav", "shut/b.wav")
    (tmp_path / "shut").chmod(0)
    try:
        assert found(tmp_path) == ["a.wav", "shut"]
        with pytest.raises(AudioError, match=r"shut .*Permission denied"):
            audio.read(tmp_path / "shut", 16000)
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_folder_that_may_not_be_read_is_told_with_the_reason(tmp_path, monkeypatch):
    make(tmp_path, "a.wav", "shut/b.wav")
    scan, access = os.scandir, os.access
    shut = str(tmp_path / "shut")

    def refuse(path=".", *rest):
        if str(path) == shut:
            raise PermissionError(13, "Permission denied")
        return scan(path, *rest)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != shut and access(path, mode))
    assert found(tmp_path) == ["a.wav", "shut"]


def test_a_name_with_a_newline_or_marks_is_found(tmp_path):
    make(tmp_path, "a\nb.wav", "c[1].wav", "d*.wav")
    assert found(tmp_path) == ["a\nb.wav", "c[1].wav", "d*.wav"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[ls][iu]*/*.wav", ["link/a.wav", "sub/d.wav"]),
        ("**/deep/*", ["link/deep/b.wav"]),
        ("link/**/*.wav", ["link/a.wav", "link/deep/b.wav"]),
        ("[st]ub/?.wav", ["sub/d.wav"]),
        ("**/**/*.wav", EVERYTHING),
    ],
)
def test_patterns_follow_links_too(linked, pattern, expected):
    assert found(linked, pattern) == expected
