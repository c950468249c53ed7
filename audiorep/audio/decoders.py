"""Decodes the samples of a sound file in order, stream after stream, from disk, a pipe, a tar or an HDF5 file."""

from __future__ import annotations

import math
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
from audiorep.audio.formats import Part, Plan, plan, plan_mp3
from audiorep.audio.formats.splice import Region, splice
from audiorep.errors import AudioError

RATES = (100, 10_000_000)
"""Lowest and highest sample rate in Hz of a header: slow hydrophones and fast bat detectors lie within them."""

_SKIP_VALUES = 1 << 20  # decoded at a time to skip frames where the codec cannot seek
_UNKNOWN_FRAMES = 1 << 48  # libsndfile gives a larger number of frames if it does not know the length


class Decoder(Protocol):
    """One stream of samples."""

    samplerate: int
    channels: int
    frames: int
    format: str
    subtype: str

    def skip(self, frames: int) -> None:
        """Skips the first `frames` frames; called before anything is read."""
        ...

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """The next (frames, channels) samples; fewer frames at the end."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


class _Soundfile(soundfile.SoundFile):  # type: ignore[misc]
    """A stream that libsndfile decodes, read forwards only.

    soundfile seeks to its own position after each block. Some codecs cannot seek, and in others it is slow, so this class
    says that it cannot.
    """

    def __init__(self, source: bytes | Path | IO[bytes]) -> None:
        self._source = source
        super().__init__(source)

    def seekable(self) -> bool:
        """False, so that soundfile does not seek."""
        return False

    def skip(self, frames: int) -> None:
        """Skips `frames` frames by seeking, or by decoding where the codec cannot seek."""
        if not frames:
            return
        try:
            self.seek(frames)
        except soundfile.LibsndfileError:  # the position has not changed
            while frames > 0 and (count := len(self.read(min(frames, max(1, _SKIP_VALUES // self.channels)), "float32", True))):
                frames -= count

    def close(self) -> None:
        """Closes the file."""
        super().close()
        if hasattr(self._source, "close"):
            self._source.close()


@dataclass(frozen=True)
class Limits:
    """What a sound may have at most, by its headers; one with more is refused before a sample is decoded."""

    seconds: float = math.inf
    channels: int = 1 << 16
    sample_rate: int = RATES[1]
    """Hz."""

    def check(self, path: Path, channels: int, rate: int, seconds: float) -> None:
        """Raises an AudioError if a sound called `path` has more."""
        if channels > self.channels:
            raise AudioError(f"{path} has {channels} channels; at most {self.channels} are allowed.", "too-large")
        if rate > self.sample_rate:
            raise AudioError(f"{path} has {rate} samples a second; at most {self.sample_rate} are allowed.", "too-large")
        if seconds > self.seconds:
            raise AudioError(f"{path} is longer than the {self.seconds:g} s that are allowed. Send it in parts.", "too-large")


@dataclass(frozen=True)
class _Stream:
    """Rate, channels and length of one part of a file."""

    part: Part
    sample_rate: int
    channels: int
    declared_frames: int
    """Length by the header."""


class Sound:
    """All streams of a file as one sound; later streams are converted to the rate and channels of the first.

    Raises:
        AudioError: the file is missing, a folder, empty, in a format that libsndfile does not read, or above `limits`.
    """

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path, self._limits = path, limits or Limits()
        self._files = ExitStack()
        self._container = containers.container_of(path)
        try:
            self._place = self._files.enter_context(pipes.seekable_path(path)) if self._container is None else path
            self._plan = self._make_plan()
            self._first_decoder: Decoder | None = self._open(self._plan.parts[0])
            if self._first_decoder.format == "MP3" and self._plan == Plan():
                self._replan_as_mp3()
            self.encoding = f"{self._first_decoder.format} {self._first_decoder.subtype}"
            self._streams = [self._measure(part, number) for number, part in enumerate(self._plan.parts)]
        except BaseException:
            self.close()
            raise
        self.sample_rate, self.channels = self._streams[0].sample_rate, self._streams[0].channels
        self.frames = sum(self._at_first_rate(stream, stream.declared_frames) for stream in self._streams)
        self.is_cut_off = self._plan.is_cut_off
        try:
            self._limits.check(path, self.channels, self.sample_rate, self.frames / self.sample_rate)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if decoder := getattr(self, "_first_decoder", None):
            decoder.close()
        self._files.close()

    def blocks(self, first: int, last: int, size: int) -> Iterator[np.ndarray]:
        """Consecutive (n, channels) float32 blocks of at most `size` frames, from frame `first` up to `last`.

        Raises:
            AudioError: the file ends before `last`.
        """
        start = 0
        for stream in self._streams:
            end = start + self._at_first_rate(stream, stream.declared_frames)
            if first < end and start < last:
                yield from self._stretch(stream, max(first, start) - start, min(last, end) - start, size, start)
            start = end

    def truncated(self, position: int, reason: str) -> AudioError:
        """The error for a file that ends, or can be read no further, at frame `position`."""
        readable, declared = position / self.sample_rate, self.frames / self.sample_rate
        length = f"it ends at {readable:.2f} s"
        if readable < declared:
            length = f"its header promises {declared:.2f} s, {readable:.2f} s can be read"
        return AudioError(f"{self.path} is damaged: {length} ({reason}). Re-copy the file.", "truncated")

    def _stretch(self, stream: _Stream, first: int, last: int, size: int, start: int) -> Iterator[np.ndarray]:
        """A stretch of one stream, at the rate and with the channels of the first; `start` is the stream's first frame."""
        ratio = stream.sample_rate / self.sample_rate
        resampler = None
        if stream.sample_rate != self.sample_rate:
            resampler = soxr.ResampleStream(stream.sample_rate, self.sample_rate, self.channels, "float32")
        opened = self._first_decoder if stream is self._streams[0] else None
        decoder = opened or self._open(stream.part)
        if opened is not None:
            self._first_decoder = None
        try:
            for block in self._read(decoder, round(first * ratio), round(last * ratio), size, start, ratio):
                remixed = block if block.shape[1] == self.channels else _remix(block, self.channels)
                yield remixed if resampler is None else resampler.resample_chunk(remixed)
            if resampler is not None:
                yield resampler.resample_chunk(np.zeros((0, self.channels), np.float32), last=True)
        finally:
            decoder.close()

    def _read(self, decoder: Decoder, first: int, last: int, size: int, start: int, ratio: float) -> Iterator[np.ndarray]:
        position = first
        try:
            decoder.skip(first)
            while position < last:
                wanted = min(size, last - position)
                block = decoder.read(wanted, "float32", always_2d=True)
                position += len(block)
                if len(block) < wanted and not self._plan.length_is_guessed:
                    raise self.truncated(start + round(position / ratio), "the data ends early")
                if len(block):
                    yield block
                if len(block) < wanted:
                    return
        except soundfile.LibsndfileError as error:
            raise self.truncated(start + round(position / ratio), _reason(error)) from None

    def _at_first_rate(self, stream: _Stream, frames: int) -> int:
        """A number of frames of a stream, in frames of the first stream's rate."""
        return round(frames * self.sample_rate / stream.sample_rate)

    def _make_plan(self) -> Plan:
        """How the file must be read.

        Raises:
            AudioError: the file is missing or cannot be read.
        """
        if self._container is not None and self._container.suffix in containers.HDF5_SUFFIXES:
            return Plan()
        if self._container is None:
            _check_file(self.path, self._place)
        try:
            with self._open_bytes() as file:  # opened here, because libsndfile would not say why it cannot
                return plan(Region.whole(file))
        except OSError as error:
            raise AudioError(f"{self.path} cannot be opened: {error.strerror or error}.") from None

    def _replan_as_mp3(self) -> None:
        """Makes the plan again for a file that libsndfile decodes as MP3 (or MP1, MP2) although it starts with other bytes."""
        with self._open_bytes() as file:
            self._plan = plan_mp3(Region.whole(file))
        if self._plan.parts[0].pieces and self._first_decoder is not None:
            self._first_decoder.close()
            self._first_decoder = self._open(self._plan.parts[0])

    def _open_bytes(self) -> IO[bytes]:
        """The file opened for reading bytes, from disk or from a tar."""
        return self._place.open("rb") if self._container is None else containers.read_member(self.path, self._container)

    def _open(self, part: Part) -> Decoder:
        if self._container is not None and self._container.suffix in containers.HDF5_SUFFIXES:
            return containers.Track(self.path, self._container)
        source: bytes | Path | IO[bytes]
        try:
            if part.pieces:
                source = splice(self._open_bytes(), part.pieces)
            elif self._container is not None:
                source = self._open_bytes()
            else:
                source = self._place if os.name == "nt" else os.fsencode(self._place)  # a name need not be UTF-8
            return _Soundfile(source)
        except OSError as error:
            raise AudioError(f"{self.path} cannot be opened: {error.strerror or error}.") from None
        except soundfile.LibsndfileError as error:
            reason = _reason(error)
            if "does not exist" in reason:  # libsndfile says this of a damaged MP3
                reason = "its data is damaged"
            raise AudioError(f"{self.path} cannot be read as audio ({reason}). {_advice(self.path)}") from None

    def _measure(self, part: Part, number: int) -> _Stream:
        """Rate, channels and length of a part, by its header."""
        decoder = self._first_decoder if number == 0 and self._first_decoder else self._open(part)
        rate, channels, frames = decoder.samplerate, decoder.channels, decoder.frames
        if not RATES[0] <= rate <= RATES[1]:
            raise AudioError(
                f"{self.path} has {rate} samples a second by its header; {RATES[0]} to {RATES[1]} are allowed. "
                "If the header is wrong, write the file again with the true rate."
            )
        if frames > _UNKNOWN_FRAMES:
            self._limits.check(self.path, channels, rate, 0)
            frames = _count(decoder, self._limits.seconds * rate)
        if decoder is not self._first_decoder or decoder.frames > _UNKNOWN_FRAMES:
            decoder.close()
            if decoder is self._first_decoder:
                self._first_decoder = None
        return _Stream(part, rate, channels, round(frames * part.declared_ratio))


def rate_problem(rate: float) -> str:
    """Why the rate of samples in memory cannot be used; empty, if it can."""
    if not isinstance(rate, bool) and RATES[0] <= rate <= RATES[1] and rate == int(rate):
        return ""
    return f"A sample rate of {rate} Hz was given; whole numbers from {RATES[0]} to {RATES[1]} are allowed."


def _count(decoder: Decoder, most: float) -> int:
    """The frames of a stream whose header does not give its length, counted by decoding it; not far above `most`."""
    frames = 0
    try:
        while frames <= most and (count := len(decoder.read(max(1, _SKIP_VALUES // decoder.channels), "float32", True))):
            frames += count
    except soundfile.LibsndfileError:  # the same error is raised again when the samples are read
        pass
    return frames


def _remix(block: np.ndarray, channels: int) -> np.ndarray:
    """An (n, channels) block from an (n, c) block: the mean of its channels, repeated."""
    with np.errstate(invalid="ignore", over="ignore"):  # the caller refuses infinite samples
        mean = block.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.repeat(mean, channels, axis=1)


def _check_file(path: Path, place: Path) -> None:
    """Raises an error if `place`, which the user calls `path`, is missing, a folder, empty or a sound without header."""
    name = pipes.name_of(path)
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
