"""Plans how to read a sound file completely if its header declares a wrong length or several streams are joined in it."""

from __future__ import annotations

from dataclasses import dataclass

from audiorep.audio.formats import chunks, flac, mpeg, ogg
from audiorep.audio.formats.splice import Piece, Region


@dataclass(frozen=True)
class Part:
    """A part of a file that one decoder reads."""

    pieces: tuple[Piece, ...] = ()
    """A header with the true length, and stretches of the file; empty if the decoder reads the file itself."""
    declared_ratio: float = 1.0
    """Declared length divided by the true length, if more was declared than there is; else 1."""


@dataclass(frozen=True)
class Plan:
    """The parts of a file, in the order in which they are read."""

    parts: tuple[Part, ...] = (Part(),)
    is_cut_off: bool = False
    """Whether an Ogg file ends within its last page."""
    length_is_guessed: bool = False
    """Whether the decoder can only guess the length."""


def plan(file: Region) -> Plan:
    """How to read the file. This reads only headers: one in most files, those of all pages in Ogg files."""
    head = file.at(0, 4)
    if (samples := chunks.find_samples(file)) is not None:
        return Plan(_chunk_parts(file, samples))
    if head == b"OggS":
        links = ogg.links(file)
        ends = [*links.starts[1:], file.size]
        if len(links.starts) <= 1:
            return Plan(is_cut_off=links.is_cut_off)
        parts = [Part((file.piece(start, end - start),)) for start, end in zip(links.starts, ends, strict=True)]
        return Plan(tuple(parts), links.is_cut_off)
    if head == b"fLaC":
        streams = flac.streams(file)
        header_is_right = len(streams) == 1 and streams[0].declared_samples >= (streams[0].found_samples or 1)
        return Plan() if header_is_right else Plan(tuple(Part(tuple(stream.pieces())) for stream in streams))
    return plan_mp3(file) if mpeg.is_layer_3(file) else Plan()


def _chunk_parts(file: Region, samples: chunks.Samples) -> tuple[Part, ...]:
    """The parts of a file made of chunks, from its first chunk of samples; further files may be joined to it."""
    parts: list[Part] = []
    while True:
        present, declared = file.size - samples.start, samples.declared
        if declared is None or declared > present:
            is_cut_off = declared is not None and declared - present > chunks.SLACK_BYTES and present > 0
            last = Part(tuple(chunks.pieces_to_end(file, samples)), declared / present if declared and is_cut_off else 1.0)
            return *parts, last
        is_sound, joined = chunks.after_samples(file, samples)
        if is_sound:
            return *parts, Part(tuple(chunks.pieces_to_end(file, samples)))
        if joined is None:
            return (*parts, Part((file.piece(0, file.size),))) if parts else (Part(),)
        parts.append(Part((file.piece(0, joined),)))
        file = file.starting_at(joined)
        next_samples = chunks.find_samples(file)
        assert next_samples is not None, "`after_samples` found a file there"
        samples = next_samples


def plan_mp3(file: Region) -> Plan:
    """How to read a file that libsndfile decodes as MP3 (or MP1, MP2); the decoder may only guess its length."""
    if mpeg.declares_all_bytes(file):
        return Plan()
    streams = mpeg.streams(file)
    if not streams or not all(stream.is_layer_3 for stream in streams):
        return Plan(length_is_guessed=True)
    if len(streams) == 1 and streams[0].declares_all_frames:
        return Plan()
    return Plan(tuple(Part(tuple(mpeg.pieces(stream)), stream.declared_ratio) for stream in streams))
