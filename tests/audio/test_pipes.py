"""Sounds from standard input and named pipes are heard like files."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES
from support.info import make_info
from support.processes import audiorep, started, wait_until
from support.sounds import sine

from audiorep import audio
from audiorep.audio import pipes, sources
from audiorep.errors import AudioError
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import Session


def predict(data: bytes, *arguments: object) -> tuple[int, str, str]:
    """Status, output and messages of `predict` with `data` on its standard input."""
    with started(
        audiorep("predict", "--model", "esc50", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=False,
    ) as process:
        out, err = process.communicate(data, timeout=120)
        return process.returncode, out.decode(), err.decode()


def siren(format: str, subtype: str | None = None) -> bytes:
    sound, rate = soundfile.read(SAMPLES / "siren.flac", dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, sound, rate, subtype, format=format)
    return file.getvalue()


def from_a_pipe(data: bytes) -> bytes:
    """A WAV file as ffmpeg writes it where it cannot seek back."""
    place = data.index(b"data") + 4
    return data[:4] + b"\xff" * 4 + data[8:place] + b"\xff" * 4 + data[place + 4 :]


INPUTS: dict[str, Callable[[], bytes]] = {
    "wav": lambda: siren("WAV"),
    "wav without a length": lambda: from_a_pipe(siren("WAV")),
    "ogg": lambda: siren("OGG"),
    "mp3": lambda: siren("MP3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS)
def test_sound_on_standard_input_is_heard(name):
    status, out, err = predict(INPUTS[name](), "-", "--json")
    result = json.loads(out)
    assert (status, err, result["path"]) == (0, "", "-")
    assert result["labels"][0]["label"] == "siren"
    assert result["seconds"] == pytest.approx(5, abs=0.1)


@pytest.mark.slow
def test_standard_input_is_heard_among_files_and_has_its_row(tmp_path):
    status, out, err = predict(siren("FLAC"), SAMPLES / "rain.flac", "-", "-o", tmp_path / "a.csv")
    assert (status, err) == (0, "")
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(SAMPLES / "rain.flac"), "-"]
    assert (tmp_path / "a.csv").read_text().splitlines()[2].startswith("-,0.000,5.000,label,siren,")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", r"Error: Standard input \(-\) gave no data"),
        (b"hello", r"Error: - cannot be read as audio"),
    ],
)
def test_standard_input_without_a_sound_is_one_sentence_and_status_1(data, sentence):
    status, out, err = predict(data, "-")
    assert (status, out) == (1, "")
    assert err.count("Error") == 1
    assert re.match(sentence, err)


@pytest.mark.slow
def test_nothing_is_left_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert predict(siren("FLAC"), "-")[0] == 0
    assert list(tmp_path.glob("audiorep-*")) == []


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_for_standard_input(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with started(audiorep("predict", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: list(tmp_path.glob("audiorep-*")), process)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        assert process.returncode == 130
    assert list(tmp_path.glob("audiorep-*")) == []


# ---------------------------------------------------------------- named pipes


@pytest.fixture
def pipe(tmp_path) -> Callable[[bytes], Path]:
    """Writes bytes into a named pipe, from a thread, and gives its path."""
    threads = []

    def write(data: bytes) -> Path:
        path = tmp_path / f"{len(threads)}.pipe"
        os.mkfifo(path)
        threads.append(threading.Thread(target=path.write_bytes, args=(data,), daemon=True))
        threads[-1].start()
        return path

    yield write
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def encoded(format: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sine(440, 2, 16000), 16000, subtype, format=format)
    return file.getvalue()


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("AIFF", None), ("AU", None),
     ("CAF", None), ("W64", None), ("RF64", None), ("WAV", "GSM610"), ("AU", "G721_32")],
)  # fmt: skip
def test_pipe_is_read_like_the_file(pipe, tmp_path, format, subtype):
    data = encoded(format, subtype)
    (tmp_path / "file").write_bytes(data)
    np.testing.assert_array_equal(audio.read(pipe(data), 16000), audio.read(tmp_path / "file", 16000))


def test_pipe_can_be_read_again_and_again_while_it_is_kept(pipe):
    path = pipe(encoded("FLAC"))
    with pipes.keep_copies():
        assert audio.probe(path).seconds == 2
        with pipes.keep_copies():
            assert len(audio.read(path, 16000, 0.5, 1.5)) == 16000
        assert len(audio.read(path, 16000)) == 32000


def test_pipe_that_gave_nothing_is_refused_each_time(pipe):
    path = pipe(b"")
    with pipes.keep_copies():
        for _ in range(2):
            with pytest.raises(AudioError, match=r"0\.pipe") as caught:
                audio.probe(path)
            assert caught.value.kind == "empty"


def test_classifier_hears_pipes_in_views(pipe):
    class Silence(Session):
        info = make_info(sample_rate=16000)
        device = "CPU"

        def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
            return {"label": np.zeros((len(waveform), 3), np.float32)}

    [result] = Classifier(Silence()).files([pipe(encoded("FLAC"))], views=3)
    assert result.seconds == 2
    assert len(result.starts) == 3


def test_full_disk_is_a_sentence(pipe, monkeypatch, tmp_path):
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    path = pipe(encoded("WAV")[:100])
    monkeypatch.setattr(os, "fdopen", lambda handle, mode: os.close(handle) or Full())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    with pytest.raises(AudioError, match=r"0\.pipe .*here: No space left"):
        audio.probe(path)
    assert list((tmp_path / "here").iterdir()) == []


def test_file_named_like_standard_input_is_reached_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "a.wav", sine(440, 1, 16000), 16000)
    (tmp_path / "a.wav").rename(tmp_path / "-")
    assert list(sources.find(["-"])) == [Path("-")]
    [found] = sources.find(["./-"])
    assert len(audio.read(found, 16000)) == 16000
