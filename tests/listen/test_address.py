"""What is read from addresses through a real ffmpeg: files that a server sends, cameras, and streams of another ffmpeg."""

from __future__ import annotations

import io
import signal
import subprocess
import time

import numpy as np
import pytest
import soundfile
from support import processes
from support.broker import free_port
from support.rtsp import Camera
from support.streaming import RATE, Server, everything, flac, needs_ffmpeg, tone

from audiorep.errors import AudioError
from audiorep.listen.address import Address
from audiorep.listen.sources import Opened, StalledError


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


@pytest.mark.slow
@needs_ffmpeg
def test_a_stuck_address_is_left_without_a_process():
    server = Server(flac(np.random.default_rng(0).uniform(-1, 1, 20 * RATE)), after=200_000, pause=60.0)
    opened = Address(server.address, RATE).open()
    assert samples_until_stalled(opened) > RATE
    process = opened._process._process
    opened.close()
    server.close()
    assert process.poll() not in (None, -signal.SIGKILL)


def test_without_ffmpeg_one_sentence_says_so(monkeypatch):
    with pytest.raises(AudioError, match="no-such-program cannot be run"):
        Address("http://a/b", RATE, program="no-such-program").open()


@pytest.mark.slow
@needs_ffmpeg
def test_a_live_wav_stream_is_heard_from_its_first_seconds():
    file = io.BytesIO()
    soundfile.write(file, tone(20.0), RATE, "PCM_16", format="WAV")
    server = Server(file.getvalue(), after=128_000, pause=60.0)  # four seconds, of which ffmpeg by itself gives none
    opened = Address(server.address, RATE).open()
    heard = samples_until_stalled(opened)
    opened.close()
    server.close()
    assert heard >= 3 * RATE


@needs_ffmpeg
def test_a_camera_with_large_pictures_is_heard(tmp_path):
    picture = ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=2,noise=alls=40:allf=t"]
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=2"]
    codecs = ["-c:v", "mpeg2video", "-b:v", "12M", "-c:a", "aac", "-f", "mpegts", str(tmp_path / "camera.ts")]
    assert processes.run(["ffmpeg", "-v", "error", *picture, *sound, *codecs]).returncode == 0
    server = Server((tmp_path / "camera.ts").read_bytes())
    address = Address(server.address, RATE)
    for requests in (2, 3):  # the first connection probed too little; the next one knows
        opened = address.open()
        patience = time.monotonic() + 20
        found = []
        while time.monotonic() < patience:
            try:
                if (samples := opened.read(1.0)) is None:
                    break
                found.append(samples)
            except StalledError:
                pass
        opened.close()
        assert len(np.concatenate(found)) == pytest.approx(2 * RATE, rel=0.1)
        assert server.requests == requests
    server.close()


@pytest.mark.slow
@needs_ffmpeg
def test_a_camera_is_heard_by_rtsp():
    camera = Camera(tone(4.0), RATE)
    address = Address(camera.address, RATE)
    assert "secret" not in address.name
    opened = address.open()
    begun = time.monotonic()
    found = [opened.read(10.0)]
    assert time.monotonic() - begun < 3  # it is heard while it sends
    while sum(map(len, found)) < 2 * RATE:
        found.append(opened.read(10.0))
    process = opened._process._process
    opened.close()
    camera.close()
    assert process.poll() is not None
    heard = np.concatenate(found)
    assert np.abs(heard[RATE // 2 : RATE]).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
@needs_ffmpeg
def test_what_another_ffmpeg_serves_is_heard(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(3.0), RATE)
    address = f"http://127.0.0.1:{free_port()}/live"
    form = ["-c:a", "libmp3lame", "-f", "mp3", "-listen", "1"]
    words = ["ffmpeg", "-v", "error", "-re", "-i", str(tmp_path / "a.flac"), *form, address]
    with processes.started(words, stdin=subprocess.DEVNULL) as server:
        time.sleep(1.0)
        opened = Address(address, RATE).open()
        found = everything(opened)
        server.wait(20)
    assert len(found) == pytest.approx(3 * RATE, rel=0.1)
    assert np.abs(found[RATE : 2 * RATE]).max() == pytest.approx(0.5, abs=0.05)


@needs_ffmpeg
def test_a_password_is_not_told_by_ffmpeg_either():
    opened = Address(f"http://me:secret@127.0.0.1:{free_port()}/live", RATE).open()
    with pytest.raises(AudioError, match="cannot be heard") as refused:
        everything(opened)
    opened.close()
    assert "secret" not in str(refused.value)
