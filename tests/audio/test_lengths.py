"""All of a file's sound is heard, whatever its headers say of its length, and however many streams are joined in it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.sounds import loudest_frequency, sine

from audiorep import audio
from audiorep.audio.formats import flac
from audiorep.audio.formats.splice import Region
from audiorep.errors import AudioError

RATE = 16000


def encoded(sound: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None, **settings: Any) -> bytes:
    """The sound as a file's bytes."""
    file = io.BytesIO()
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    with soundfile.SoundFile(file, "w", rate, channels, subtype, format=format, **settings) as writer:
        writer.write(sound)
    return file.getvalue()


def mp3(sound: np.ndarray, rate: int = RATE, **settings: Any) -> bytes:
    return encoded(sound, rate, "MP3", **({"bitrate_mode": "VARIABLE", "compression_level": 0.5} | settings))


def frames_only(data: bytes) -> bytes:
    """An MP3 file without the encoder's note of its length."""
    assert b"Xing" in data[:64] or b"Info" in data[:64]
    return data[data.index(data[:2], 4) :]


def noise(seconds: float, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-level, level, round(seconds * rate)).astype(np.float32)


@pytest.fixture
def written(tmp_path) -> Callable[..., Path]:
    def write(data: bytes, name: str) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def frequencies(waveform: np.ndarray, seconds: float = 1.0) -> list[float]:
    """Hz in the middle of each second, to the next ten."""
    size = round(seconds * RATE)
    return [
        round(loudest_frequency(waveform[start + size // 4 : start + size * 3 // 4], RATE), -1)
        for start in range(0, len(waveform) - size // 2, size)
    ]


# ---------------------------------------------------------------- MP3


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_without_a_note_of_its_length_is_heard_to_its_end(written, rate, channels):
    sound = np.concatenate([noise(1, rate), sine(440, 8, rate, 0.1), sine(1000, 1, rate)])  # the bit rate falls after the start
    path = written(frames_only(mp3(np.tile(sound[:, None], (1, channels)), rate)), "a.mp3")
    assert audio.probe(path).seconds == pytest.approx(10, abs=0.2)
    waveform = audio.read(path, RATE)
    assert len(waveform) / RATE == pytest.approx(audio.probe(path).seconds, abs=0.001)
    assert loudest_frequency(waveform[-RATE:-2000], RATE) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("bare", [(), (0,), (1,), (0, 1)])
def test_joined_mp3_is_heard_to_its_end(written, bare, capfd):
    parts = [mp3(sine(500, 3, RATE)), mp3(sine(900, 2, RATE))]
    path = written(b"".join(frames_only(part) if k in bare else part for k, part in enumerate(parts)), "a.mp3")
    assert audio.probe(path).seconds == pytest.approx(5, abs=0.2)
    assert frequencies(audio.read(path, RATE)[: 5 * RATE]) == [500, 500, 500, 900, 900]
    assert capfd.readouterr().err == ""


def test_mp3_joined_to_itself_three_times_with_tags_and_a_picture_between_is_heard_three_times(written):
    picture = b"ID3\x03\x00\x00\x00\x02\x00\x00" + bytes(2 << 14)
    one = picture + mp3(sine(500, 1, RATE)) + b"TAG" + b"\xff" * 125
    path = written(one * 3, "a.mp3")
    assert len(audio.read(path, RATE)) == 3 * RATE
    assert audio.probe(path).seconds == 3


def test_mp3_parts_of_other_rates_and_channels_are_fitted_to_the_first(written):
    stereo = np.tile(sine(700, 1, 44100)[:, None], (1, 2))
    path = written(mp3(sine(500, 1, RATE)) + mp3(stereo, 44100) + mp3(sine(900, 1, 22050), 22050), "a.mp3")
    assert frequencies(audio.read(path, RATE)) == [500, 700, 900]
    assert (audio.probe(path).channels, audio.probe(path).seconds) == (1, pytest.approx(3, abs=0.001))


def test_mp3_of_one_stream_and_a_right_note_is_left_to_the_decoder(written):
    data = mp3(sine(500, 2, RATE))
    for extra in (b"", b"TAG" + bytes(125), b"ID3\x03\x00\x00\x00\x00\x10\x00" + bytes(2048)):
        path = written(data + extra if extra[:3] == b"TAG" else extra + data, "a.mp3")
        assert len(audio.read(path, RATE)) == 2 * RATE


def test_joined_mp3_whose_end_was_cut_off_is_refused_with_both_lengths(written):
    data = mp3(noise(4)) + mp3(noise(4))
    with pytest.raises(AudioError, match=r" [78]\.\d\d s, [56]\.\d\d s ") as caught:
        audio.read(written(data[: len(data) * 3 // 4], "a.mp3"), RATE)
    assert caught.value.kind == "truncated"


# ---------------------------------------------------------------- Ogg


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.wav"])
def test_chained_ogg_is_heard_to_its_end(written, subtype, name):
    first, second = (encoded(sine(hertz, 2, RATE), RATE, "OGG", subtype) for hertz in (500, 900))
    path = written(first + second, name)
    assert frequencies(audio.read(path, RATE)) == [500, 500, 900, 900]
    assert audio.probe(path).seconds == 4
    alone = audio.read(written(second, "b.ogg"), RATE)
    np.testing.assert_array_equal(audio.read(path, RATE, 2), alone)  # a stretch of the second stream only
    np.testing.assert_array_equal(audio.read(path, RATE, 2.5, 3.5), audio.read(written(second, "b.ogg"), RATE, 0.5, 1.5))


def test_ogg_chained_to_itself_is_heard_twice_though_its_serial_number_is_the_same(written):
    data = encoded(sine(500, 2, RATE), RATE, "OGG")
    assert len(audio.read(written(data + data, "a.ogg"), RATE)) == 4 * RATE


def test_ogg_links_of_other_codecs_rates_and_channels_are_fitted_to_the_first(written):
    stereo = np.tile(sine(700, 1, 48000)[:, None], (1, 2))
    links = [
        encoded(sine(500, 1, RATE), RATE, "OGG"),
        encoded(stereo, 48000, "OGG", "OPUS"),
        encoded(sine(900, 1, 8000), 8000, "OGG"),
    ]
    path = written(b"".join(links), "a.ogg")
    assert frequencies(audio.read(path, RATE)) == [500, 700, 900]
    assert audio.probe(path).seconds == 3


def test_ogg_whose_first_page_is_not_marked_as_such_is_left_to_the_decoder(written):
    data = bytearray(encoded(noise(1), RATE, "OGG"))
    data[5] = 0
    with pytest.raises(AudioError, match="cannot be read as audio"):
        audio.read(written(bytes(data), "a.ogg"), RATE)


def test_chained_ogg_cut_within_its_second_link_is_refused(written):
    data = encoded(noise(5), RATE, "OGG") + encoded(noise(5), RATE, "OGG")[:-100]
    with pytest.raises(AudioError, match="is damaged") as caught:
        audio.read(written(data, "a.ogg"), RATE)
    assert caught.value.kind == "truncated"


# ---------------------------------------------------------------- FLAC


def with_total(data: bytes, total: int) -> bytes:
    """A FLAC file whose header says another number of samples."""
    return data[:21] + bytes([data[21] & 0xF0 | total >> 32]) + (total & 0xFFFFFFFF).to_bytes(4, "big") + data[26:]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 3, 11.3])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("total", [0, 1000])
def test_flac_of_unknown_or_too_short_a_length_is_heard_to_its_end(written, seconds, channels, total):
    sound = np.tile(noise(seconds)[:, None], (1, channels))
    data = encoded(sound, RATE, "FLAC", "PCM_16")
    whole = audio.read(written(data, "a.flac"), RATE)
    path = written(with_total(data, total), "b.flac")
    assert audio.probe(path).frames == len(sound)
    np.testing.assert_array_equal(audio.read(path, RATE), whole)
    np.testing.assert_array_equal(audio.read(path, RATE, seconds / 2), whole[round(seconds / 2 * RATE) :])


def test_flac_of_unknown_length_that_was_cut_off_is_refused_where_it_ends(written):
    data = with_total(encoded(noise(4), RATE, "FLAC"), 0)
    with pytest.raises(AudioError, match=r"is damaged") as caught:
        audio.read(written(data[: len(data) // 2], "a.flac"), RATE)
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("lengths", [(2, 1), (1, 2), (1, 3, 2), (3, 3), (2, 2, 2)])
def test_joined_flac_is_heard_to_its_end(written, lengths):
    sounds = [sine(500 + 200 * k, seconds, RATE) for k, seconds in enumerate(lengths)]
    path = written(b"".join(encoded(sound, RATE, "FLAC") for sound in sounds), "a.flac")
    np.testing.assert_allclose(audio.read(path, RATE), np.concatenate(sounds), atol=1e-4)
    assert audio.probe(path).seconds == sum(lengths)


@pytest.mark.parametrize(
    "order", ["noise noise", "noise tone", "tone noise", "noise zeros", "zeros noise", "noise zeros noise"]
)
def test_joined_large_flac_of_equal_lengths_is_heard_to_its_end(written, order):
    seconds = 90
    size = seconds * RATE
    sounds = {"noise": noise(seconds), "tone": sine(440, seconds, RATE), "zeros": np.zeros(size, np.float32)}
    parts = {name: encoded(sound, RATE, "FLAC") for name, sound in sounds.items()}
    assert len(parts["noise"]) > 1 << 21
    path = written(b"".join(parts[name] for name in order.split()), "a.flac")
    assert audio.probe(path).frames == size * len(order.split())


def test_of_a_large_flac_of_one_stream_only_some_places_are_read(written, monkeypatch):
    data = encoded(noise(90), RATE, "FLAC")
    read: list[int] = []
    at = Region.at
    monkeypatch.setattr(Region, "at", lambda self, position, size: read.append(position) or at(self, position, size))
    monkeypatch.setattr(flac, "_marks", lambda file: pytest.fail("the whole file was searched"))
    assert audio.probe(written(data, "a.flac")).seconds == 90
    assert len(read) < 100


# ---------------------------------------------------------------- containers of plain samples

SIZES = {
    "WAV": ("data", 4, "<I"),
    "RF64": ("data", 4, "<I"),
    "AIFF": ("SSND", 4, ">I"),
    "W64": ("data", 16, "<q"),
    "CAF": ("data", 4, ">q"),
    "AU": (".snd", 8, ">I"),
}


def with_size(data: bytes, format: str, size: int) -> bytes:
    """A file whose samples' chunk says `size` bytes."""
    name, offset, code = SIZES[format]
    place = data.index(name.encode()) + offset
    extra = {"W64": 24, "CAF": 4, "AIFF": 8}.get(format, 0)
    if format == "RF64":  # its own 64-bit size
        place, code = data.index(b"ds64") + 16, "<Q"
    changed = bytearray(data)
    struct.pack_into(code, changed, place, size + extra if size >= 0 else size % (1 << 32) if code.endswith("I") else size)
    if format == "AIFF":
        struct.pack_into(">I", changed, data.index(b"COMM") + 10, max(0, size) // 2)
    return bytes(changed)


@pytest.mark.parametrize("format", SIZES)
@pytest.mark.parametrize("declared", [0, 2, 8000, 31998 - 64])
def test_samples_behind_the_declared_ones_are_heard(written, format, declared):
    sound = sine(440, 1, RATE)
    path = written(with_size(encoded(sound, RATE, format, "PCM_16"), format, declared), "a.x")
    assert audio.probe(path).seconds == 1
    np.testing.assert_allclose(audio.read(path, RATE), sound, atol=1e-4)


@pytest.mark.parametrize(
    ("format", "declared"), [("WAV", -1), ("AU", -1), ("CAF", -5), ("W64", (1 << 63) - 26), ("AIFF", 0x7F000000)]
)
def test_length_that_a_recorder_could_not_know_is_that_of_the_file(written, format, declared):
    sound = sine(440, 1, RATE)
    path = written(with_size(encoded(sound, RATE, format, "PCM_16"), format, declared), "a.x")
    np.testing.assert_allclose(audio.read(path, RATE), sound, atol=1e-4)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("format", SIZES)
def test_cut_file_is_refused_with_the_length_promised(written, format, share):
    data = encoded(noise(4), RATE, format, "PCM_16")
    with pytest.raises(AudioError, match=r" 4\.\d\d s, [0-3]\.\d\d s ") as caught:
        audio.read(written(data[: int(len(data) * share)], "a.x"), RATE)
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("format", ["WAV", "W64", "CAF"])
def test_wav_of_more_than_4_gb_whose_length_was_wrapped_is_heard_to_its_end(tmp_path, format):
    head = encoded(np.zeros((RATE, 8), np.float32), RATE, "WAV" if format == "WAV" else format, "FLOAT")
    path = tmp_path / "a.wav"
    tail = np.tile(sine(440, 1, RATE)[:, None], (1, 8)).astype("<f4")
    with path.open("wb") as file:
        file.write(head)
        file.seek(len(head) + (1 << 32))  # a hole: it takes no room
        file.write(tail.tobytes() if format != "CAF" else tail.astype(">f4").tobytes())
    seconds = 2 + (1 << 32) / (RATE * 32)
    assert audio.probe(path).seconds == pytest.approx(seconds, abs=1e-3)
    np.testing.assert_allclose(audio.read(path, RATE, seconds - 1), sine(440, 1, RATE), atol=1e-6)


@pytest.mark.parametrize("format", ["WAV", "AIFF", "AU", "CAF", "W64"])
def test_joined_files_are_heard_one_after_the_other(written, format):
    sounds = [sine(500 + 200 * k, 1, rate) for k, rate in enumerate((RATE, 8000, RATE))]
    data = b"".join(encoded(sound, rate, format, "PCM_16") for sound, rate in zip(sounds, (RATE, 8000, RATE), strict=True))
    path = written(data, "a.x")
    assert audio.probe(path).seconds == pytest.approx(3, abs=0.01)
    assert frequencies(audio.read(path, RATE)[: 3 * RATE]) == [500, 700, 900]


@pytest.mark.parametrize(
    "chunk",
    [
        b"LIST\x07\x00\x00\x00INFOabc\0",
        b"id3 \x05\x00\x00\x0012345",
        b"bext\xff\xff\x00\x00cut",
        b"abcd\x04\x00\x00\x00efghAPP1\x02\x00\x00\x00xy",
    ],
)
def test_chunks_and_tags_behind_the_samples_are_no_sound(written, chunk):
    for extra in (chunk, chunk * 3, b"TAG" + bytes(125)):
        assert len(audio.read(written(encoded(sine(440, 1, RATE)) + extra * 20, "a.wav"), RATE)) == RATE


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610", "ULAW", "DOUBLE"])
def test_coded_samples_behind_the_declared_ones_are_heard(written, subtype):
    data = encoded(sine(440, 4, RATE), RATE, "WAV", subtype)
    whole = audio.read(written(data, "a.wav"), RATE)
    place = data.index(b"data") + 4
    size = struct.unpack_from("<I", data, place)[0]
    changed = bytearray(data)
    struct.pack_into("<I", changed, place, size // 4 // 1040 * 1040)
    np.testing.assert_array_equal(audio.read(written(bytes(changed), "b.wav"), RATE), whole)


@pytest.mark.slow
def test_thousands_of_joined_files_and_chunks_are_walked_in_a_moment(written):
    one = encoded(sine(440, 0.01, RATE))
    assert audio.probe(written(one * 3000, "a.wav")).seconds == pytest.approx(30)
    empty = one[:12] + b"abcd\0\0\0\0" * 1_000_000
    with pytest.raises(AudioError, match="cannot be read as audio"):
        audio.probe(written(empty, "b.wav"))


def test_mp3_behind_bytes_that_are_none_is_heard_whole(written):
    data = mp3(sine(500, 3, RATE))
    for begun in (data, frames_only(data)):
        for before in (b"\0" * 3000, bytes(range(200)) * 3):
            assert audio.probe(written(before + begun, "a.mp3")).seconds == pytest.approx(3, abs=0.2)
            assert len(audio.read(written(before + begun, "a.mp3"), RATE)) / RATE == pytest.approx(3, abs=0.2)


@pytest.mark.slow
def test_padding_in_an_mp3_is_passed_in_a_moment(written):
    data = frames_only(mp3(sine(500, 1, RATE)))
    for padding in (b"\xff", b"\0", b"\xff\xfb"):
        path = written(data + padding * (20_000_000 // len(padding)) + data, "a.mp3")
        assert audio.probe(path).seconds == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("values", [(np.inf, -np.inf), (3e38, 3e38), (np.nan, 0)])
def test_joined_part_of_other_channels_that_holds_no_numbers_is_refused_without_a_warning(written, values):
    wild = np.tile(np.array([values], np.float32), (100, 1))
    data = encoded(sine(500, 1, RATE), RATE, "WAV", "FLOAT") + encoded(wild, RATE, "WAV", "FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        audio.read(written(data, "a.wav"), RATE)


# ---------------------------------------------------------------- codecs that cannot seek, rates that cannot be

CANNOT_SEEK = [
    ("WAV", "GSM610"), ("WAV", "G721_32"), ("WAV", "NMS_ADPCM_16"), ("WAV", "NMS_ADPCM_24"), ("WAV", "NMS_ADPCM_32"),
    ("W64", "GSM610"), ("AIFF", "GSM610"), ("AIFF", "DWVW_16"), ("AIFF", "DWVW_24"),
    ("AU", "G721_32"), ("AU", "G723_24"), ("AU", "G723_40"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "subtype"), CANNOT_SEEK)
def test_codec_that_cannot_seek_is_heard_whole_and_in_stretches(written, monkeypatch, format, subtype):
    monkeypatch.setattr(audio, "BLOCK_SECONDS", 0.4)
    path = written(encoded(sine(440, 3, 8000), 8000, format, subtype), "a.x")
    whole = audio.read(path, 8000)
    assert 24000 <= len(whole) <= 24320  # GSM codes 320 samples at a time
    assert loudest_frequency(whole, 8000) == pytest.approx(440, abs=1)
    np.testing.assert_array_equal(audio.read(path, 8000, 1, 2), whole[8000:16000])


def with_rate(rate: int) -> bytes:
    data = bytearray(encoded(noise(1)))
    struct.pack_into("<I", data, 24, rate)
    return bytes(data)


@pytest.mark.parametrize("rate", [1, 99, 10_000_001, 2_000_000_000])
def test_rate_that_no_sound_has_is_refused(written, rate):
    with pytest.raises(AudioError, match=rf"a\.wav has {rate} .* 100 to 10000000 "):
        audio.probe(written(with_rate(rate), "a.wav"))


@pytest.mark.parametrize("rate", [100, 500_000, 10_000_000])
def test_rare_rates_are_read(written, rate):
    assert len(audio.read(written(with_rate(rate), "a.wav"), RATE)) == pytest.approx(RATE * RATE / rate, abs=1)


def test_block_is_no_larger_for_a_high_rate_and_many_channels(written):
    path = written(encoded(np.zeros((10_000, 1000), np.float32), 10_000_000, "WAV"), "a.wav")
    assert max(len(block) for block in audio.blocks(path, 10_000_000)) * 1000 <= 1 << 22
