"""Read sound files of any rate and channel count as mono float32 at one rate, in blocks of constant memory."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
import soxr

from audiorep import containers
from audiorep.errors import AudioError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"})
"""Files taken for audio when a folder is searched; a file named outright is always tried."""

BLOCK_SECONDS = 10.0
LOUDEST = 64.0  # floats above this are integers in disguise; honest overshoot of -1..1 stays far below
TAIL = 0.1  # of a window: less new sound than this at the end does not get a window of its own

_BYTE_ORDER = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">"}  # of the sizes in WAV and AIFF files
_SLACK = 64  # bytes; some recorders count the header among the samples
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes at most (RFC 3533)


@dataclass(frozen=True)
class AudioFile:
    """What a sound file says of itself."""

    path: Path
    sample_rate: int
    """Hz, as stored."""
    channels: int
    frames: int
    """Samples in each channel, as promised by the header; a damaged file holds fewer."""
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
        resampler = (
            None if about.sample_rate == sample_rate else soxr.ResampleStream(about.sample_rate, sample_rate, 1, "float32")
        )
        for block, is_last in _raw_blocks(file, about, first, last):
            mono = _mono(block, about)
            yield mono if resampler is None else resampler.resample_chunk(mono, last=is_last)


def windows(stream: Iterable[np.ndarray], length: int, hop: int, padding: str = "zeros") -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, (length,) window) for every `hop` samples of a stream of blocks, in constant memory.

    A stream shorter than a window is padded to one (see `pad`). What is left at the end gets a window of its own, moved back so
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
        yield 0, pad(buffer, length, padding)
    elif total - (position - hop + length) >= max(1, TAIL * length):
        start = total - length
        yield start, buffer[start - buffer_start :]


def views(
    stream: Iterable[np.ndarray], length: int, total: int, count: int, padding: str = "zeros"
) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, (length,) window) of `count` windows spread evenly over a stream of `total` samples, in constant memory.

    A stream shorter than a window gives one, padded.
    """
    starts = np.linspace(0, total - length, count).round().astype(int).tolist() if total > length else [0]
    buffer, buffer_start = np.zeros(0, np.float32), 0
    for block in stream:
        buffer = np.concatenate([buffer, block])
        while starts and starts[0] + length <= buffer_start + len(buffer):
            start = starts.pop(0)
            yield start, buffer[start - buffer_start : start - buffer_start + length]
        keep_from = min(starts[0] - buffer_start, len(buffer)) if starts else len(buffer)
        buffer, buffer_start = buffer[keep_from:], buffer_start + keep_from
    for start in starts:  # a short stream, or one that resampling left a sample short
        yield start, pad(buffer[start - buffer_start :], length, "zeros" if start else padding)


def pad(waveform: np.ndarray, samples: int, padding: str = "zeros") -> np.ndarray:
    """`waveform` cut at its end, or padded there with `zeros` or with its last sample (`edge`), to (samples,).

    `edge_frames` leaves a short one as it is: its spectrogram is padded (see `frontend.EdgeFrames`).
    """
    missing = max(0, samples - len(waveform))
    if missing and padding == "edge_frames":
        return waveform
    return np.pad(waveform[:samples], (0, missing), mode="edge" if padding == "edge" else "constant")


