"""Read sound files of any rate and channel count as mono float32 at one rate, in blocks of constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from audiorep.errors import AudioError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"})
"""Files taken for audio when a folder is searched; a file named outright is always tried."""

BLOCK_SECONDS = 10.0
LOUDEST = 64.0  # floats above this are integers in disguise; honest overshoot of -1..1 stays far below
TAIL = 0.1  # of a window: less new sound than this at the end does not get a window of its own


@dataclass(frozen=True)
class AudioFile:
    """What a sound file says of itself."""

    path: Path
    sample_rate: int
    """Hz, as stored."""
    channels: int
    frames: int
    """Samples in each channel."""
    encoding: str
    """Container and sample type, for example `WAV PCM_16`."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def probe(path: str | os.PathLike[str]) -> AudioFile:
    """The header of the file at `path`.

    Raises:
        AudioError: the file is missing, a folder, empty, or not audio that libsndfile reads.
    """
    with _open(Path(path)) as file:
        return _describe(Path(path), file)


def read(path: str | os.PathLike[str], sample_rate: int, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """The file, or its stretch from `start` to `end` seconds, as (N,) float32 mono in -1..1 at `sample_rate` Hz.

    Raises:
        AudioError: as `blocks`.
    """
    return np.concatenate(list(blocks(path, sample_rate, start, end)))


def blocks(
    path: str | os.PathLike[str], sample_rate: int, start: float = 0.0, end: float | None = None
) -> Iterator[np.ndarray]:
    """Consecutive (n,) float32 mono blocks at `sample_rate` Hz, about ten seconds each, whatever the file's length.

    Channels are averaged. Resampling is soxr's high quality, streamed, so block borders leave no trace.

    Raises:
        AudioError: the file is missing, a folder, empty, truncated, not audio, holds NaN or infinite samples, or the
            stretch lies outside it. Raised where the fault is met: blocks before it are good.
    """
    path = Path(path)
    with _open(path) as file:
        about = _describe(path, file)
        first, last = _stretch(about, start, end)
        if first:
            file.seek(first)
        resampler = (
            None if about.sample_rate == sample_rate else soxr.ResampleStream(about.sample_rate, sample_rate, 1, "float32")
        )
        for block, is_last in _raw_blocks(file, about, first, last):
            mono = _mono(block, about)
            yield mono if resampler is None else resampler.resample_chunk(mono, last=is_last)


def windows(stream: Iterable[np.ndarray], length: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, (length,) window) for every `hop` samples of a stream of blocks, in constant memory.

    A stream shorter than a window is zero-padded to one. What is left at the end gets a window of its own, moved back so
    that it holds only sound, if it brings at least a tenth of a window that no other window has.
    """
    buffer, buffer_start, position, total = np.zeros(0, np.float32), 0, 0, 0
    for block in stream:
        total += len(block)
        buffer = np.concatenate([buffer, block])
        while position + length <= total:
            yield position, buffer[position - buffer_start : position - buffer_start + length]
            position += hop
        keep_from = max(min(position, total - length), buffer_start)
        buffer, buffer_start = buffer[keep_from - buffer_start :], keep_from
    if position == 0 and total:
        yield 0, np.pad(buffer, (0, length - total))
    elif total - (position - hop + length) >= max(1, TAIL * length):
        start = total - length
        yield start, buffer[start - buffer_start :]


def fit(waveform: np.ndarray, samples: int) -> np.ndarray:
    """`waveform` cut at its end, or padded there with zeros, to (samples,)."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


def find(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Every sound file in `paths`: files as they are, folders searched recursively, patterns with `*`, `?`, `[` expanded.

    Raises:
        AudioError: nothing exists at a path, or a folder or pattern holds no sound file.
    """
    for given in map(Path, paths):
        if given.is_dir():
            found = _sound_files(given.rglob("*"))
        elif not given.exists() and any(mark in str(given) for mark in "*?["):
            root = Path(given.anchor) if given.is_absolute() else Path()
            found = _sound_files(root.glob(str(given.relative_to(root) if given.is_absolute() else given)))
        else:
            found = [given]
        if not found:
            raise AudioError(f"{given} holds no sound files ({', '.join(sorted(SUFFIXES))}).")
        yield from found


def _sound_files(candidates: Iterable[Path]) -> list[Path]:
    return sorted(
        path for path in candidates if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _open(path: Path) -> soundfile.SoundFile:
    if not path.exists():
        raise AudioError(f"{path} does not exist.", "missing")
    if path.is_dir():
        raise AudioError(f"{path} is a folder; a sound file is needed here.")
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is empty (0 bytes). Re-export or re-copy the file.", "empty")
        return soundfile.SoundFile(path)
    except OSError as error:
        raise AudioError(f"{path} cannot be opened: {error.strerror or error}.") from None
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{path} cannot be read as audio ({str(error.error_string).strip().rstrip('.')}). {_advice(path)}"
        ) from None


def _advice(path: Path) -> str:
    if path.suffix.lower() in {".m4a", ".aac", ".mp4", ".wma", ".amr", ".webm", ".mkv"}:
        return f"Convert it first, for example: ffmpeg -i {path.name} {path.stem}.flac"
    return "Allowed are wav, flac, ogg (Vorbis, Opus), mp3 and aiff; check that the file is one of these."


def _describe(path: Path, file: soundfile.SoundFile) -> AudioFile:
    return AudioFile(path, file.samplerate, file.channels, file.frames, f"{file.format} {file.subtype}")


def _stretch(about: AudioFile, start: float, end: float | None) -> tuple[int, int | None]:
    """First frame, and the frame after the last (None reads on to the end of the file)."""
    if about.frames == 0:
        raise AudioError(f"{about.path} has no samples. Re-export the file.", "empty")
    first = round(start * about.sample_rate)
    last = None if end is None else round(end * about.sample_rate)
    beyond = about.frames + about.sample_rate // 20  # annotations round up; a twentieth of a second is forgiven
    if first < 0 or first >= about.frames or (last is not None and not first < last <= beyond):
        stop = "its end" if end is None else f"{end:g} s"
        raise AudioError(f"{about.path} lasts {about.seconds:.2f} s; the stretch from {start:g} s to {stop} is not inside it.")
    return first, None if last is None or last >= about.frames else last


def _raw_blocks(file: soundfile.SoundFile, about: AudioFile, first: int, last: int | None) -> Iterator[tuple[np.ndarray, bool]]:
    """(frames, channels) float32 blocks, each with whether it is the last."""
    size = max(1, int(BLOCK_SECONDS * about.sample_rate))
    position, stop = first, about.frames if last is None else last
    while position < stop:
        wanted = min(size, stop - position)
        try:
            block = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _truncated(about, position, str(error.error_string).strip().rstrip(".")) from None
        position += len(block)
        if len(block) < wanted:
            raise _truncated(about, position, "the data ends early")
        yield block, position >= stop


def _truncated(about: AudioFile, position: int, reason: str) -> AudioError:
    found, promised = position / about.sample_rate, about.seconds
    text = f"{about.path} is damaged: its header promises {promised:.2f} s, {found:.2f} s can be read ({reason}). Re-copy the file."
    return AudioError(text, "truncated")


def _mono(block: np.ndarray, about: AudioFile) -> np.ndarray:
    """(n, channels) to (n,), with its numbers checked."""
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    peak = float(np.abs(mono).max(initial=0.0))
    if not np.isfinite(peak):
        raise AudioError(f"{about.path} holds NaN or infinite samples. Re-export the file.", "non-finite")
    if peak > LOUDEST:
        raise AudioError(
            f"{about.path} holds samples up to {peak:.0f}; floats must lie in -1..1. Divide integer samples by their range."
        )
    return np.ascontiguousarray(mono)
