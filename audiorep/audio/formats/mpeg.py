"""Finds the streams of an MP3 file and their true lengths by the headers of the frames (ISO 11172-3, 2.4.1.3).

The first frame of a stream may be a VBR header (Xing, Info or VBRI), which says how many frames and bytes follow. Without one
a decoder guesses the length from the first bit rate. In joined files the first VBR header counts only the first file.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from audiorep.audio.formats.splice import Piece, Region

_BLOCK_BYTES = 1 << 20  # read at a time
_FRAME_ROOM = 4096  # bytes; the longest frame, and the header of the next, fit in it
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, by version
_KILOBITS = {
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}  # of {(whether the version is 1, bits of the layer: 3 is layer I, 1 is layer III): bit rates}
_XING_NAMES = (b"Xing", b"Info")
_SYNC = re.compile(rb"\xff[\xe2-\xff][\x10-\xef]")  # bytes that may begin a frame; this search is fast in padding too
_FRAME_TOLERANCE = 2  # encoders differ on whether the VBR header is itself a frame
_MIN_VBR_HEADER_BYTES = 4 + 32 + 120  # of the shortest frame that can hold one


def _frame_sizes() -> dict[int, int]:
    """{second and third byte of a frame's header: bytes of the frame}."""
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
_STREAM_MASK = 0xFE0C  # the bits of these two bytes that are the same in a whole stream: version, layer and rate


@dataclass
class Stream:
    """Frames of one version, layer, rate and channel count, which one decoder reads."""

    header: bytes
    """The four bytes of the header of its first frame."""
    vbr_header: bytes
    """The whole frame that is the VBR header; empty if there is none."""
    frames: int
    """Number of frames, without the VBR header."""
    stretches: list[tuple[int, int]]
    """(first byte, number of bytes) of each run of consecutive frames, without the VBR header."""

    @property
    def size(self) -> int:
        """Bytes of all frames, without the VBR header."""
        return sum(size for _, size in self.stretches)

    @property
    def is_layer_3(self) -> bool:
        """Whether this is MP3 (layer III), which can have a VBR header."""
        return self.header[1] >> 1 & 3 == 1

    @property
    def declares_all_frames(self) -> bool:
        """Whether the VBR header gives the true number of frames."""
        return abs(_declared_frames(self.vbr_header) - self.frames) <= _FRAME_TOLERANCE

    @property
    def declared_ratio(self) -> float:
        """Frames that the VBR header declares divided by the frames found, if more are declared than found; else 1."""
        declared = _declared_frames(self.vbr_header)
        return declared / self.frames if declared - self.frames > _FRAME_TOLERANCE else 1.0


def is_layer_3(file: Region) -> bool:
    """Whether the first frame is MP3 (layer III), so that a decoder may have to guess the length."""
    first = file.at(first_frame(file), 4)
    return len(first) == 4 and first[0] == 0xFF and _key(first) in _SIZES and first[1] >> 1 & 3 == 1


def first_frame(file: Region) -> int:
    """The first byte after the tags at the start, where the first frame should begin."""
    position = 0
    while (head := file.at(position, 10))[:3] == b"ID3" and len(head) == 10:
        position += _tag_size(head)
    return position


def declares_all_bytes(file: Region) -> bool:
    """Whether the first frame is a VBR header that counts all bytes of the file; then no other frame need be read."""
    start = first_frame(file)
    frame = file.at(start, _FRAME_ROOM)
    kind, place = _vbr_header(frame)
    if kind is None:
        return False
    if kind == b"VBRI":
        declared = struct.unpack_from(">I", frame, place + 10)[0]
    else:
        flags = struct.unpack_from(">I", frame, place + 4)[0]
        declared = struct.unpack_from(">I", frame, place + 12)[0] if flags & 3 == 3 else 0
    header_size = _SIZES.get(_key(frame), 0)  # some encoders do not count the VBR header itself
    return declared > 0 and file.size - _tags_at_end(file) - start - declared <= header_size


def streams(file: Region) -> list[Stream]:
    """Every stream of the file, found by reading the headers of all frames once."""
    scan = _FrameScan(file)
    while scan.step():
        pass
    return [stream for stream in scan.streams if stream.frames]


def pieces(stream: Stream) -> list[Piece]:
    """Pieces of the stream, after a VBR header with its true length."""
    return [_corrected_vbr_header(stream), *stream.stretches]


class _FrameScan:
    """Goes through a file from frame to frame and collects its streams."""

    def __init__(self, file: Region) -> None:
        self._file, self._size, self._position = file, file.size, 0
        self._block, self._block_start = b"", 0
        self._continues = False  # whether the next frame continues the last stretch
        self.streams: list[Stream] = []

    def step(self) -> bool:
        """Reads some frames, one VBR header or one tag, or searches for the next frame; False at the end of the file."""
        place = self._place_in_block()
        head = self._block[place : place + 10]
        if len(head) < 4:
            return False
        if head[:3] == b"ID3" and len(head) == 10:
            self._position += _tag_size(head)
            self._continues = False
        elif (size := self._frame_size(place)) == 0:
            self._find_next_frame(place)
        elif self._position + size > self._size:
            return False  # the frame is cut off, or it is not a frame
        elif (frame := self._block[place : place + size]) and _vbr_header(frame)[0]:
            self.streams.append(Stream(head[:4], frame, 0, []))
            self._position += size
            self._continues = False
        else:
            self._add_frames(place, head[:4])
        return True

    def _add_frames(self, place: int, header: bytes) -> None:
        """Adds the frame at `place`, and the frames of the same stream that follow it in the block."""
        if (
            not self.streams
            or not _same_stream(header, self.streams[-1].header)
            or _mono(header) != _mono(self.streams[-1].header)
        ):
            self.streams.append(Stream(header, b"", 0, []))
            self._continues = False
        stream, block, key, start = self.streams[-1], self._block, _key(header), place
        xing_place, kind, mono = _xing_place(header), key & _STREAM_MASK, _mono(header)
        last = len(block) - (_FRAME_ROOM if self._has_more() else 4)
        while True:
            place += _SIZES[key]
            stream.frames += 1
            if place > last or block[place] != 0xFF:
                break
            key = block[place + 1] << 8 | block[place + 2]
            size = _SIZES.get(key)
            other_stream = key & _STREAM_MASK != kind or (block[place + 3] >> 6 == 3) != mono
            if size is None or other_stream or place + size > len(block):
                break
            if block.startswith(_XING_NAMES, place + xing_place) or block.startswith(b"VBRI", place + 36):
                break
        if self._continues and stream.stretches:
            first, length = stream.stretches[-1]
            stream.stretches[-1] = first, length + place - start
        else:
            stream.stretches.append(self._file.piece(self._position, place - start))
        self._position += place - start
        self._continues = True

    def _has_more(self) -> bool:
        """Whether the file goes on after the block."""
        return self._block_start + len(self._block) < self._size

    def _place_in_block(self) -> int:
        """The place of the current position in the block; near the end of the block the next one is read first."""
        place = self._position - self._block_start
        if place + _FRAME_ROOM > len(self._block) and self._has_more():
            self._block, self._block_start = self._file.at(self._position, _BLOCK_BYTES), self._position
            place = 0
        return place

    def _frame_size(self, place: int) -> int:
        """Bytes of the frame that begins at `place` in the block; 0 if none begins there."""
        block = self._block
        return _SIZES.get(_key(block[place : place + 4]), 0) if block[place] == 0xFF else 0

    def _find_next_frame(self, place: int) -> None:
        """Moves to the next frame that a frame of the same stream follows, or to the end of the block."""
        self._continues = False
        block = self._block
        for match in _SYNC.finditer(block, place + 1):
            place = match.start()
            size = self._frame_size(place) if place + 4 <= len(block) else 0
            after = block[place + size : place + size + 4]
            if size and len(after) == 4 and after[0] == 0xFF and _same_stream(after, block[place : place + 4]):
                self._position = self._block_start + place
                return
        # the last bytes are searched again, in the next block, which is read if fewer than `_FRAME_ROOM` are left
        self._position = self._block_start + len(block) - (_FRAME_ROOM - 1 if self._has_more() else 0)


def _key(header: bytes) -> int:
    """The key of a frame in `_SIZES`."""
    return header[1] << 8 | header[2]


def _same_stream(first: bytes, second: bytes) -> bool:
    """Whether two frame headers have the same version, layer and rate."""
    return (_key(first) ^ _key(second)) & _STREAM_MASK == 0


def _mono(header: bytes | bytearray) -> bool:
    return header[3] >> 6 == 3


def _tag_size(head: bytes) -> int:
    """Bytes of an ID3v2 tag with its header and footer; the size field has four bytes of seven bits."""
    body = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + body + (10 if head[5] & 0x10 else 0)


def _tags_at_end(file: Region) -> int:
    """Bytes of ID3v1 and APE tags after the frames."""
    tail = file.at(max(0, file.size - 160), 160)
    old = 128 if tail[-128:-125] == b"TAG" else 0
    ape = tail[-32 - old : len(tail) - old]
    return old + (32 + struct.unpack_from("<I", ape, 12)[0] if ape[:8] == b"APETAGEX" else 0)


def _xing_place(frame: bytes | bytearray) -> int:
    """The place of a Xing or Info header in its frame: after the side information, whose size varies."""
    version_1 = frame[1] >> 3 & 3 == 3
    return 4 + ((17 if _mono(frame) else 32) if version_1 else (9 if _mono(frame) else 17))


def _vbr_header(frame: bytes) -> tuple[bytes | None, int]:
    """The name of the VBR header in a frame, and its place there; (None, 0) for a frame of sound."""
    if len(frame) < 60 or frame[1] >> 1 & 3 != 1:
        return None, 0
    place = _xing_place(frame)
    if frame[place : place + 4] in _XING_NAMES:
        return frame[place : place + 4], place
    return (b"VBRI", 36) if frame[36:40] == b"VBRI" else (None, 0)


def _declared_frames(frame: bytes) -> int:
    """The number of frames that a VBR header gives; 0 if it gives none."""
    kind, place = _vbr_header(frame)
    if kind == b"VBRI":
        return int.from_bytes(frame[place + 14 : place + 18], "big")
    return int.from_bytes(frame[place + 8 : place + 12], "big") if kind and frame[place + 7] & 1 else 0


def _corrected_vbr_header(stream: Stream) -> bytes:
    """A VBR header with the true number of frames: the stream's own, which also gives the encoder's delay, or a new one."""
    kind, place = _vbr_header(stream.vbr_header) if stream.vbr_header else (None, 0)
    if kind not in (None, b"VBRI") and stream.vbr_header[place + 7] & 1:
        frame = bytearray(stream.vbr_header)
        struct.pack_into(">I", frame, place + 8, stream.frames)
        if frame[place + 7] & 2:
            struct.pack_into(">I", frame, place + 12, len(frame) + stream.size)
        return bytes(frame)
    second = stream.header[1] | 1  # no checksum
    third = next(
        third
        for kilobits in range(1, 15)
        if _SIZES[second << 8 | (third := kilobits << 4 | stream.header[2] & 0x0C)] >= _MIN_VBR_HEADER_BYTES
    )
    frame = bytearray(_SIZES[second << 8 | third])
    frame[:4] = bytes((0xFF, second, third, stream.header[3]))
    place = _xing_place(frame)
    frame[place : place + 16] = b"Xing" + struct.pack(">III", 3, stream.frames, len(frame) + stream.size)
    return bytes(frame)