def find(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Every sound file in `paths`: files as they are, folders searched recursively, patterns with `*`, `?`, `[` expanded.

    What is not there, or holds no sound file, is given as it is: its reader reports it, and the others go on.
    """
    for given in map(Path, paths):
        yield from _found(given) or [given]


def _found(given: Path) -> list[Path]:
    try:
        if given.is_dir():
            return _sound_files(given.rglob("*"), given)
        if given.exists() or not any(mark in str(given) for mark in "*?["):
            return [given]
    except OSError:  # too long a name, or a folder that may not be entered: for its reader to report
        return [given]
    root = Path(given.anchor) if given.is_absolute() else Path()
    return _sound_files(root.glob(str(given.relative_to(root) if given.is_absolute() else given)), given)


def _sound_files(candidates: Iterable[Path], given: Path) -> list[Path]:
    """Sorted; what is hidden counts only where `given` names it."""
    return sorted(
        path
        for path in candidates
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") and part not in given.parts for part in path.parts)
        and path.is_file()
    )


def _open(path: Path) -> Any:
    """A soundfile.SoundFile, or a track with its interface."""
    container = containers.container_of(path)
    if container is not None and container.suffix in containers.HDF5:
        return containers.Track(path, container)
    try:
        if container is not None:
            return soundfile.SoundFile(containers.read_member(path, container))
        if not path.exists():
            raise AudioError(f"{path} does not exist.", "missing")
        if path.is_dir():
            raise AudioError(f"{path} is a folder; a sound file is needed here.")
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is empty (0 bytes). Re-export or re-copy the file.", "empty")
        if path.suffix.lower() == ".raw":
            raise AudioError(f"{path} has no header, so its rate and sample type are not known. {_advice(path)}")
        path.open("rb").close()  # libsndfile would not say why it may not
        return soundfile.SoundFile(path if os.name == "nt" else os.fsencode(path))  # names need not be UTF-8
    except OSError as error:
        raise AudioError(f"{path} cannot be opened: {error.strerror or error}.") from None
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).strip().rstrip(".")
        if "does not exist" in reason:  # libsndfile's answer to a damaged mp3
            reason = "its data is damaged"
        raise AudioError(f"{path} cannot be read as audio ({reason}). {_advice(path)}") from None


def _bytes(path: Path) -> IO[bytes]:
    """A file's bytes, also where it lies in a tar."""
    container = containers.container_of(path)
    return path.open("rb") if container is None else containers.read_member(path, container)


def _advice(path: Path) -> str:
    if path.suffix.lower() == ".raw":
        return f"Convert it first, for example: ffmpeg -f s16le -ar 16000 -ac 1 -i {path.name} {path.stem}.flac"
    if path.suffix.lower() in {".m4a", ".aac", ".mp4", ".wma", ".amr", ".webm", ".mkv"}:
        return f"Convert it first, for example: ffmpeg -i {path.name} {path.stem}.flac"
    return "Allowed are wav, flac, ogg (Vorbis, Opus), mp3 and aiff; check that the file is one of these."


def _describe(path: Path, file: Any) -> AudioFile:
    frames = _promised_frames(path, file.frames) if file.format in {"WAV", "WAVEX", "RF64", "AIFF"} else file.frames
    return AudioFile(path, file.samplerate, file.channels, frames, f"{file.format} {file.subtype}")


def _promised_frames(path: Path, found_frames: int) -> int:
    """Frames by the size that the samples' chunk declares; libsndfile counts those it finds, and says nothing."""
    declared, found = _sound_bytes(path)
    # what a recorder writes that cannot seek back (ffmpeg, sox, arecord), or that was stopped
    unknown = declared == 0 or 0x7FFF_F000 <= declared <= 0x8000_0000 or 0xFFFF_F000 <= declared <= 0xFFFF_FFFF
    if unknown or found == 0 or declared - found <= _SLACK:
        return found_frames
    return round(found_frames * declared / found)


def _sound_bytes(path: Path) -> tuple[int, int]:
    """Bytes declared for, and left in the file at, the chunk of samples of a WAV or AIFF file; 0 and 0 without one."""
    size_64 = 0
    with _bytes(path) as file:
        order = _BYTE_ORDER.get(file.read(4), "<")
        file.seek(12)
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack(f"{order}4sI", header)
            if name in (b"data", b"SSND"):
                return size_64 or size, -file.tell() + file.seek(0, os.SEEK_END)
            body = file.tell()
            if name == b"ds64":  # in RF64 (EBU 3306), where the chunk's own size is too small a number
                size_64 = struct.unpack("<8xQ", file.read(16))[0]
            file.seek(body + size + size % 2)
    return 0, 0


def _repair(about: AudioFile) -> str:
    """Advice on a file whose recorder was stopped before it wrote how many samples there are."""
    declared, found = _sound_bytes(about.path) if about.encoding.startswith("WAV") else (0, 0)
    if declared or found < about.sample_rate * about.channels // 10:
        return ""
    return f" Its recorder left the length at 0; repair it, for example: ffmpeg -i {about.path.name} {about.path.stem}.flac"


def _ends_within_page(path: Path) -> bool:
    """Whether an Ogg file's last page is cut off."""
    with _bytes(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _OGG_PAGE))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    end = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) > 26 else 27
    return len(page) < end or page[end:] in (b"O", b"Og", b"Ogg")


