"""Where live sound comes from: standard input, whatever ffmpeg reads, and files."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from audiorep import audio
from audiorep.audio.decoders import RATES
from audiorep.errors import AudioError, ConfigError
from audiorep.escape import visible

FORMATS = {"s16le": ("<i2", 32768.0), "s32le": ("<i4", 2147483648.0), "u8": ("u1", 128.0), "f32le": ("<f4", 1.0)}
"""Raw samples by ffmpeg's names: numpy's name, and what full scale is."""
PACE_SECONDS = 0.1  # of a file that is heard in real time
BLOCK_BYTES = 1 << 16
LONGEST_HEADER = 1 << 20  # bytes before the samples of a WAV stream
KILL_SECONDS = 2.0
ENDINGS = (  # signals to a process, and how long each is waited for; ffmpeg leaves a read that waits only at a second SIGTERM
    (signal.SIGTERM, 0.2),
    (signal.SIGTERM, KILL_SECONDS),
    (getattr(signal, "SIGKILL", signal.SIGTERM), KILL_SECONDS),
)
LAST_LINES = 3  # of ffmpeg's complaints
PROBED = ["-probesize", "32768", "-analyzeduration", "1000000"]  # bytes, µs: by itself ffmpeg holds the first seconds back


class StalledError(Exception):
    """Nothing arrived in time."""


class Opened(Protocol):
    """A source that is being read."""

    sample_rate: int
    """Hz."""

    def read(self, seconds: float) -> np.ndarray | None:
        """(n, C) floats that have arrived; None at the end.

        Raises:
            AudioError: the source failed.
            StalledError: nothing arrived in so many seconds.
        """
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class Source(Protocol):
    """Something to listen to."""

    name: str
    is_live: bool
    """Whether it goes on while nobody reads, so that what is not read in time is lost, and a new connection may be tried."""
    has_clock: bool
    """Whether its samples are of now, and so have a time of day."""

    def open(self) -> Opened:
        """A connection to it.

        Raises:
            AudioError: there is none.
        """
        ...


def source_of(
    text: str,
    model_rate: int,
    rate: int | None = None,
    channels: int = 1,
    form: str = "s16le",
    realtime: bool = False,
    reconnect: bool = True,
) -> Source:
    """The source that a user names: `-`, an address with `://`, or else a file.

    Args:
        text: what the user gave.
        model_rate: Hz at which addresses and files are read.
        rate: Hz of raw samples on standard input; None: a WAV stream tells its own.
        channels: of raw samples.
        form: of raw samples, a key of `FORMATS`.
        realtime: whether files take as long as they last.
        reconnect: whether an address that ends, fails or falls silent is tried again.

    Raises:
        ConfigError: a rate, number of channels or form that is not allowed.
    """
    if form not in FORMATS:
        raise ConfigError(f"raw samples of {visible(form)}: known are {', '.join(FORMATS)}.")
    if not 1 <= channels <= 1024 or (rate is not None and not RATES[0] <= rate <= RATES[1]):
        raise ConfigError(f"raw samples of {rate} Hz in {channels} channels: {RATES[0]} to {RATES[1]} Hz, 1 to 1024 channels.")
    if text == "-":
        return StandardInput(rate, channels, form)
    return Address(text, model_rate, reconnect) if "://" in text else SoundFile(Path(text), model_rate, realtime)


class SoundFile:
    """A file, as fast as it is heard or in real time."""

    is_live = False

    def __init__(self, path: Path, sample_rate: int, realtime: bool = False) -> None:
        self.name, self.sample_rate, self.has_clock = str(path), sample_rate, realtime
        self._path, self._realtime = path, realtime

    def open(self) -> Opened:
        """The file from its beginning."""
        blocks = audio.blocks(self._path, self.sample_rate)
        first = next(blocks, np.zeros(0, np.float32))  # an unreadable file is refused here
        return _Blocks(self._all(first, blocks), self.sample_rate, self._realtime)

    def _all(self, first: np.ndarray, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        yield first
        yield from blocks


class _Blocks:
    """Blocks (n,) as a source, in real time if that is asked for."""

    def __init__(self, blocks: Iterator[np.ndarray], sample_rate: int, realtime: bool) -> None:
        self.sample_rate = sample_rate
        self._blocks = _pieces(blocks, round(PACE_SECONDS * sample_rate)) if realtime else blocks
        self._begun, self._given, self._realtime = time.monotonic(), 0, realtime

    def read(self, seconds: float) -> np.ndarray | None:
        """The next block, when its last sample would have been heard."""
        if (block := next(self._blocks, None)) is None:
            return None
        self._given += len(block)
        if self._realtime:
            time.sleep(max(0.0, self._begun + self._given / self.sample_rate - time.monotonic()))
        return block[:, None]

    def close(self) -> None:
        """Nothing is held but the file, which goes with its blocks."""


def _pieces(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    for block in blocks:
        yield from (block[first : first + size] for first in range(0, len(block), size))


class StandardInput:
    """Raw samples, or a WAV stream, whose header tells rate, channels and form."""

    name, is_live, has_clock = "-", False, True

    def __init__(self, rate: int | None, channels: int = 1, form: str = "s16le") -> None:
        self._rate, self._channels, self._form = rate, channels, form

    def open(self) -> Opened:
        """What arrives from now on."""
        place = sys.stdin.fileno()
        begun = _read_exactly(place, 4)
        if begun in (b"RIFF", b"RF64"):
            rate, channels, form = _wav_header(place)
            return _Samples(place, rate, channels, form)
        if self._rate is None:
            raise AudioError("Standard input is no WAV stream; give the rate of its raw samples, for example --rate 48000.")
        return _Samples(place, self._rate, self._channels, self._form, begun)


class _Samples:
    """Raw samples from a file descriptor."""

    def __init__(self, place: int, sample_rate: int, channels: int, form: str, begun: bytes = b"") -> None:
        self.sample_rate = sample_rate
        self._place, self._channels, self._left = place, channels, begun
        self._type, self._scale = FORMATS[form]
        self._middle = 128.0 if form == "u8" else 0.0

    def read(self, seconds: float) -> np.ndarray | None:
        """All whole samples that have arrived."""
        if os.name != "nt" and not select.select([self._place], [], [], seconds)[0]:  # Windows cannot wait for a pipe
            raise StalledError
        if not (content := os.read(self._place, BLOCK_BYTES)):
            return None
        content = self._left + content
        size = self._channels * np.dtype(self._type).itemsize
        whole = len(content) - len(content) % size
        self._left = content[whole:]
        values = np.frombuffer(content[:whole], self._type).astype(np.float32)
        return ((values - self._middle) / self._scale).reshape(-1, self._channels)

    def close(self) -> None:
        """Standard input stays open."""


def _read_exactly(place: int, size: int) -> bytes:
    content = b""
    while len(content) < size and (more := os.read(place, size - len(content))):
        content += more
    return content


def _wav_header(place: int) -> tuple[int, int, str]:
    """Rate, channels and form of a WAV stream of which `RIFF` was read, up to its first sample.

    Raises:
        AudioError: it is damaged, or holds samples of another kind.
    """
    _read_exactly(place, 8)  # a size, which a stream cannot know, and WAVE
    found: tuple[int, int, str] | None = None
    passed = 0
    while passed < LONGEST_HEADER:
        head = _read_exactly(place, 8)
        if len(head) < 8:
            break
        kind, size = struct.unpack("<4sI", head)
        if kind == b"data":
            if found is None:
                break
            return found
        content = _read_exactly(place, min(size + size % 2, LONGEST_HEADER))
        passed += len(content) + 8
        if kind == b"fmt " and len(content) >= 16:
            found = _wav_format(content)
    raise AudioError("Standard input begins like a WAV stream, but its header is damaged.")


def _wav_format(content: bytes) -> tuple[int, int, str]:
    code, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if code == 0xFFFE and len(content) >= 26:  # WAVE_FORMAT_EXTENSIBLE names the kind further on
        code = struct.unpack("<H", content[24:26])[0]
    form = {(1, 8): "u8", (1, 16): "s16le", (1, 32): "s32le", (3, 32): "f32le"}.get((code, bits))
    if form is None or not 1 <= channels <= 1024 or not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"Standard input is a WAV stream of {channels} channels of {bits} bits (kind {code}) at {rate} Hz, which is not "
            f"read; 8, 16 and 32 bits and floats of 32 are."
        )
    return rate, channels, form


class Address:
    """What ffmpeg reads from an address: RTSP, HTTP, HLS and others, as a child process in a group of its own."""

    has_clock = True

    def __init__(self, address: str, sample_rate: int, reconnect: bool = True, program: str = "ffmpeg") -> None:
        self.name, self.is_live, self.sample_rate = _without_password(address), reconnect, sample_rate
        self._address, self._program = address, program

    def open(self) -> Opened:
        """A process that reads it."""
        over_tcp = ["-rtsp_transport", "tcp"] if self._address.startswith("rtsp") else []
        quiet = ["-nostdin", "-hide_banner", "-loglevel", "error"]
        out = ["-vn", "-ac", "1", "-ar", str(self.sample_rate), "-f", "f32le", "-"]
        try:
            process = subprocess.Popen(
                [self._program, *quiet, *over_tcp, *PROBED, "-i", self._address, *out],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us: we end it
            )
        except OSError as error:
            raise AudioError(f"{self.name} cannot be heard: {self._program} cannot be run ({error.strerror}).") from None
        return _Process(process, self.name, self.sample_rate)


def _without_password(address: str) -> str:
    """The address as it is shown: a name and password in it are left out."""
    kind, mark, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    return visible(f"{kind}{mark}{place.rpartition('@')[2]}{slash}{path}")


class _Process:
    """The samples of a process, and its last words."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, sample_rate: int) -> None:
        assert process.stdout is not None
        self.sample_rate = sample_rate
        self._process, self._name = process, name
        self._samples = _Samples(process.stdout.fileno(), sample_rate, 1, "f32le")
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
                raise AudioError(f"{self._name} cannot be heard: {words}")
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
                self._words.append(line.decode(errors="replace").strip())
