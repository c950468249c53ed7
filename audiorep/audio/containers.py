"""Sounds inside one large file, named as if that file were a folder: `shard.tar/000123.flac`, `EPIC_audio.hdf5/P01_11`."""

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

HDF5 = frozenset({".hdf5", ".h5", ".HDF5", ".H5"})
HDF5_RATE = 24_000  # Hz; what the EPIC sets' HDF5 files hold, which say nothing of it themselves
SHARDS_OPEN = 64  # indexes of tar files kept in memory


def container_of(path: Path) -> Path | None:
    """The tar or HDF5 file that `path` lies in, or None where it names a file of its own."""
    for parent in path.parents:
        if (parent.suffix in HDF5 or parent.suffix == ".tar") and parent.is_file():
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
        AudioError: the tar cannot be read, is cut short, or holds no such file.
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
    """The names of all sounds in an HDF5 file, in groups or not.

    Raises:
        AudioError: it cannot be read.
    """
    return _tracks(container, *_version(container))


class Track:
    """One sound of an HDF5 file, with the part of soundfile's interface that reading needs; read by seeking.

    Its rate is the attribute `sample_rate` of the sound or of the file, or 24 kHz. Integers are scaled to -1..1.

    Raises:
        AudioError: the file cannot be read, or holds no such sound.
    """

    format = "HDF5"

    def __init__(self, path: Path, container: Path) -> None:
        self._file = _open_hdf5(container)
        name = path.relative_to(container).as_posix()
        with _damage(container):
            found = self._file.get(name)
        if not hasattr(found, "dtype") or found.dtype.kind not in "fi" or found.ndim not in (1, 2):
            self._file.close()
            what = "no sound" if found is None else "something that is no sound"
            raise AudioError(f"{container} holds {what} called {name}; it has {_few(sorted(tracks(container)))}.", "missing")
        self._path, self._data, self._position = path, found, 0
        # (samples,), (samples, channels), or the other way round
        self._across = found.ndim == 2 and found.shape[0] < found.shape[1]
        self.frames = int(found.shape[1] if self._across else found.shape[0]) if found.size else 0
        self.channels = int(found.size // max(self.frames, 1)) or 1
        self.samplerate = self._rate(container)
        self.subtype = str(found.dtype)

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def skip(self, frames: int) -> None:
        """Goes on to a sample."""
        self._position += frames

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """(frames, channels) float32 from here on."""
        window = slice(self._position, self._position + frames)
        with _damage(self._path, "truncated"):  # in one part of it shows only when that is read
            block = np.asarray(self._data[:, window].T if self._across else self._data[window])
        self._position += len(block)
        scale = 1.0 if block.dtype.kind == "f" else 1 / -float(np.iinfo(block.dtype).min or -1)
        return (block.astype(np.float32) * np.float32(scale)).reshape(len(block), -1)

    def _rate(self, container: Path) -> int:
        """Hz."""
        with _damage(self._path):
            given = self._data.attrs.get("sample_rate", self._file.attrs.get("sample_rate", HDF5_RATE))
        try:
            rate = int(given)
        except (TypeError, ValueError):
            rate = 0
        if rate < 1:
            self._file.close()
            raise AudioError(f"{self._path} has the attribute sample_rate {given!r}; a whole number of Hz is needed.")
        return rate


def _members(container: Path) -> dict[str, tuple[int, int]]:
    return _index(container, *_version(container))


def _version(container: Path) -> tuple[int, int]:
    """Changes when the file does."""
    about = container.stat()
    return about.st_size, about.st_mtime_ns


@lru_cache(SHARDS_OPEN)
def _index(container: Path, size: int, modified: int) -> dict[str, tuple[int, int]]:
    """{name: (offset, size)} of every file in a tar; of one that is cut off, those before the cut."""
    found: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(container, "r:") as tar:
            for member in tar:
                if member.isfile():
                    found[member.name] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        if not found:
            raise AudioError(f"{container} cannot be read as a tar file ({error}).", "unreadable") from None
    return found


def _is_cut_off(container: Path) -> bool:
    """Whether a tar lacks the two empty blocks that end it."""
    with container.open("rb") as file:
        file.seek(max(0, container.stat().st_size - 2 * tarfile.BLOCKSIZE))
        return any(file.read()) or container.stat().st_size < 2 * tarfile.BLOCKSIZE


@lru_cache(SHARDS_OPEN)
def _tracks(container: Path, size: int, modified: int) -> frozenset[str]:
    names: list[str] = []
    with _open_hdf5(container) as file, _damage(container):
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
    return frozenset(names)


def _open_hdf5(container: Path) -> Any:
    h5py = require("h5py", extra="train")
    try:
        return h5py.File(container, "r")
    except OSError as error:
        raise AudioError(f"{container} cannot be read as HDF5 ({_reason(error)}).", "unreadable") from None


@contextmanager
def _damage(path: Path, kind: str = "unreadable") -> Iterator[None]:
    """Damage that HDF5 meets, of whatever type it makes it, as our own error."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise AudioError(f"{path} is damaged ({_reason(error)}). Re-copy the file.", kind) from None


def _reason(error: Exception) -> str:
    """What HDF5 says in brackets, without its numbers."""
    before, _, inside = str(error).strip("'").partition(" (")
    return (inside.removesuffix(")") or before).partition(":")[0].partition(",")[0].strip()


def _few(names: list[str]) -> str:
    return f"{len(names)} sounds: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
