"""Microphones and other inputs of the sound card, by PortAudio."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from audiorep.errors import AudioError, BrokenPackageError, first_line, require
from audiorep.escape import visible
from audiorep.listen.sources import LostError, StalledError

BLOCK_SECONDS = 0.02  # that the card hands over at a time
KEPT_BLOCKS = 500  # 10 s
_lock = threading.Lock()
_open = 0  # streams in this process


@dataclass(frozen=True)
class Device:
    """An input of the sound card."""

    number: int
    name: str
    channels: int
    sample_rate: int
    """Hz, of its own."""
    is_default: bool


def devices() -> list[Device]:
    """All inputs, as they are now.

    Raises:
        MissingExtraError: the package sounddevice is not installed.
        BrokenPackageError: the library PortAudio is not.
    """
    sd = _sounddevice()
    with _lock:
        _look_again(sd)
        default = sd.default.device[0]
        rows = sd.query_devices()
    return [
        Device(k, str(row["name"]), int(row["max_input_channels"]), round(row["default_samplerate"]), k == default)
        for k, row in enumerate(rows)
        if row["max_input_channels"] > 0
    ]


class Microphone:
    """An input of the sound card.

    Args:
        which: its number or a part of its name; empty: the default.
        reconnect: whether it is opened again when it is gone.

    Raises:
        MissingExtraError: the package sounddevice is not installed.
        BrokenPackageError: the library PortAudio is not.
    """

    has_clock = True

    def __init__(self, which: str = "", reconnect: bool = True) -> None:
        self.name, self.is_live = f"mic:{visible(which)}" if which else "mic", reconnect
        self._which, self._sd = which, _sounddevice()

    def open(self) -> _Recording:
        """What it hears from now on.

        Raises:
            AudioError: there is no such input, or it cannot be opened.
        """
        device = find(self._which, devices())
        try:
            return _Recording(self._sd, device, self.name)
        except self._sd.PortAudioError as error:
            raise AudioError(f"{self.name} cannot be opened: {first_line(error)}.") from None


def find(which: str, known: list[Device]) -> Device:
    """The device of a number, of a name, or of the one name that holds a text; of an empty text, the default.

    Raises:
        AudioError: there is none, or several.
    """
    if not which:
        found = [device for device in known if device.is_default] or known[:1]
    elif which.isdecimal():
        found = [device for device in known if device.number == int(which)]
    else:
        found = [device for device in known if device.name == which] or [
            device for device in known if which.casefold() in device.name.casefold()
        ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{device.number} ({visible(device.name)})" for device in found or known) or "none"
    wanted = f"named {visible(which)}" if which else "at all"
    if not found:
        raise AudioError(f"There is no microphone {wanted}; there are: {names}.")
    raise AudioError(f"There are several microphones {wanted}: {names}. Give the number, such as mic:{found[0].number}.")


class _Recording:
    """An open input, whose blocks arrive in a thread of PortAudio's."""

    def __init__(self, sd: ModuleType, device: Device, name: str) -> None:
        self.sample_rate = device.sample_rate
        self._name = name
        self._blocks: queue.Queue[np.ndarray] = queue.Queue(KEPT_BLOCKS)
        self._lost = False
        self._pending: np.ndarray | None = None
        self._stream = self._opened(sd, device)
        _count(+1)

    def read(self, seconds: float) -> np.ndarray | None:
        """The blocks that have arrived, (n, C)."""
        if (pending := self._pending) is not None:
            self._pending = None
            return pending
        try:
            blocks = [self._blocks.get(timeout=seconds)]
        except queue.Empty:
            if not self._stream.active:
                return None
            raise StalledError from None
        while not self._blocks.empty():
            blocks.append(self._blocks.get())
        if self._lost:
            self._lost, self._pending = False, np.concatenate(blocks)
            raise LostError(f"{self._name} sent more than could be taken")
        return np.concatenate(blocks)

    def close(self) -> None:
        """Ends the recording."""
        self._stream.close(ignore_errors=True)
        _count(-1)

    def _opened(self, sd: ModuleType, device: Device) -> Any:
        """The stream of one channel, or of all where the input knows no other number."""
        form = {"device": device.number, "samplerate": device.sample_rate, "dtype": "float32"}
        channels = 1
        try:
            sd.check_input_settings(**form, channels=channels)
        except sd.PortAudioError:
            channels = device.channels
        block = round(BLOCK_SECONDS * device.sample_rate)
        stream = sd.InputStream(**form, channels=channels, blocksize=block, callback=self._receive)
        stream.start()
        return stream

    def _receive(self, samples: np.ndarray, frames: int, time: Any, status: Any) -> None:
        self._lost |= bool(status.input_overflow) or self._blocks.full()
        if self._blocks.full():
            self._blocks.get_nowait()
        self._blocks.put_nowait(samples.copy())


def _count(change: int) -> None:
    global _open
    with _lock:
        _open += change


def _look_again(sd: ModuleType) -> None:
    """Lets PortAudio see what was plugged in; it can only while nothing is open."""
    if not _open:
        sd._terminate()
        sd._initialize()


def _sounddevice() -> ModuleType:
    try:
        return require("sounddevice", extra="listen")
    except BrokenPackageError as error:
        raise BrokenPackageError(f"{error} On Debian, Ubuntu and Raspberry Pi OS: apt install libportaudio2") from None


def as_dict(device: Device) -> Mapping[str, object]:
    """A device as plain values for JSON."""
    return {
        "number": device.number,
        "name": device.name,
        "channels": device.channels,
        "sample_rate": device.sample_rate,
        "default": device.is_default,
    }
