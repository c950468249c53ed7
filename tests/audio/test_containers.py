"""Sounds inside HDF5 and tar files are read like files, by seeking."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from support.sounds import sine

from audiorep import audio
from audiorep.audio import containers
from audiorep.errors import AudioError


@pytest.fixture
def videos(tmp_path) -> Path:
    ramp = np.linspace(-1, 1, 24_000 * 10, dtype=np.float32)
    with h5py.File(tmp_path / "EPIC_audio.hdf5", "w") as file:
        file["floats"] = ramp
        file["integers"] = (ramp * 32767).astype(np.int16)
        file["group/stereo"] = np.stack([ramp, -ramp])
        file["slow"] = sine(440, 1, 8000)
        file["slow"].attrs["sample_rate"] = 8000
        file["text"] = "no sound"
    return tmp_path / "EPIC_audio.hdf5"


def test_tracks_of_every_kind_are_read(videos):
    ramp = np.linspace(-1, 1, 24_000 * 10, dtype=np.float32)
    np.testing.assert_array_equal(audio.read(videos / "floats", 24_000), ramp)
    np.testing.assert_allclose(audio.read(videos / "integers", 24_000), ramp, atol=1e-4)
    np.testing.assert_array_equal(audio.read(videos / "group/stereo", 24_000), ramp)  # the channels' mean would be silence
    about = audio.probe(videos / "slow")
    assert (about.sample_rate, about.seconds, about.channels) == (8000, 1.0, 1)
    assert containers.exists(videos / "floats")
    assert not containers.exists(videos / "other")


def test_stretch_is_read_by_seeking(videos, monkeypatch):
    lengths = []
    original = containers.Track.read
    monkeypatch.setattr(
        containers.Track, "read", lambda self, frames, *a, **k: lengths.append(frames) or original(self, frames, *a, **k)
    )
    found = audio.read(videos / "floats", 24_000, 2.0, 3.0)
    np.testing.assert_array_equal(found, np.linspace(-1, 1, 24_000 * 10, dtype=np.float32)[48_000:72_000])
    assert lengths == [24_000]


def test_missing_track_other_content_and_damage_are_refused(videos, tmp_path):
    with pytest.raises(AudioError, match="P09") as caught:
        audio.read(videos / "P09", 24_000)
    assert caught.value.kind == "missing"
    with pytest.raises(AudioError, match="something that is no sound"):
        audio.read(videos / "text", 24_000)
    with pytest.raises(AudioError, match="9 s to 12 s"):
        audio.read(videos / "floats", 24_000, 9, 12)
    (tmp_path / "bad.hdf5").write_bytes(b"no HDF5 at all")
    with pytest.raises(AudioError, match="HDF5"):
        audio.read(tmp_path / "bad.hdf5" / "x", 24_000)


@pytest.mark.parametrize(("suffix", "format"), [("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG")])
def test_file_in_a_tar_is_read_like_any_other(tmp_path, suffix, format):
    sound = sine(440, 1.0, 16_000)
    soundfile.write(tmp_path / f"a.{suffix}", sound, 16_000, format=format)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(tmp_path / f"a.{suffix}", f"deep/a.{suffix}")
    inside = tmp_path / "shard.tar" / "deep" / f"a.{suffix}"
    np.testing.assert_array_equal(audio.read(inside, 16_000), audio.read(tmp_path / f"a.{suffix}", 16_000))
    assert audio.probe(inside).seconds == 1.0


def test_tar_that_changes_is_read_anew_and_a_cut_one_is_named(tmp_path):
    shard = tmp_path / "shard.tar"
    for seconds in (1, 2):
        file = io.BytesIO()
        soundfile.write(file, sine(440, seconds, 16_000), 16_000, format="FLAC")
        with tarfile.open(shard, "w") as tar:
            member = tarfile.TarInfo("a.flac")
            member.size = len(file.getvalue())
            tar.addfile(member, io.BytesIO(file.getvalue()))
        assert audio.probe(shard / "a.flac").seconds == seconds
    with pytest.raises(AudioError, match=r"b\.flac"):
        audio.read(shard / "b.flac", 16_000)
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(AudioError, match=r"shard\.tar"):
        audio.read(shard / "a.flac", 16_000)
    shard.write_bytes(b"x" * 5000)
    with pytest.raises(AudioError, match="tar"):
        audio.read(shard / "a.flac", 16_000)
