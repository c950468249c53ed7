"""A sound file as its samples one after another, whatever its container: decoded forwards, stream after stream."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import soundfile
import soxr

from audiorep.audio import containers, pipes
from audiorep.audio.formats import Part, Plan, mp3_plan, plan
from audiorep.audio.formats.splice import Region, splice
from audiorep.errors import AudioError

RATES = (100, 10_000_000)
"""Hz that a header may name: from the slowest hydrophone to beyond the fastest bat detector."""

_SKIPPED = 1 << 20  # values decoded at a time on the way to a place that cannot be sought
_ENDLESS = 1 << 48  # frames; what libsndfile calls a length that it does not know


class Decoder(Protocol):
    """One stream of samples."""

    samplerate: int
    channels: int
    frames: int
    format: str
    subtype: str

    def skip(self, frames: int) -> None:
        """Goes on to a sample, of a stream that nothing was read of."""
        ...

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """(frames, channels) from here on; fewer at the end."""
        ...

    def close(self) -> None:
        """Lets go of the file."""
        ...


class _Soundfile(soundfile.SoundFile):  # type: ignore[misc]
    """A stream that libsndfile decodes, read forwards only.

    soundfile seeks to where it already is after each block; some codecs cannot seek, and in others it costs.
    """

    def __init__(self, source: bytes | Path | IO[bytes]) -> None:
        self._source = source
        super().__init__(source)

    def seekable(self) -> bool:
        """Not for soundfile."""
        return False

    def skip(self, frames: int) -> None:
        """Goes on to a sample, by seeking where the codec can."""
        if not frames:
            return
        try:
            self.seek(frames)
        except soundfile.LibsndfileError:  # reading goes on where it was
            while frames > 0 and (found := len(self.read(min(frames, max(1, _SKIPPED // self.channels)), "float32", True))):
                frames -= found

    def close(self) -> None:
        """Lets go of the file."""
        super().close()
        if hasattr(self._source, "close"):
            self._source.close()


@dataclass(frozen=True)
class _Stream:
    """What one part of a file holds."""

    part: Part
    sample_rate: int
    channels: int
    promised: int
    """Frames, by the header."""


class Sound:
    """All streams of a file as one: the first says its rate and channels, and others are fitted to it.

    Raises:
        AudioError: the file is missing, a folder, empty, or not audio that libsndfile reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = ExitStack()
        self._container = containers.container_of(path)
        try:
            self._place = self._files.enter_context(pipes.on_disk(path)) if self._container is None else path
            self._plan = self._look()
            self._ready: Decoder | None = self._open(self._plan.parts[0])
            if self._ready.format == "MP3" and self._plan == Plan():
                self._plan_again()
            self.encoding = f"{self._ready.format} {self._ready.subtype}"
            self._streams = [self._measure(part, number) for number, part in enumerate(self._plan.parts)]
        except BaseException:
            self.close()
            raise
        self.sample_rate, self.channels = self._streams[0].sample_rate, self._streams[0].channels
        self.frames = sum(self._fitted(stream, stream.promised) for stream in self._streams)
        self.cut = self._plan.cut

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        if ready := getattr(self, "_ready", None):
            ready.close()
        self._files.close()

    def blocks(self, first: int, last: int, size: int) -> Iterator[np.ndarray]:
        """(n, channels) float32 from frame `first` up to `last`, of `size` frames or fewer.

        Raises:
            AudioError: the file ends before.
        """
        begins = 0
        for stream in self._streams:
            ends = begins + self._fitted(stream, stream.promised)
            if first < ends and begins < last:
                yield from self._stretch(stream, max(first, begins) - begins, min(last, ends) - begins, size, begins)
            begins = ends

    def truncated(self, position: int, reason: str) -> AudioError:
        """That the file ends, or cannot be read any further, at frame `position`."""
        found, promised = position / self.sample_rate, self.frames / self.sample_rate
        length = f"it ends at {found:.2f} s"
        if found < promised:
            length = f"its header promises {promised:.2f} s, {found:.2f} s can be read"
        return AudioError(f"{self.path} is damaged: {length} ({reason}). Re-copy the file.", "truncated")

    def _stretch(self, stream: _Stream, first: int, last: int, size: int, begins: int) -> Iterator[np.ndarray]:
        """A stretch of one stream, fitted to the first one's rate and channels."""
        ratio = stream.sample_rate / self.sample_rate
        resampler = None
        if stream.sample_rate != self.sample_rate:
            resampler = soxr.ResampleStream(stream.sample_rate, self.sample_rate, self.channels, "float32")
        ready = self._ready if stream is self._streams[0] else None
        decoder = ready or self._open(stream.part)
        if ready is not None:
            self._ready = None
        try:
            for block in self._read(decoder, round(first * ratio), round(last * ratio), size, begins, ratio):
                fitted = block if block.shape[1] == self.channels else _remix(block, self.channels)
                yield fitted if resampler is None else resampler.resample_chunk(fitted)
            if resampler is not None:
                yield resampler.resample_chunk(np.zeros((0, self.channels), np.float32), last=True)
        finally:
            decoder.close()

    def _read(self, decoder: Decoder, first: int, last: int, size: int, begins: int, ratio: float) -> Iterator[np.ndarray]:
        position = first
        try:
            decoder.skip(first)
            while position < last:
                wanted = min(size, last - position)
                block = decoder.read(wanted, "float32", always_2d=True)
                position += len(block)
                if len(block) < wanted and not self._plan.guessed:
                    raise self.truncated(begins + round(position / ratio), "the data ends early")
                if len(block):
                    yield block
                if len(block) < wanted:
                    return
        except soundfile.LibsndfileError as error:
            raise self.truncated(begins + round(position / ratio), _reason(error)) from None

    def _fitted(self, stream: _Stream, frames: int) -> int:
        """A stream's frames at the first one's rate."""
        return round(frames * self.sample_rate / stream.sample_rate)

    def _look(self) -> Plan:
        """How the file must be read.

        Raises:
            AudioError: it is not there, or nothing that can be read.
        """
        if self._container is not None and self._container.suffix in containers.HDF5:
            return Plan()
        if self._container is None:
            _refuse(self.path, self._place)
        try:
            with self._bytes() as file:  # libsndfile would not say why it may not
                return plan(Region.whole(file))
        except OSError as error:
            raise AudioError(f"{self.path} cannot be opened: {error.strerror or error}.") from None

    def _plan_again(self) -> None:
        """Looks at what proved to be MP3 behind bytes that are not, or one of its kin."""
        with self._bytes() as file:
            self._plan = mp3_plan(Region.whole(file))
        if self._plan.parts[0].pieces and self._ready is not None:
            self._ready.close()
            self._ready = self._open(self._plan.parts[0])

    def _bytes(self) -> IO[bytes]:
        """The file's bytes, also where it lies in a tar."""
        return self._place.open("rb") if self._container is None else containers.read_member(self.path, self._container)

    def _open(self, part: Part) -> Decoder:
        if self._container is not None and self._container.suffix in containers.HDF5:
            return containers.Track(self.path, self._container)
        source: bytes | Path | IO[bytes]
        try:
            if part.pieces:
                source = splice(self._bytes(), part.pieces)
            elif self._container is not None:
                source = self._bytes()
            else:
                source = self._place if os.name == "nt" else os.fsencode(self._place)  # names need not be UTF-8
            return _Soundfile(source)
        except OSError as error:
            raise AudioError(f"{self.path} cannot be opened: {error.strerror or error}.") from None
        except soundfile.LibsndfileError as error:
            reason = _reason(error)
            if "does not exist" in reason:  # libsndfile's answer to a damaged mp3
                reason = "its data is damaged"
            raise AudioError(f"{self.path} cannot be read as audio ({reason}). {_advice(self.path)}") from None

    def _measure(self, part: Part, number: int) -> _Stream:
        """What a part holds, by its own header."""
        decoder = self._ready if number == 0 and self._ready else self._open(part)
        rate, channels, frames = decoder.samplerate, decoder.channels, decoder.frames
        if not RATES[0] <= rate <= RATES[1]:
            raise AudioError(
                f"{self.path} has {rate} samples a second by its header; {RATES[0]} to {RATES[1]} are allowed. "
                "If the header is wrong, write it anew with the true rate."
            )
        if frames > _ENDLESS:
            frames = _count(decoder)
        if decoder is not self._ready or decoder.frames > _ENDLESS:
            decoder.close()
            if decoder is self._ready:
                self._ready = None
        return _Stream(part, rate, channels, round(frames * part.promised))


