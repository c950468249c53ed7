"""Sound files: damaged, cut, joined, between good ones, from standard input and in a tar."""

from __future__ import annotations

import io
import json
import struct
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from audiorep import audio
from audiorep.errors import AudioError
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Failure, Recording
from fuzz import mutations
from fuzz.oracle import WrongError, demand

RATE = 16_000  # Hz
FRAMES = 12_000
SLACK = 64  # bytes that are forgiven at the end of the samples (`audiorep.audio.formats.chunks`)
TELLS_LENGTH = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "GSM610"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("RF64", "FLOAT"), ("W64", "PCM_16"), ("W64", "PCM_24"),
    ("AIFF", "PCM_16"),
    ("AIFF", "FLOAT"), ("AIFF", "ULAW"), ("AU", "PCM_16"), ("AU", "FLOAT"), ("AU", "ULAW"), ("CAF", "PCM_16"),
    ("CAF", "PCM_24"),
    ("FLAC", "PCM_16"), ("FLAC", "PCM_24"),
]  # fmt: skip
"""Formats of which every cut must be noticed."""
JOINED = [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("W64", "PCM_16"), ("FLAC", "PCM_16")]
"""Formats whose files are heard one after the other where they were joined, to the sample."""
SIZES = {
    "WAV": (b"data", 4, "<I", 0),
    "RF64": (b"ds64", 16, "<Q", 0),
    "AIFF": (b"SSND", 4, ">I", 8),
    "W64": (b"data", 16, "<q", 24),
    "CAF": (b"data", 4, ">q", 4),
    "AU": (b".snd", 8, ">I", 0),
}
"""Where a header says how many bytes its samples take: a mark, the distance from it, the form, and what it counts besides."""
OTHERS = [
    ("CAF", "ALAC_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "DWVW_16"), ("AU", "G721_32"),
    ("NIST", "PCM_16"), ("VOC", "PCM_16"), ("SVX", "PCM_16"), ("MAT5", "PCM_16"), ("HTK", "PCM_16"), ("PAF", "PCM_16"),
    ("AVR", "PCM_16"),
    ("SDS", "PCM_16"), ("XI", "DPCM_16"), ("MPC2K", "PCM_16"), ("IRCAM", "PCM_16"), ("PVF", "PCM_16"),
]  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A good file."""

    format: str
    subtype: str
    channels: int
    content: bytes

    @property
    def name(self) -> str:
        """A file's name with the usual suffix."""
        return f"x.{self.format.lower()}"

    @property
    def tells_length(self) -> bool:
        """Whether a cut must be noticed."""
        return (self.format, self.subtype) in TELLS_LENGTH


def prepare(folder: Path) -> None:
    """Writes the good files, and a table of them."""
    table: list[list[object]] = []
    for format, subtype in TELLS_LENGTH + OTHERS:
        for channels in (1, 2, 5):
            file = io.BytesIO()
            try:
                soundfile.write(file, _noise(channels), RATE, subtype, format=format)
            except (soundfile.LibsndfileError, ValueError):  # a format of fewer channels
                continue
            (folder / str(len(table))).write_bytes(file.getvalue())
            table.append([format, subtype, channels])
    (folder / "table.json").write_text(json.dumps(table))


def bodies(seeds: Path, count: int, seed: int = 0) -> Iterator[bytes]:
    """Sound files that are damaged, cut, joined or lie about their length, empty and random bytes, and a few good ones."""
    chance = Random(seed)
    lying = [each for each in _seeds(seeds) if each.format in SIZES and each.subtype == "PCM_16"]
    for _ in range(count):
        content = _any(chance, seeds).content
        yield chance.choice(
            [
                lambda content=content: _damage(chance, content, seeds),
                lambda content=content: _damage(chance, content, seeds),
                lambda content=content: mutations.cut(chance, content),
                lambda content=content: content + _any(chance, seeds).content,
                lambda: _with_size(chance.choice(lying), chance.randrange(1 << 32)),
                lambda: chance.randbytes(chance.choice([0, 1, 10, 10_000])),
                lambda content=content: content,
            ]
        )()


def warm(seeds: Path) -> None:
    """Loads what the first case would wait for."""
    _classifier()
    _good(seeds)


# ---------------------------------------------------------------- kinds


def damaged(chance: Random, seeds: Path, place: Path) -> None:
    """A damaged file is heard as long as it says it is, or refused."""
    seed = _any(chance, seeds)
    path = _write(place / seed.name, _damage(chance, seed.content, seeds))
    about = audio.probe(path)
    heard = sum(len(block) for block in audio.blocks(path, about.sample_rate, channel=chance.choice(["mean", "left", "right"])))
    if not about.encoding.startswith(("MP3", "MPEG")):  # whose length may be a guess
        demand(abs(heard - about.frames) <= 1, f"{heard} samples were heard of {about.frames} that were promised")


def cut(chance: Random, seeds: Path, place: Path) -> None:
    """A file that ends within its samples is refused, and what was heard until then is right."""
    seed = chance.choice([seed for seed in _seeds(seeds) if seed.tells_length])
    path = _write(place / seed.name, mutations.cut(chance, seed.content, 0, _end_of_samples(seed)))
    whole = audio.read(_write(place / f"whole.{seed.format.lower()}", seed.content), RATE)
    heard = 0
    for block in audio.blocks(path, RATE):
        demand(np.array_equal(block, whole[heard : heard + len(block)]), f"other samples behind sample {heard}")
        heard += len(block)
    demand(False, f"a file of {len(seed.content)} bytes that was cut to {path.stat().st_size} was accepted")


def lying(chance: Random, seeds: Path, place: Path) -> None:
    """A header that names too few samples costs none of them; one that names too many is refused, unless it means no number."""
    seed = chance.choice([seed for seed in _seeds(seeds) if seed.format in SIZES and seed.subtype == "PCM_16"])
    true = FRAMES * seed.channels * 2
    said = chance.choice(
        [0, 1, 2, true - 1, true + 1, chance.randrange(true), chance.randrange(true), chance.randrange(3 * true)]
    )
    path = _write(place / seed.name, _with_size(seed, said))
    try:
        heard = len(audio.read(path, RATE))
    except AudioError as error:
        demand(said > true, f"{said} bytes of {true} were said, and the file was refused: {error}")
        raise
    demand(said <= true + SLACK, f"{said} bytes of {true} were said, and the file was accepted")
    demand(FRAMES - heard <= SLACK // 2, f"{heard} samples of {FRAMES} were heard")


def joined(chance: Random, seeds: Path, place: Path) -> None:
    """Files that were joined are heard one after the other."""
    format, subtype = chance.choice(JOINED)
    found = [seed for seed in _seeds(seeds) if (seed.format, seed.subtype) == (format, subtype)]
    parts = chance.choices(found, k=chance.randint(2, 5))
    path = _write(place / parts[0].name, b"".join(part.content for part in parts))
    demand(len(audio.read(path, RATE)) == FRAMES * len(parts), f"{len(audio.read(path, RATE))} samples of {len(parts)} files")


def beside(chance: Random, seeds: Path, place: Path) -> None:
    """A damaged file costs the good ones beside it nothing, neither in order nor in scores."""
    good, scores = _good(seeds)
    paths = []
    for number in range(chance.randint(1, 3)):
        seed = _any(chance, seeds)
        paths.append(_write(place / f"{number}{seed.name}", _damage(chance, seed.content, seeds)))
    places = sorted(chance.sample(range(len(paths) + 2), 2))
    for index in places:
        paths.insert(index, good)
    results = list(_classifier().files(paths))
    demand([result.path for result in results] == paths, [str(result.path) for result in results])
    for index in places:
        result = results[index]
        if not isinstance(result, Recording):
            raise WrongError(f"the good file was refused: {result.error}")
        demand(np.allclose(result.scores["label"], scores, atol=1e-5), "the good file has other scores")
    for result in results:
        demand("could not be decoded" not in str(getattr(result, "error", "")), getattr(result, "error", ""))
    if all(isinstance(results[index], Failure) for index in range(len(results)) if index not in places):
        raise AudioError("All damaged files were refused.")


def stdin(chance: Random, seeds: Path, place: Path) -> None:
    """A sound from standard input is what it is as a file."""
    seed = _any(chance, seeds)
    content = _damage(chance, seed.content, seeds) if chance.random() < 0.8 else seed.content
    expected = _heard(_write(place / "x", content))
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(content))
    try:
        found = _heard("-")
    finally:
        sys.stdin = before
    same = found == expected if isinstance(expected, str) else np.array_equal(found, expected)
    demand(same, f"{found!r} from standard input, {expected!r} as a file")
    if isinstance(expected, str):
        raise AudioError("It was refused.")


def shard(chance: Random, seeds: Path, place: Path) -> None:
    """A tar of sounds that is damaged or cut."""
    parts = [_any(chance, seeds) for _ in range(3)]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, part in enumerate(parts):
            entry = tarfile.TarInfo(f"{number}{part.name}")
            entry.size = len(part.content)
            tar.addfile(entry, io.BytesIO(part.content))
    content = _damage(chance, file.getvalue(), seeds)
    shard = _write(place / "x.tar", content)
    refused = None
    for number, part in enumerate(parts):
        try:
            audio.read(shard / f"{number}{part.name}", RATE)
        except AudioError as error:
            refused = error
    if refused:
        raise refused


# ---------------------------------------------------------------- helpers


def _noise(channels: int) -> np.ndarray:
    """(FRAMES, channels) float32."""
    return np.random.default_rng(channels).uniform(-0.5, 0.5, (FRAMES, channels)).astype(np.float32)


@lru_cache
def _seeds(folder: Path) -> list[Seed]:
    table: list[tuple[str, str, int]] = json.loads((folder / "table.json").read_text())
    return [Seed(*row, (folder / str(number)).read_bytes()) for number, row in enumerate(table)]


@lru_cache
def _classifier() -> Classifier:
    return Classifier.load(threads=1)


@lru_cache
def _good(seeds: Path) -> tuple[Path, np.ndarray]:
    """A good file, and the bundled model's scores of it."""
    return seeds / "0", _classifier().file(seeds / "0").scores["label"]


def _any(chance: Random, seeds: Path) -> Seed:
    return chance.choice(_seeds(seeds))


def _with_size(seed: Seed, size: int) -> bytes:
    """A file whose header says that its samples take `size` bytes."""
    mark, distance, form, more = SIZES[seed.format]
    changed = bytearray(seed.content)
    struct.pack_into(form, changed, changed.index(mark) + distance, size + more)
    if seed.format == "AIFF":
        struct.pack_into(">I", changed, changed.index(b"COMM") + 10, size // (2 * seed.channels))
    return bytes(changed)


def _damage(chance: Random, content: bytes, seeds: Path) -> bytes:
    """Damaged once, or twice."""
    others = [seed.content for seed in _seeds(seeds)]
    once = mutations.damaged(chance, content, others)
    return once if chance.random() < 0.7 else mutations.damaged(chance, once, others)


def _end_of_samples(seed: Seed) -> int:
    """A byte before which a cut takes more samples than are forgiven, and leaves chunks behind them out of account."""
    if seed.format == "FLAC":
        return len(seed.content)
    width = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4, "PCM_U8": 1, "ULAW": 1}.get(seed.subtype)
    size = FRAMES * seed.channels * width if width else len(seed.content) // 2
    return size - SLACK  # the header, which comes before the samples, is some bytes more


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _heard(path: Path | str) -> np.ndarray | str:
    """The sound, or in a word why there is none."""
    try:
        return audio.read(path, RATE)
    except AudioError as error:
        return error.kind