def _length_is_a_guess(about: AudioFile) -> bool:
    """Whether an MP3 file lacks the frame that names its length, so that it was estimated from the first bit rate."""
    if not about.encoding.startswith("MP3"):
        return False
    with _bytes(about.path) as file:
        tag = file.read(10)  # ID3v2: its size is four times seven bits
        if tag[:3] == b"ID3":
            file.seek(10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)))
        else:
            file.seek(0)
        first = file.read(4096)
    return not any(name in first for name in (b"Xing", b"Info", b"VBRI"))


def _stretch(about: AudioFile, start: float, end: float | None) -> tuple[int, int | None]:
    """First frame, and the frame after the last (None reads on to the end of the file)."""
    if about.frames == 0 and about.encoding.startswith("OGG") and _ends_within_page(about.path):
        raise _truncated(about, 0, "the data ends early")
    if about.frames == 0:
        raise AudioError(f"{about.path} has no samples. Re-export the file.{_repair(about)}", "empty")
    first = round(start * about.sample_rate)
    last = None if end is None else round(end * about.sample_rate)
    beyond = about.frames + about.sample_rate // 20  # annotations round up; a twentieth of a second is forgiven
    if first < 0 or first >= about.frames or (last is not None and not first < last <= beyond):
        stop = "its end" if end is None else f"{end:g} s"
        raise AudioError(f"{about.path} lasts {about.seconds:.2f} s; the stretch from {start:g} s to {stop} is not inside it.")
    return first, None if last is None or last >= about.frames else last


def _raw_blocks(file: Any, about: AudioFile, first: int, last: int | None) -> Iterator[tuple[np.ndarray, bool]]:
    """(frames, channels) float32 blocks, each with whether it is the last."""
    size = max(1, int(BLOCK_SECONDS * about.sample_rate))
    position, stop = first, about.frames if last is None else last
    while position < stop:
        wanted = min(size, stop - position)
        try:
            if position == first:
                file.seek(first)
            block = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _truncated(about, position, str(error.error_string).strip().rstrip(".")) from None
        position += len(block)
        if len(block) < wanted and not _length_is_a_guess(about):
            raise _truncated(about, position, "the data ends early")
        yield block, position >= stop or len(block) < wanted
        if len(block) < wanted:
            return
    if last is None and about.encoding.startswith("OGG") and _ends_within_page(about.path):
        raise _truncated(about, position, "its last page is cut off")


def _truncated(about: AudioFile, position: int, reason: str) -> AudioError:
    found, promised = position / about.sample_rate, about.seconds
    length = f"it ends at {found:.2f} s"
    if found < promised:
        length = f"its header promises {promised:.2f} s, {found:.2f} s can be read"
    return AudioError(f"{about.path} is damaged: {length} ({reason}). Re-copy the file.", "truncated")


def _mono(block: np.ndarray, about: AudioFile) -> np.ndarray:
    """(n, channels) to (n,), with its numbers checked."""
    with np.errstate(invalid="ignore"):  # infinities of both signs; refused below
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    peak = float(np.abs(mono).max(initial=0.0))
    if not np.isfinite(peak):
        raise AudioError(f"{about.path} holds NaN or infinite samples. Re-export the file.", "non-finite")
    if peak > LOUDEST:
        raise AudioError(
            f"{about.path} holds samples up to {peak:.0f}; floats must lie in -1..1. Divide integer samples by their range."
        )
    return np.ascontiguousarray(mono)
