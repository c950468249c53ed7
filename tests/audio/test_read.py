"""Every file that people have is read right, and every file that cannot be used is refused with a sentence."""

from __future__ import annotations

import functools
import io
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import processes
from support.sounds import loudest_frequency, sine

from audiorep import audio
from audiorep.errors import AudioError

# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    ("name", "subtype", "format", "tolerance"),
    [
        ("a.wav", "PCM_U8", None, 1e-2),
        ("a.wav", "PCM_16", None, 1e-4),
        ("a.wav", "PCM_24", None, 1e-6),
        ("a.wav", "PCM_32", None, 1e-6),
        ("a.wav", "FLOAT", None, 1e-7),
        ("a.wav", "DOUBLE", None, 1e-7),
        ("a.wav", "PCM_16", "WAVEX", 1e-4),
        ("a.rf64", "PCM_16", "RF64", 1e-4),
        ("a.aiff", "PCM_16", None, 1e-4),
        ("a.au", "PCM_16", None, 1e-4),
        ("a.caf", "PCM_16", None, 1e-4),
        ("a.w64", "PCM_16", None, 1e-4),
        ("a.flac", "PCM_16", None, 1e-4),
        ("a.flac", "PCM_24", None, 1e-6),
    ],
)
def test_lossless_file_gives_the_samples_that_were_written(tone, name, subtype, format, tolerance):
    path = tone(name, 440, 1.5, subtype=subtype, format=format)
    np.testing.assert_allclose(audio.read(path, 16000), sine(440, 1.5, 16000), atol=tolerance)


