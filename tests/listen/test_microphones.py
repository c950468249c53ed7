"""Microphones: chosen by name, and heard through a real sound server."""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes
from support.broker import until

from audiorep.errors import AudioError
from audiorep.listen.microphones import Device, find

needs_sound_server = pytest.mark.skipif(
    not (shutil.which("pulseaudio") and shutil.which("pacat") and ctypes.util.find_library("portaudio")),
    reason="pulseaudio, its tools or PortAudio are not installed",
)
KNOWN = [
    Device(0, "HDA Intel: Analog", 2, 48_000, False),
    Device(3, "USB Mic: Audio", 1, 44_100, True),
    Device(4, "USB Cam", 1, 16_000, False),
]
ALSA = """
pcm.kitchen {
  type pulse
  device "room.monitor"
  hint { show on description "Kitchen" }
}
"""  # fmt: skip


@pytest.mark.parametrize(("which", "number"), [("", 3), ("0", 0), ("cam", 4), ("USB Mic: Audio", 3), ("hda", 0)])
def test_a_microphone_is_found_by_number_or_a_part_of_its_name(which, number):
    assert find(which, KNOWN).number == number


@pytest.mark.parametrize(
    ("which", "known", "reason"),
    [
        ("7", KNOWN, r"no microphone named 7; there are: 0 \(HDA Intel: Analog\), 3 "),
        ("dragon", KNOWN, "no microphone named dragon"),
        ("usb", KNOWN, r"several microphones named usb: 3 \(USB Mic: Audio\), 4 \(USB Cam\). Give the number, such as mic:3"),
        ("", [], "no microphone at all; there are: none"),
    ],
)
def test_what_is_not_clear_is_refused(which, known, reason):
    with pytest.raises(AudioError, match=reason):
        find(which, known)


def test_without_a_default_the_first_is_taken():
    assert find("", KNOWN[:1]).number == 0


@pytest.fixture
def room(tmp_path) -> dict[str, str]:
    """The environment of a computer with a microphone named kitchen, which hears what is played in the room."""
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "alsa.conf").write_text(ALSA)
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PULSE_SERVER": f"unix:{tmp_path / 'pulse'}",
        "ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{tmp_path / 'alsa.conf'}",
    }


@contextmanager
def sound_server(room: dict[str, str]) -> Iterator[None]:
    socket = Path(room["PULSE_SERVER"].removeprefix("unix:"))
    words = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--disable-shm", "--use-pid-file=no"]
    words += ["-L", "module-null-sink sink_name=room rate=48000 channels=1"]
    words += ["-L", f"module-native-protocol-unix auth-anonymous=1 socket={socket}"]
    with processes.started(words, env=room, stderr=subprocess.DEVNULL):
        until(socket.exists)
        yield
    socket.unlink(missing_ok=True)


def play(path: Path, room: dict[str, str]) -> None:
    samples, rate = soundfile.read(path, dtype="int16")
    words = ["pacat", "--playback", "--device=room", "--raw", f"--rate={rate}", "--channels=1", "--format=s16le"]
    place = Path(room["HOME"]) / "played.raw"
    place.write_bytes(np.concatenate([samples, np.zeros(rate, np.int16)]).tobytes())
    assert processes.run([*words, "--latency-msec=50", str(place)], env=room).returncode == 0


@needs_sound_server
@pytest.mark.slow
def test_the_command_lists_and_hears_a_microphone_that_goes_and_comes_back(room):
    words = processes.audiorep("listen", "mic:kitchen", "--model", "esc50", "--json")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with ExitStack() as stack:
        with sound_server(room):
            listed = processes.run(processes.audiorep("listen", "--list-devices", "--json"), env=room)
            [kitchen] = [device for device in json.loads(listed.stdout) if device["name"] == "kitchen"]
            text = processes.run(processes.audiorep("listen", "--list-devices"), env=room).stdout
            process = stack.enter_context(processes.started(words, env=room, **pipes))
            rows = Lines(process.stdout)
            time.sleep(3)  # until it listens
            play(SAMPLES / "siren.flac", room)
            until(lambda: "siren" in rows.labels())
        with sound_server(room):
            until(lambda: [row for row in rows.found if "gap_seconds" in row])
            play(SAMPLES / "siren.flac", room)
            gap = next(number for number, row in enumerate(rows.found) if "gap_seconds" in row)
            until(lambda: "siren" in rows.labels(gap))
            process.send_signal(signal.SIGINT)
            process.wait(30)
    assert process.returncode == 130
    assert f"mic:{kitchen['number']:<3} kitchen, {kitchen['channels']} channels, {kitchen['sample_rate']} Hz" in text
    assert {row["source"] for row in rows.found} == {"mic:kitchen"}
    assert all(row["time"] for row in rows.found)
    assert 0.2 < rows.found[gap]["gap_seconds"] < 40


class Lines:
    """The rows that a process prints, as they come."""

    def __init__(self, stream: IO[str]) -> None:
        self.found: list[dict[str, Any]] = []
        threading.Thread(target=lambda: self.found.extend(map(json.loads, stream)), daemon=True).start()

    def labels(self, first: int = 0) -> set[str]:
        return {row.get("label", "") for row in self.found[first:]}
