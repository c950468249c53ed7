"""What a model says of itself, kept at the end of its file: read back exactly, and any damage is refused."""

from __future__ import annotations

import json
import zipfile

import pytest
from support.info import make_info

from audiorep.errors import BundleError
from audiorep.info.model_info import MEMBER, append, read_appended

MODEL = bytes(range(256)) * 40


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(MODEL)
    append(path, make_info(license="CC0", labels={"label": ["café", "b"]}))
    return path


def test_what_was_appended_is_read_back_and_the_model_is_untouched(written):
    assert read_appended(written) == make_info(license="CC0", labels={"label": ["café", "b"]})
    assert written.read_bytes()[: len(MODEL)] == MODEL


def test_the_same_model_gives_the_same_bytes(written, tmp_path):
    again = tmp_path / "again.bin"
    again.write_bytes(MODEL)
    append(again, make_info(license="CC0", labels={"label": ["café", "b"]}))
    assert again.read_bytes() == written.read_bytes()


@pytest.mark.parametrize("kept", [0, 1, 100, len(MODEL) - 1, len(MODEL), len(MODEL) + 60, -1])
def test_a_file_cut_short_is_refused(written, kept):
    written.write_bytes(written.read_bytes()[:kept])
    with pytest.raises(BundleError, match=r"model\.bin .*audiorep export"):
        read_appended(written)


@pytest.mark.parametrize("place", [0, 1, 5000, len(MODEL) - 1])
def test_a_changed_byte_of_the_model_is_refused(written, place):
    content = bytearray(written.read_bytes())
    content[place] ^= 1
    written.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.bin is damaged"):
        read_appended(written)


def test_no_changed_byte_of_the_metadata_comes_through(written):
    whole = written.read_bytes()
    for place in range(len(MODEL), len(whole)):
        content = bytearray(whole)
        content[place] ^= 0x15
        written.write_bytes(content)
        try:
            found = read_appended(written)
        except BundleError:
            continue
        assert found == make_info(license="CC0", labels={"label": ["café", "b"]})  # dates and other bytes of no meaning


def test_bytes_missing_from_the_middle_are_refused(written):
    content = written.read_bytes()
    written.write_bytes(content[:50] + content[60:])
    with pytest.raises(BundleError, match="is damaged"):
        read_appended(written)


@pytest.mark.parametrize("text", ["", "[]", "{", "3", '{"model": 3}', '{"model": "[1]"}', '{"model": "[\\"a\\", 2]"}'])
def test_metadata_that_cannot_be_used_is_refused(tmp_path, text):
    path = tmp_path / "model.bin"
    path.write_bytes(MODEL)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MEMBER, text)
    with pytest.raises(BundleError, match="metadata"):
        read_appended(path)


def test_other_archives_files_and_folders_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("labels.txt", json.dumps(["a"]))
    with pytest.raises(BundleError, match="is not an audiorep model"):
        read_appended(tmp_path / "other.zip")
    with pytest.raises(BundleError, match=r"none\.bin"):
        read_appended(tmp_path / "none.bin")
    with pytest.raises(BundleError, match="is a folder"):
        read_appended(tmp_path)