@pytest.mark.parametrize(
    ("name", "subtype", "format"), [("a.ogg", "VORBIS", None), ("a.opus", "OPUS", "OGG"), ("a.mp3", "MPEG_LAYER_III", None)]
)
def test_lossy_file_keeps_length_frequency_and_level(tone, name, subtype, format):
    waveform = audio.read(tone(name, 1000, 2, subtype=subtype, format=format), 16000)
    assert len(waveform) == 32000
    assert loudest_frequency(waveform, 16000) == pytest.approx(1000, abs=1)
    assert np.sqrt(np.mean(waveform[1000:-1000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000])
def test_any_rate_becomes_16_khz_with_the_same_length_frequency_and_level(tone, sample_rate):
    waveform = audio.read(tone("a.wav", 1000, 1.25, sample_rate), 16000)
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(20000, abs=1)
    assert loudest_frequency(waveform, 16000) == pytest.approx(1000, abs=1)
    np.testing.assert_allclose(waveform[500:19500], sine(1000, 1.25, 16000)[500:19500], atol=2e-3)


def test_what_lies_above_the_new_rates_half_is_gone_rather_than_folded_down(tone):
    waveform = audio.read(tone("a.wav", 15000, 1, 48000), 16000)
    assert np.abs(waveform[500:-500]).max() < 1e-4


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_are_averaged(tmp_path, channels):
    parts = np.stack([sine(200 * (k + 1), 1, 16000, 0.4) for k in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", parts, 16000, "FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav", 16000), parts.mean(axis=1), atol=1e-6)


def test_float_file_a_little_over_full_scale_is_kept_as_it_is(tone):
    assert audio.read(tone("a.wav", level=1.5, subtype="FLOAT"), 16000).max() == pytest.approx(1.5, abs=1e-3)


def test_probe_tells_what_the_header_says(tone):
    about = audio.probe(tone("a.flac", seconds=2.5, sample_rate=44100, channels=2, subtype="PCM_24"))
    assert (about.sample_rate, about.channels, about.frames) == (44100, 2, 110250)
    assert about.seconds == 2.5
    assert about.encoding == "FLAC PCM_24"


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("block_seconds", [0.0001, 0.037, 0.5, 1.0])
def test_reading_in_blocks_equals_reading_at_once(tone, monkeypatch, sample_rate, block_seconds):
    path = tone("a.wav", seconds=0.3 if block_seconds < 0.001 else 1.0, sample_rate=sample_rate)
    at_once = audio.read(path, 16000)
    monkeypatch.setattr(audio, "BLOCK_SECONDS", block_seconds)
    np.testing.assert_allclose(audio.read(path, 16000), at_once, atol=1e-6)


@pytest.mark.parametrize("name", [b"\xff\xe9.wav", "größe 音.wav".encode(), b" - .wav"])
def test_any_file_name_is_read(tone, tmp_path, name):
    path = tone("a.wav").rename(tmp_path / os.fsdecode(name))
    assert len(audio.read(path, 16000)) == 16000


@pytest.mark.slow
def test_five_minutes_of_stereo_at_48_khz_need_little_memory(tmp_path):
    path = tmp_path / "long.wav"
    minute = (np.random.default_rng(0).uniform(-0.5, 0.5, (48000 * 60, 2)) * 32767).astype(np.int16)
    with soundfile.SoundFile(path, "w", 48000, 2) as file:
        for _ in range(5):
            file.write(minute)
    script = """
import resource, sys
from audiorep import audio
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
next(audio.blocks(sys.argv[1], 16000))
before = peak()
heard = sum(len(block) for block in audio.blocks(sys.argv[1], 16000))
print(heard, peak() - before)
"""
    done = processes.run(processes.python(script, path))
    assert done.returncode == 0, done.stderr
    heard, grown = map(int, done.stdout.split())
    assert heard == pytest.approx(5 * 60 * 16000, abs=2)
    assert grown < 20e6  # decoded it is 115 MB


# ---------------------------------------------------------------- stretches


def test_stretch_is_the_same_as_that_part_of_the_whole(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 16000, "FLOAT")
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", 16000, 0.5, 1.25), noise[8000:20000])
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", 16000, 1.5), noise[24000:])


@pytest.mark.parametrize(("name", "format"), [("a.flac", None), ("a.ogg", None), ("a.opus", "OGG"), ("a.mp3", None)])
def test_stretch_of_a_compressed_file_begins_where_it_should(tmp_path, name, format):
    sound = np.concatenate([np.zeros(16000, np.float32), sine(440, 1, 16000)])
    subtype = "OPUS" if name == "a.opus" else None
    soundfile.write(tmp_path / name, sound, 16000, subtype, format=format)
    stretch = audio.read(tmp_path / name, 16000, 0.5, 1.5)
    assert len(stretch) == 16000
    assert int(np.flatnonzero(np.abs(stretch) > 0.25)[0]) == pytest.approx(8000, abs=60)


def test_end_a_little_past_the_files_end_is_forgiven_because_annotations_round_up(tone):
    assert len(audio.read(tone("a.wav"), 16000, 0.5, 1.04)) == 8000


@pytest.mark.parametrize(("start", "end"), [(-0.1, None), (1.0, None), (7.0, 8.0), (0.5, 1.2), (0.5, 0.5), (0.6, 0.5)])
def test_stretch_outside_the_file_is_refused_with_its_length(tone, start, end):
    path = tone("a.wav")
    with pytest.raises(AudioError, match=r"a\.wav lasts 1\.00 s") as caught:
        audio.read(path, 16000, start, end)
    assert str(path) in str(caught.value)


# ---------------------------------------------------------------- refusals


def refusal(path: Path) -> AudioError:
    """What reading the file is refused with; the text names the file."""
    with pytest.raises(AudioError) as caught:
        audio.read(path, 16000)
    assert str(path) in str(caught.value)
    return caught.value


def test_missing_file_is_refused_with_its_path(tmp_path):
    error = refusal(tmp_path / "gone.wav")
    assert error.kind == "missing"
    assert "does not exist" in str(error)


def test_file_inside_a_file_is_missing(tone):
    assert refusal(tone("a.wav") / "b.wav").kind == "missing"


def test_folder_is_refused_with_its_path(tmp_path):
    assert "is a folder" in str(refusal(tmp_path))


def test_empty_file_is_refused_with_its_path(tmp_path):
    (tmp_path / "a.wav").touch()
    error = refusal(tmp_path / "a.wav")
    assert error.kind == "empty"
    assert "0 bytes" in str(error)


def test_text_named_wav_is_refused_with_what_is_allowed(tmp_path):
    (tmp_path / "a.wav").write_text("not a sound at all\n" * 100)
    error = refusal(tmp_path / "a.wav")
    assert error.kind == "unreadable"
    assert "Allowed are wav, flac, ogg" in str(error)


@pytest.mark.parametrize("name", ["a.m4a", "a.aac", "b.wma"])
def test_format_that_needs_conversion_is_refused_with_the_command(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    assert f"ffmpeg -i {name} {name[0]}.flac" in str(refusal(tmp_path / name))


def test_raw_samples_are_refused_with_the_command(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(100))
    error = refusal(tmp_path / "a.raw")
    assert "has no header" in str(error)
    assert "ffmpeg -f s16le -ar 16000 -ac 1 -i a.raw a.flac" in str(error)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_header_without_samples_is_refused_as_empty(tmp_path, name):
    soundfile.write(tmp_path / name, np.zeros(0, np.float32), 16000)
    error = refusal(tmp_path / name)
    assert error.kind == "empty"


def test_name_longer_than_the_system_allows_is_refused(tmp_path):
    assert "cannot be opened: File name too long" in str(refusal(tmp_path / ("a" * 300 + ".wav")))


@pytest.mark.skipif(os.name == "nt" or not os.getuid(), reason="root may read everything")
def test_file_without_permission_is_refused_with_the_reason(tone):
    path = tone("a.wav")
    path.chmod(0)
    assert "cannot be opened: Permission denied" in str(refusal(path))


def test_systems_own_reason_is_told_when_a_file_may_not_be_opened(tone, monkeypatch):
    path = tone("a.wav")

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be opened: Permission denied" in str(refusal(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value, channels):
    sound = np.zeros((16000, channels), np.float32)
    sound[12345, -1] = value
    soundfile.write(tmp_path / "a.wav", sound, 16000, "FLOAT")
    error = refusal(tmp_path / "a.wav")
    assert error.kind == "non-finite"
    assert "NaN or infinite" in str(error)


def test_infinities_that_cancel_between_channels_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile([[np.inf, -np.inf]], (100, 1)).astype(np.float32), 16000, "FLOAT")
    assert refusal(tmp_path / "a.wav").kind == "non-finite"


def test_doubles_beyond_float32_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(100, 1e300), 16000, "DOUBLE")
    assert refusal(tmp_path / "a.wav").kind == "non-finite"


def test_integers_stored_as_floats_are_refused_with_what_to_do(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(440, 1, 16000, 32768), 16000, "FLOAT")
    assert "-1..1" in str(refusal(tmp_path / "a.wav"))


# ---------------------------------------------------------------- files that break off


def cut(path: Path, share: float) -> Path:
    """The file, without its end."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    ("name", "subtype", "format"),
    [
        ("a.wav", "PCM_16", None),
        ("a.wav", "FLOAT", None),
        ("a.wav", "IMA_ADPCM", None),
        ("a.wav", "PCM_24", "WAVEX"),
        ("a.rf64", "PCM_16", "RF64"),
        ("a.aiff", "PCM_16", None),
        ("a.flac", None, None),
        ("a.mp3", None, None),
    ],
)
def test_truncated_file_is_refused_with_the_length_promised(tone, name, subtype, format, share, capfd):
    error = refusal(cut(tone(name, seconds=4, subtype=subtype, format=format), share))
    capfd.readouterr()  # mpg123 speaks to the terminal
    assert error.kind == "truncated"
    assert re.search(r" 4\.[01]\d s, [0-4]\.\d\d s ", str(error))


@functools.cache
def noise_in_ogg(subtype: str) -> bytes:
    """Long enough for pages of sound before any cut; encoding it takes a second."""
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * 20), 16000, subtype, format="OGG")
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(("name", "subtype"), [("a.ogg", "VORBIS"), ("a.opus", "OPUS")])
def test_truncated_ogg_is_refused_with_the_length_found(tmp_path, name, subtype, share):
    (tmp_path / name).write_bytes(noise_in_ogg(subtype))
    error = refusal(cut(tmp_path / name, share))
    assert error.kind == "truncated"


def test_ogg_cut_before_its_second_page_of_sound_is_truncated_rather_than_empty(tone):
    path = tone("a.ogg", seconds=4)
    data = path.read_bytes()
    last_page = data.rindex(b"OggS")
    for end in (last_page + 2, last_page + 10, last_page + 100, len(data) - 1):
        path.write_bytes(data[:end])
        assert refusal(path).kind == "truncated"


def test_blocks_before_the_cut_are_good(tone, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK_SECONDS", 0.5)
    path = cut(tone("a.wav", seconds=4), 0.6)
    good = []
    with pytest.raises(AudioError, match=r" 4\.00 s, 2\.40 s "):
        good.extend(audio.blocks(path, 16000))
    np.testing.assert_allclose(np.concatenate(good), sine(440, 2, 16000), atol=1e-4)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_stretch_before_the_cut_can_be_used_and_one_behind_it_cannot(tmp_path, name):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * 20)
    soundfile.write(tmp_path / name, noise, 16000)
    whole = audio.read(tmp_path / name, 16000)
    path = cut(tmp_path / name, 0.6)
    np.testing.assert_array_equal(audio.read(path, 16000, 1, 2), whole[16000:32000])
    with pytest.raises(AudioError, match=r"a\.\w+ (is damaged|lasts)"):
        audio.read(path, 16000, 15, 16)


def with_declared_size(path: Path, size: int) -> Path:
    """A WAV file whose data chunk says `size`."""
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFFF - 44, 0x7FFFF000, 0x7FFFFFFF, 0x80000000])
def test_wav_from_a_recorder_that_could_not_know_its_length_is_read_whole(tone, size):
    assert len(audio.read(with_declared_size(tone("a.wav"), size), 16000)) == 16000


@pytest.mark.parametrize("counted_too", [8, 36, 44])
def test_wav_that_counts_its_header_among_its_samples_is_read_whole(tone, counted_too):
    assert len(audio.read(with_declared_size(tone("a.wav"), 32000 + counted_too), 16000)) == 16000


def test_wav_of_a_recorder_that_was_stopped_is_read_whole(tone):
    assert len(audio.read(with_declared_size(tone("a.wav"), 0), 16000)) == 16000


def test_chunks_around_the_samples_do_not_look_like_a_cut(tone):
    path = tone("a.wav")
    data = bytearray(path.read_bytes())
    place = data.index(b"data")
    extra = b"LIST" + struct.pack("<I", 7) + b"INFOabc\0"  # an odd size is padded
    path.write_bytes(data[:place] + extra + data[place:] + extra)
    np.testing.assert_allclose(audio.read(path, 16000), sine(440, 1, 16000), atol=1e-4)


def test_mp3_of_varying_bit_rate_without_a_length_is_read_to_its_end(tmp_path, capfd):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * 10)
    sound = np.concatenate([np.zeros(16000 * 10), noise])  # the low bit rate of the start suggests too long a file
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(path, "w", 16000, 1, bitrate_mode="VARIABLE", compression_level=0.5) as file:
        file.write(sound)
    data = path.read_bytes()
    assert b"Xing" in data[:64]
    frames = data[data.index(data[:2], 4) :]
    for tag in (b"", b"ID3\x03\x00\x00\x00\x00\x10\x00" + bytes(2048)):
        path.write_bytes(tag + frames)
        assert audio.probe(path).seconds == pytest.approx(20, abs=0.1)
        assert len(audio.read(path, 16000)) == pytest.approx(20 * 16000, abs=1600)
    capfd.readouterr()