def _count(decoder: Decoder) -> int:
    """Frames of a stream whose header does not say, by decoding it."""
    frames = 0
    try:
        while found := len(decoder.read(max(1, _SKIPPED // decoder.channels), "float32", True)):
            frames += found
    except soundfile.LibsndfileError:  # it is met again, and told, when these samples are used
        pass
    return frames


def _remix(block: np.ndarray, channels: int) -> np.ndarray:
    """(n, c) as (n, channels): one channel is repeated, several are averaged."""
    with np.errstate(invalid="ignore", over="ignore"):  # infinities: for the caller to refuse
        mean = block.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.repeat(mean, channels, axis=1)


def _refuse(path: Path, place: Path) -> None:
    """Raises an error for what cannot be a sound file."""
    name = pipes.shown(path)
    try:
        if place.is_symlink() and not place.exists():
            raise AudioError(f"{name} is a link to {place.readlink()}, which does not exist.", "missing")
        if not place.exists():
            raise AudioError(f"{name} does not exist.", "missing")
        if place.is_dir():
            next(place.iterdir(), None)
            raise AudioError(f"{name} is a folder; a sound file is needed here.")
        if place.stat().st_size == 0:
            raise AudioError(f"{name} is empty (0 bytes). Re-export or re-copy the file.", "empty")
    except OSError as error:
        raise AudioError(f"{name} cannot be opened: {error.strerror or error}.") from None
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{name} has no header, so its rate and sample type are not known. {_advice(path)}")


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).strip().rstrip(".")


def _advice(path: Path) -> str:
    if path.suffix.lower() == ".raw":
        return f"Convert it first, for example: ffmpeg -f s16le -ar 16000 -ac 1 -i {path.name} {path.stem}.flac"
    if path.suffix.lower() in {".m4a", ".aac", ".mp4", ".wma", ".amr", ".webm", ".mkv"}:
        return f"Convert it first, for example: ffmpeg -i {path.name} {path.stem}.flac"
    return "Allowed are wav, flac, ogg (Vorbis, Opus), mp3 and aiff; check that the file is one of these."
