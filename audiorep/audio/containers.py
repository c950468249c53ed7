"""Sounds inside a tar or HDF5 file, with paths as in a folder: `shard.tar/000123.flac`, `EPIC_audio.hdf5/P01_11`."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.errors import AudioError, require

HDF5_SUFFIXES = frozenset({".hdf5", ".h5", ".HDF5", ".H5"})
HDF5_DEFAULT_RATE = 24_000  # Hz; the rate of the EPIC data sets, whose HDF5 files do not state it
MAX_CACHED_INDEXES = 64  # of tar and HDF5 files


def container_of(path: Path) -> Path | None:
    """The tar or HDF5 file that `path` lies in; None for an ordinary file."""
    for parent in path.parents:
        if (parent.suffix in HDF5_SUFFIXES or parent.suffix == ".tar") and parent.is_file():
            return parent
    return None


def exists(path: Path) -> bool:
    """Whether there is a sound at `path`, on disk or in a container.

    Raises:
        AudioError: the container cannot be read.
    """
    container = container_of(path)
    if container is None:
        return path.exists()
    name = path.relative_to(container).as_posix()
    return name in (_members(container) if container.suffix == ".tar" else tracks(container))


def read_member(path: Path, container: Path) -> io.BytesIO:
    """The bytes of one file in a tar.

    Raises:
        AudioError: the tar cannot be read, is cut off, or does not hold the file.
    """
    name = path.relative_to(container).as_posix()
    place = _members(container).get(name)
    if place is None and _is_cut_off(container):
        raise AudioError(f"{container} is cut off before its end, and holds no {name}. Make the shard again.", "truncated")
    if place is None:
        raise AudioError(f"{container} holds no {name}.", "missing")
    offset, size = place
    with container.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise AudioError(f"{path} is cut off: {container.name} ends within it. Make the shard again.", "truncated")
    return io.BytesIO(data)


def tracks(container: Path) -> frozenset[str]:
    """The names of all sounds in an HDF5 file, those in groups included.

    Raises:
        AudioError: the file cannot be read.
    """
    return _tracks(container, *_size_and_time(container))


class Track:
    """One sound of an HDF5 file, with the methods of `decoders.Decoder`.

    Its rate is the attribute `sample_rate` of the sound or of the file, or else 24 kHz. Integers are scaled to -1..1.

    Raises:
        AudioError: the file cannot be read, or does not hold the sound.
    """

    format = "HDF5"

    def __init__(self, path: Path, container: Path) -> None:
        self._file = _open_hdf5(container)
        name = path.relative_to(container).as_posix()
        with _as_audio_error(container):
            data = self._file.get(name)
        if not hasattr(data, "dtype") or data.dtype.kind not in "fi" or data.ndim not in (1, 2):
            self._file.close()
            what = "no sound" if data is None else "something that is no sound"
            raise AudioError(f"{container} holds {what} called {name}; it has {_listed(sorted(tracks(container)))}.", "missing")
        self._path, self._data, self._position = path, data, 0
        # (samples,), (samples, channels) or (channels, samples)
        self._channels_first = data.ndim == 2 and data.shape[0] < data.shape[1]
        self.frames = int(data.shape[1] if self._channels_first else data.shape[0]) if data.size else 0
        self.channels = int(data.size // max(self.frames, 1)) or 1
        self.samplerate = self._rate(container)
        self.subtype = str(data.dtype)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def skip(self, frames: int) -> None:
        """Moves on by `frames` frames."""
        self._position += frames

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """The next (frames, channels) float32; fewer frames at the end."""
        window = slice(self._position, self._position + frames)
        with _as_audio_error(self._path, "truncated"):  # damage in one part shows only when that part is read
            block = np.asarray(self._data[:, window].T if self._channels_first else self._data[window])
        self._position += len(block)
        scale = 1.0 if block.dtype.kind == "f" else 1 / -float(np.iinfo(block.dtype).min or -1)
        return (block.astype(np.float32) * np.float32(scale)).reshape(len(block), -1)

    def _rate(self, container: Path) -> int:
        """The sample rate in Hz."""
        with _as_audio_error(self._path):
            given = self._data.attrs.get("sample_rate", self._file.attrs.get("sample_rate", HDF5_DEFAULT_RATE))
        try:
            rate = int(given)
        except (TypeError, ValueError):
            rate = 0
        if rate < 1:
            self._file.close()
            raise AudioError(f"{self._path} has the attribute sample_rate {given!r}; a whole number of Hz is needed.")
        return rate


def _members(container: Path) -> dict[str, tuple[int, int]]:
    return _index(container, *_size_and_time(container))


def _size_and_time(container: Path) -> tuple[int, int]:
    """Size and modification time of the file, which change when its content does."""
    about = container.stat()
    return about.st_size, about.st_mtime_ns


@lru_cache(MAX_CACHED_INDEXES)
def _index(container: Path, size: int, modified: int) -> dict[str, tuple[int, int]]:
    """{name: (offset, size)} of every file in a tar; if the tar is cut off, of those before the cut."""
    members: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(container, "r:") as tar:
            for member in tar:
                if member.isfile():
                    members[member.name] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        if not members:
            raise AudioError(f"{container} cannot be read as a tar file ({error}).", "unreadable") from None
    return members


def _is_cut_off(container: Path) -> bool:
    """Whether a tar lacks the two empty blocks at its end."""
    with container.open("rb") as file:
        file.seek(max(0, container.stat().st_size - 2 * tarfile.BLOCKSIZE))
        return any(file.read()) or container.stat().st_size < 2 * tarfile.BLOCKSIZE


@lru_cache(MAX_CACHED_INDEXES)
def _tracks(container: Path, size: int, modified: int) -> frozenset[str]:
    names: list[str] = []
    with _open_hdf5(container) as file, _as_audio_error(container):
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
    return frozenset(names)


def _open_hdf5(container: Path) -> Any:
    h5py = require("h5py", extra="train")
    try:
        return h5py.File(container, "r")
    except OSError as error:
        raise AudioError(f"{container} cannot be read as HDF5 ({_reason(error)}).", "unreadable") from None


@contextmanager
def _as_audio_error(path: Path, kind: str = "unreadable") -> Iterator[None]:
    """Turns every error that h5py raises for a damaged file into an `AudioError`."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise AudioError(f"{path} is damaged ({_reason(error)}). Re-copy the file.", kind) from None


def _reason(error: Exception) -> str:
    """The cause in brackets in a message of HDF5, without its numbers; without brackets the start of the message."""
    before, _, inside = str(error).strip("'").partition(" (")
    return (inside.removesuffix(")") or before).partition(":")[0].partition(",")[0].strip()


def _listed(names: list[str]) -> str:
    return f"{len(names)} sounds: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
