"""What is read from standard input, from addresses through ffmpeg, and from files."""

from __future__ import annotations

import io
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from support.streaming import RATE, Server, flac, needs_ffmpeg

from audiorep.errors import AudioError, ConfigError
from audiorep.listen.sources import Address, Opened, SoundFile, StalledError, StandardInput, source_of


def tone(seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def everything(opened: Opened, patience: float = 10.0) -> np.ndarray:
    found = []
    while (samples := opened.read(patience)) is not None:
        found.append(samples)
    opened.close()
    return np.concatenate(found)


@pytest.fixture
def stdin(monkeypatch) -> Iterator[io.FileIO]:
    """The writing end of a pipe that is standard input."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as read, os.fdopen(writing, "wb", buffering=0) as write:
        monkeypatch.setattr("sys.stdin", read)
        yield write  # type: ignore[misc]


def feed(pipe: io.FileIO, content: bytes, sizes: int = 1000) -> threading.Thread:
    def write() -> None:
        for first in range(0, len(content), sizes):
            pipe.write(content[first : first + sizes])
        pipe.close()

    thread = threading.Thread(target=write)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("form", "scale", "kind"), [("s16le", 32768, "<i2"), ("s32le", 2**31, "<i4"), ("f32le", 1, "<f4"), ("u8", 128, "u1")]
)
def test_raw_samples_of_every_form(stdin, form, scale, kind):
    samples = np.stack([tone(0.3), -tone(0.3)], 1)
    content = (samples * (scale - (form != "f32le")) + (128 if form == "u8" else 0)).astype(kind).tobytes()
    thread = feed(stdin, content, 777)  # borders lie within samples
    opened = StandardInput(RATE, 2, form).open()
    found = everything(opened)
    thread.join()
    assert found.shape == samples.shape
    assert np.abs(found - samples).max() < (0.02 if form == "u8" else 1e-3)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_32", "FLOAT", "PCM_U8"])
@pytest.mark.parametrize("endless", [False, True])
def test_a_wav_stream_tells_its_rate_and_channels(stdin, subtype, endless):
    samples = np.stack([tone(0.2), -tone(0.2), tone(0.2)], 1)
    file = io.BytesIO()
    soundfile.write(file, samples, 22_050, subtype, format="WAV")
    content = bytearray(file.getvalue())
    if endless:  # as programs write to a pipe
        place = content.index(b"data")
        content[4:8] = content[place + 4 : place + 8] = struct.pack("<I", 0xFFFFFFFF)
    thread = feed(stdin, bytes(content))
    opened = StandardInput(None).open()
    found = everything(opened)
    thread.join()
    assert opened.sample_rate == 22_050
    assert np.abs(found[: len(samples)] - samples).max() < 0.02


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"RIFF\0\0\0\0WAVE", "header is damaged"),
        (b"RIFF\0\0\0\0WAVEdata\xff\xff\xff\xff1234", "header is damaged"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 1, 8000, 24_000, 3, 24) + b"data\0\0\0\0", "24 bits"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 0, 8000, 0, 0, 16) + b"data\0\0\0\0", "0 channels"),
        (b"RIFF\0\0\0\0WAVE" + b"junk\xff\xff\xff\x7f" * 100, "header is damaged"),
        (b"\0\1\2\3\4\5", "give the rate of its raw samples"),
        (b"", "give the rate"),
    ],
)
def test_what_is_no_sound_is_refused(stdin, content, reason):
    thread = feed(stdin, content or b"")
    with pytest.raises(AudioError, match=reason):
        StandardInput(None).open()
    thread.join()


def test_a_quiet_pipe_stalls(stdin):
    stdin.write(bytes(8))
    opened = StandardInput(RATE).open()
    assert len(opened.read(1.0)) == 4
    begun = time.monotonic()
    with pytest.raises(StalledError):
        opened.read(0.2)
    assert time.monotonic() - begun < 2


def test_files_are_read_at_the_models_rate_and_in_real_time(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.6), RATE)
    opened = SoundFile(tmp_path / "a.wav", 8_000).open()
    assert opened.sample_rate == 8_000
    assert everything(opened).shape == (4_800, 1)
    begun = time.monotonic()
    assert everything(SoundFile(tmp_path / "a.wav", RATE, realtime=True).open()).shape == (9_600, 1)
    assert time.monotonic() - begun > 0.5
    with pytest.raises(AudioError, match="does not exist"):
        SoundFile(tmp_path / "b.wav", RATE).open()


def test_sources_are_told_apart():
    kinds = {"-": StandardInput, "rtsp://camera/1": Address, "https://radio/x.m3u8": Address, "night.wav": SoundFile}
    assert {text: type(source_of(text, RATE)) for text in kinds} == kinds
    assert source_of("rtsp://a/b", RATE).is_live
    assert not source_of("rtsp://a/b", RATE, reconnect=False).is_live
    for wrong in ({"form": "mp3"}, {"rate": 10}, {"channels": 0}):
        with pytest.raises(ConfigError, match="raw samples"):
            source_of("-", RATE, **wrong)


def test_a_password_is_not_shown():
    assert Address("rtsp://me:secret@camera.local/live@1?x=1", RATE).name == "rtsp://camera.local/live@1?x=1"


@needs_ffmpeg
def test_an_address_is_read_by_ffmpeg():
    server = Server(flac(tone(2.0)))
    opened = Address(server.address, 8_000).open()
    found = everything(opened)
    server.close()
    assert opened.sample_rate == 8_000
    assert len(found) == pytest.approx(16_000, abs=100)
    assert np.abs(found[2000:14_000]).max() == pytest.approx(0.5, abs=0.02)


@needs_ffmpeg
@pytest.mark.parametrize("address", ["http://127.0.0.1:9/none", "none://somewhere", "file:///dev/null"])
def test_an_address_that_cannot_be_read_says_why(address):
    opened = Address(address, RATE).open()
    with pytest.raises(AudioError, match="cannot be heard"):
        everything(opened)
    opened.close()


def samples_until_stalled(opened: Opened) -> int:
    heard = 0
    try:
        while (samples := opened.read(1.5)) is not None:
            heard += len(samples)
    except StalledError:
        return heard
    raise AssertionError("it ended")


@needs_ffmpeg
def test_a_stuck_address_is_left_without_a_process():
    server = Server(flac(np.random.default_rng(0).uniform(-1, 1, 20 * RATE)), after=200_000, pause=60.0)
    opened = Address(server.address, RATE).open()
    assert samples_until_stalled(opened) > RATE
    process = opened._process
    opened.close()
    server.close()
    assert process.poll() not in (None, -signal.SIGKILL)


@needs_ffmpeg
@pytest.mark.slow
def test_a_live_wav_stream_is_heard_from_its_first_seconds():
    file = io.BytesIO()
    soundfile.write(file, tone(20.0), RATE, "PCM_16", format="WAV")
    server = Server(file.getvalue(), after=128_000, pause=60.0)  # four seconds, of which ffmpeg by itself gives none
    opened = Address(server.address, RATE).open()
    heard = samples_until_stalled(opened)
    opened.close()
    server.close()
    assert heard >= 3 * RATE


def test_without_ffmpeg_one_sentence_says_so(monkeypatch):
    with pytest.raises(AudioError, match="no-such-program cannot be run"):
        Address("http://a/b", RATE, program="no-such-program").open()
