"""The streams of an MP3 file and their true lengths, found by the headers of its frames (ISO 11172-3, 2.4.1.3).

The first frame of a stream may be a note by its encoder (Xing, Info, VBRI) on how many frames follow. Without one a decoder
guesses the length from the first bit rate; where files were joined, the first note counts only its own frames.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from audiorep.audio.formats.splice import Piece, Region

_BLOCK = 1 << 20  # bytes read at a time
_ROOM = 4096  # bytes: the longest frame and a half; a header, and what is needed of its frame, lie within it
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, by version
_KILOBITS = {
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}  # by whether the version is 1, and the layer's bits (3 is layer I, 1 is layer III)
_NOTES = (b"Xing", b"Info")
_SYNC = re.compile(rb"\xff[\xe2-\xff][\x10-\xef]")  # what may begin a frame, found fast in padding too
_FORGIVEN = 2  # frames; encoders do not agree on whether their note is one
_SHORTEST_NOTE = 4 + 32 + 120  # bytes of a frame that holds a note


def _frame_sizes() -> dict[int, int]:
    """Bytes of a frame, by the second and third byte of its header."""
    sizes = {}
    for key in range(0xE000, 0x10000):
        version, layer, kilobits, rate, padding = key >> 11 & 3, key >> 9 & 3, key >> 4 & 15, key >> 2 & 3, key >> 1 & 1
        if version == 1 or layer == 0 or kilobits in (0, 15) or rate == 3:
            continue
        bits = 1000 * _KILOBITS[version == 3, layer][kilobits - 1]
        hertz = _RATES[version][rate]
        if layer == 3:
            sizes[key] = (12 * bits // hertz + padding) * 4
        else:
            sizes[key] = (72 if layer == 1 and version != 3 else 144) * bits // hertz + padding
    return sizes


_SIZES = _frame_sizes()
_KIND = 0xFE0C  # of those two bytes, what must not change within a stream: version, layer and rate


@dataclass
class Stream:
    """Frames that one decoder reads."""

    header: bytes
    """Of its first frame, four bytes."""
    note: bytes
    """The encoder's note, as a whole frame, or nothing."""
    frames: int
    """Without the note."""
    stretches: list[tuple[int, int]]
    """(first byte, number of bytes) of frames that follow each other, without the note."""

    @property
    def size(self) -> int:
        """Bytes of frames."""
        return sum(size for _, size in self.stretches)

    @property
    def is_layer_3(self) -> bool:
        """Whether it is MP3's, and can have a note."""
        return self.header[1] >> 1 & 3 == 1

    @property
    def is_counted_right(self) -> bool:
        """Whether its note counts its frames."""
        return abs(_counted_frames(self.note) - self.frames) <= _FORGIVEN

    @property
    def promised(self) -> float:
        """How many times as many frames as there are its note counts."""
        counted = _counted_frames(self.note)
        return counted / self.frames if counted - self.frames > _FORGIVEN else 1.0


def is_layer_3(file: Region) -> bool:
    """Whether the first frame is MP3's, and its length may be a guess."""
    first = file.at(first_frame(file), 4)
    return len(first) == 4 and first[0] == 0xFF and _key(first) in _SIZES and first[1] >> 1 & 3 == 1


def first_frame(file: Region) -> int:
    """The byte at which the first frame is due, behind tags."""
    position = 0
    while (head := file.at(position, 10))[:3] == b"ID3" and len(head) == 10:
        position += _tag_size(head)
    return position


def counts_right(file: Region) -> bool:
    """Whether the first frame is a note that counts all bytes of the file; then nothing else need be read."""
    start = first_frame(file)
    frame = file.at(start, _ROOM)
    kind, place = _note(frame)
    if kind is None:
        return False
    if kind == b"VBRI":
        counted = struct.unpack_from(">I", frame, place + 10)[0]
    else:
        flags = struct.unpack_from(">I", frame, place + 4)[0]
        counted = struct.unpack_from(">I", frame, place + 12)[0] if flags & 3 == 3 else 0
    note_size = _SIZES.get(_key(frame), 0)  # which some encoders do not count
    return counted > 0 and file.size - _tags_at_end(file) - start - counted <= note_size


def streams(file: Region) -> list[Stream]:
    """Every stream of the file, from the header of every frame, read once through."""
    walk = _Walk(file)
    while walk.step():
        pass
    return [stream for stream in walk.found if stream.frames]


def pieces(stream: Stream) -> list[Piece]:
    """The stream with a note of its true length before it."""
    return [_true_note(stream), *stream.stretches]


