"""Addresses that ffmpeg reads, such as those of cameras and of internet radio."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from audiorep.errors import AudioError
from audiorep.escape import visible
from audiorep.listen.raw import RawSamples
from audiorep.listen.sources import Opened, StalledError

KILL_SECONDS = 2.0
ENDINGS = (  # signals to a process, and how long each is waited for; ffmpeg leaves a read that waits only at a second SIGTERM
    (signal.SIGTERM, 0.2),
    (signal.SIGTERM, KILL_SECONDS),
    (getattr(signal, "SIGKILL", signal.SIGTERM), KILL_SECONDS),
)
LAST_LINES = 3  # of ffmpeg's complaints
QUICK_PROBE = ["-probesize", "32768", "-analyzeduration", "1000000"]  # bytes, µs: by itself ffmpeg holds seconds of a WAV back
NO_SOUND = "does not contain any stream"


class Address:
    """What ffmpeg reads from an address: RTSP, HTTP, HLS and others, as a child process in a group of its own."""

    has_clock = True

    def __init__(self, address: str, sample_rate: int, reconnect: bool = True, program: str = "ffmpeg") -> None:
        self.name, self.is_live, self.sample_rate = _without_password(address), reconnect, sample_rate
        self._address, self._program = address, program
        self._probe = QUICK_PROBE  # until that finds no sound, as between a camera's large pictures

    def open(self) -> Opened:
        """A process that reads it."""
        return _Connection(self.start, self._probe_longer, self.sample_rate)

    def start(self) -> _Process:
        """The process.

        Raises:
            AudioError: there is no ffmpeg.
        """
        over_tcp = ["-rtsp_transport", "tcp"] if self._address.startswith("rtsp") else []
        quiet = ["-nostdin", "-hide_banner", "-loglevel", "error"]
        out = ["-vn", "-ac", "1", "-ar", str(self.sample_rate), "-f", "f32le", "-"]
        try:
            process = subprocess.Popen(
                [self._program, *quiet, *over_tcp, *self._probe, "-i", self._address, *out],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us: we end it
            )
        except OSError as error:
            raise AudioError(f"{self.name} cannot be heard: {self._program} cannot be run ({error.strerror}).") from None
        return _Process(process, self._address, self.name, self.sample_rate)

    def _probe_longer(self) -> bool:
        """Whether that is something new."""
        before, self._probe = self._probe, []
        return bool(before)


class _NoSoundError(AudioError):
    """ffmpeg found no sound in what it probed."""


class _Connection:
    """What a process gives; one that found no sound is started once more, and probes longer."""

    def __init__(self, start: Callable[[], _Process], probe_longer: Callable[[], bool], sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._start, self._probe_longer, self._process = start, probe_longer, start()

    def read(self, seconds: float) -> np.ndarray | None:
        """What it wrote."""
        try:
            return self._process.read(seconds)
        except _NoSoundError:
            if not self._probe_longer():
                raise
            self._process.close()
            self._process = self._start()
            raise StalledError from None

    def close(self) -> None:
        """Ends the process."""
        self._process.close()


def _without_password(address: str) -> str:
    """The address as it is shown: a name and password in it are left out."""
    kind, mark, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    return visible(f"{kind}{mark}{place.rpartition('@')[2]}{slash}{path}")


class _Process:
    """The samples of a process, and its last words."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, name: str, sample_rate: int) -> None:
        assert process.stdout is not None
        self.sample_rate = sample_rate
        self._process, self._address, self._name = process, address, name
        self._samples = RawSamples(process.stdout.fileno(), sample_rate, 1, "f32le")
        self._words: deque[str] = deque(maxlen=LAST_LINES)
        self._drain = threading.Thread(target=self._listen, daemon=True)
        self._drain.start()

    def read(self, seconds: float) -> np.ndarray | None:
        """What it wrote."""
        found = self._samples.read(seconds)
        if found is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_SECONDS)
            if self._process.returncode:
                self._drain.join(KILL_SECONDS)
                words = visible(self._words[-1][:300]) if self._words else f"exit status {self._process.returncode}"
                kind = _NoSoundError if NO_SOUND in words else AudioError
                raise kind(f"{self._name} cannot be heard: {words}")
        return found

    def close(self) -> None:
        """Ends the process and all that it started."""
        for ending, seconds in ENDINGS:
            if self._process.poll() is not None:
                break
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, ending) if hasattr(os, "killpg") else self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with suppress(ValueError, OSError):  # closed
            for line in self._process.stderr:
                self._words.append(
                    line.decode(errors="replace").strip().replace(self._address, _without_password(self._address))
                )
