"""How a sound file must be read so that nothing in it is left out: joined streams, lengths that are not as declared."""

from __future__ import annotations

from dataclasses import dataclass

from audiorep.audio.formats import chunks, flac, mpeg, ogg
from audiorep.audio.formats.splice import Piece, Region


@dataclass(frozen=True)
class Part:
    """What one decoder reads."""

    pieces: tuple[Piece, ...] = ()
    """Of the file, with a true header; none where a decoder reads the file itself."""
    promised: float = 1.0
    """How many times as much sound as there is was declared."""


@dataclass(frozen=True)
class Plan:
    """What is read after one another."""

    parts: tuple[Part, ...] = (Part(),)
    cut: bool = False
    """The file ends within its last page."""
    guessed: bool = False
    """The decoder can but guess the length."""


def plan(file: Region) -> Plan:
    """How to read the file. Of ordinary files only headers are read, of Ogg files those of all pages."""
    head = file.at(0, 4)
    if (samples := chunks.find(file)) is not None:
        return Plan(_of_chunks(file, samples))
    if head == b"OggS":
        links = ogg.links(file)
        ends = [*links.starts[1:], file.size]
        joined = len(links.starts) > 1
        several = (
            [Part((file.piece(start, end - start),)) for start, end in zip(links.starts, ends, strict=True)] if joined else []
        )
        return Plan(tuple(several) or (Part(),), links.cut)
    if head == b"fLaC":
        streams = flac.streams(file)
        true = len(streams) == 1 and streams[0].total >= (streams[0].found or 1)
        return Plan() if true else Plan(tuple(Part(tuple(stream.pieces())) for stream in streams))
    return mp3_plan(file) if mpeg.is_layer_3(file) else Plan()


def _of_chunks(file: Region, samples: chunks.Samples) -> tuple[Part, ...]:
    parts: list[Part] = []
    while True:
        found, declared = file.size - samples.start, samples.declared
        if declared is None or declared > found:
            cut = declared is not None and declared - found > chunks.SLACK and found > 0
            last = Part(tuple(chunks.pieces_to_end(file, samples)), declared / found if declared and cut else 1.0)
            return *parts, last
        is_sound, joined = chunks.behind(file, samples)
        if is_sound:
            return *parts, Part(tuple(chunks.pieces_to_end(file, samples)))
        if joined is None:
            return (*parts, Part((file.piece(0, file.size),))) if parts else (Part(),)
        parts.append(Part((file.piece(0, joined),)))
        file = file.behind(joined)
        following = chunks.find(file)
        assert following is not None, "that is how the place was found"
        samples = following


def mp3_plan(file: Region) -> Plan:
    """How to read a file that a decoder knows for MP3, or one of its kin, whose lengths it can but guess."""
    if mpeg.counts_right(file):
        return Plan()
    streams = mpeg.streams(file)
    if not streams or not all(stream.is_layer_3 for stream in streams):
        return Plan(guessed=True)
    if len(streams) == 1 and streams[0].is_counted_right:
        return Plan()
    return Plan(tuple(Part(tuple(mpeg.pieces(stream)), stream.promised) for stream in streams))