class _Walk:
    """Goes from frame to frame."""

    def __init__(self, file: Region) -> None:
        self._file, self._size, self._position = file, file.size, 0
        self._block, self._block_start = b"", 0
        self._open = False  # whether a frame may continue the last stream
        self.found: list[Stream] = []

    def step(self) -> bool:
        """Takes some frames, one note or one tag, or looks for the next; whether there may be more."""
        place = self._see()
        head = self._block[place : place + 10]
        if len(head) < 4:
            return False
        if head[:3] == b"ID3" and len(head) == 10:
            self._position += _tag_size(head)
            self._open = False
        elif (size := self._frame(place)) == 0:
            self._search(place)
        elif self._position + size > self._size:
            return False  # cut off, or the sync of none
        elif (note := self._block[place : place + size]) and _note(note)[0]:
            self.found.append(Stream(head[:4], note, 0, []))
            self._position += size
            self._open = False
        else:
            self._take(place, head[:4])
        return True

    def _take(self, place: int, header: bytes) -> None:
        """Takes this frame and those of its kind that follow it, as far as the block reaches."""
        if (
            not self.found
            or (_key(header) ^ _key(self.found[-1].header)) & _KIND
            or _mono(header) != _mono(self.found[-1].header)
        ):
            self.found.append(Stream(header, b"", 0, []))
            self._open = False
        stream, block, key, begin = self.found[-1], self._block, _key(header), place
        note_place, kind, mono = _note_place(header), key & _KIND, _mono(header)
        last = len(block) - (_ROOM if self._more() else 4)
        while True:
            place += _SIZES[key]
            stream.frames += 1
            if place > last or block[place] != 0xFF:
                break
            key = block[place + 1] << 8 | block[place + 2]
            size = _SIZES.get(key)
            ended = size is None or key & _KIND != kind or (block[place + 3] >> 6 == 3) != mono or place + size > len(block)
            if ended or block.startswith(_NOTES, place + note_place) or block.startswith(b"VBRI", place + 36):
                break
        if self._open and stream.stretches:
            first, length = stream.stretches[-1]
            stream.stretches[-1] = first, length + place - begin
        else:
            stream.stretches.append(self._file.piece(self._position, place - begin))
        self._position += place - begin
        self._open = True

    def _more(self) -> bool:
        """Whether the file goes on behind the block."""
        return self._block_start + len(self._block) < self._size

    def _see(self) -> int:
        """The position within the block, which is read on where it ends."""
        place = self._position - self._block_start
        if place + _ROOM > len(self._block) and self._more():
            self._block, self._block_start = self._file.at(self._position, _BLOCK), self._position
            place = 0
        return place

    def _frame(self, place: int) -> int:
        """Bytes of the frame there; 0 where none begins."""
        block = self._block
        return _SIZES.get(_key(block[place : place + 4]), 0) if block[place] == 0xFF else 0

    def _search(self, place: int) -> None:
        """Moves to the next two frames of one kind in a row, or to the end of the block."""
        self._open = False
        block = self._block
        for match in _SYNC.finditer(block, place + 1):
            place = match.start()
            size = self._frame(place) if place + 4 <= len(block) else 0
            after = block[place + size : place + size + 4]
            if size and len(after) == 4 and after[0] == 0xFF and (_key(after) ^ _key(block[place : place + 4])) & _KIND == 0:
                self._position = self._block_start + place
                return
        # the last bytes once more, together with what follows; one fewer, so that the block is read on
        self._position = self._block_start + len(block) - (_ROOM - 1 if self._more() else 0)


def _key(header: bytes) -> int:
    return header[1] << 8 | header[2]


def _mono(header: bytes | bytearray) -> bool:
    return header[3] >> 6 == 3


def _tag_size(head: bytes) -> int:
    """Bytes of an ID3v2 tag with its header and footer; its size is four times seven bits."""
    body = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + body + (10 if head[5] & 0x10 else 0)


def _tags_at_end(file: Region) -> int:
    """Bytes of ID3v1 and APE tags behind the frames."""
    tail = file.at(max(0, file.size - 160), 160)
    old = 128 if tail[-128:-125] == b"TAG" else 0
    ape = tail[-32 - old : len(tail) - old]
    return old + (32 + struct.unpack_from("<I", ape, 12)[0] if ape[:8] == b"APETAGEX" else 0)


def _note_place(frame: bytes | bytearray) -> int:
    """Where Xing's note stands in a frame: behind the side information, whose size hangs on version and channels."""
    version_1 = frame[1] >> 3 & 3 == 3
    return 4 + ((17 if _mono(frame) else 32) if version_1 else (9 if _mono(frame) else 17))


def _note(frame: bytes) -> tuple[bytes | None, int]:
    """Which note a frame is, and where it begins; None where it is sound."""
    if len(frame) < 60 or frame[1] >> 1 & 3 != 1:
        return None, 0
    place = _note_place(frame)
    if frame[place : place + 4] in _NOTES:
        return frame[place : place + 4], place
    return (b"VBRI", 36) if frame[36:40] == b"VBRI" else (None, 0)


def _counted_frames(note: bytes) -> int:
    """Frames that a note counts; 0 where it counts none."""
    kind, place = _note(note)
    if kind == b"VBRI":
        return int.from_bytes(note[place + 14 : place + 18], "big")
    return int.from_bytes(note[place + 8 : place + 12], "big") if kind and note[place + 7] & 1 else 0


def _true_note(stream: Stream) -> bytes:
    """A frame that says how many frames the stream has; an encoder's own keeps what it says of its delay."""
    kind, place = _note(stream.note) if stream.note else (None, 0)
    if kind not in (None, b"VBRI") and stream.note[place + 7] & 1:
        frame = bytearray(stream.note)
        struct.pack_into(">I", frame, place + 8, stream.frames)
        if frame[place + 7] & 2:
            struct.pack_into(">I", frame, place + 12, len(frame) + stream.size)
        return bytes(frame)
    second = stream.header[1] | 1  # no checksum
    third = next(
        third
        for kilobits in range(1, 15)
        if _SIZES[second << 8 | (third := kilobits << 4 | stream.header[2] & 0x0C)] >= _SHORTEST_NOTE
    )
    frame = bytearray(_SIZES[second << 8 | third])
    frame[:4] = bytes((0xFF, second, third, stream.header[3]))
    place = _note_place(frame)
    frame[place : place + 16] = b"Xing" + struct.pack(">III", 3, stream.frames, len(frame) + stream.size)
    return bytes(frame)
