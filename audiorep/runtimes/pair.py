"""OpenVINO's two files of one model: an .xml that says how long its .bin is and what its checksum is.

Two files cannot be replaced at once. Without that seal the graph of one model beside the weights of another of the same
shapes, as a kill or a half copied pair leaves them, would run and give wrong scores.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from audiorep.errors import BundleError
from audiorep.files import replacing
from audiorep.interrupts import delay_signals

_SEAL = re.compile(rb"\s*<!-- audiorep: weights of (\d+) bytes, CRC-32 ([0-9a-f]{8}) -->\s*\Z")
LONGEST = 200  # bytes at a graph's end that a seal and the blanks around it may take


def move(made: Path, path: Path) -> None:
    """Gives a written model, an .xml and its .bin, another place, sealed; the graph takes its name last.

    A pair without a seal that lies there is sealed first, so that its graph is never taken for that of the new weights.

    Raises:
        WriteError: nothing can be written there.
    """
    weights = made.with_suffix(".bin").read_bytes()
    with delay_signals():
        if _is_older(path):
            with replacing(path) as graph:
                graph.write_bytes(_sealed(path.read_bytes(), path.with_suffix(".bin").read_bytes()))
        with replacing(path) as graph, replacing(path.with_suffix(".bin")) as partial:
            partial.write_bytes(weights)
            graph.write_bytes(_sealed(made.read_bytes(), weights))


def check(path: Path) -> None:
    """Refuses the graph of one model beside the weights of another; a graph without a seal passes.

    Raises:
        BundleError: so it is.
    """
    found = _SEAL.search(path.read_bytes()[-LONGEST:])
    weights = path.with_suffix(".bin")
    if found is None or not weights.is_file():  # of weights that are missing the reader tells
        return
    content = weights.read_bytes()
    length, checksum = int(found[1]), int(found[2], 16)
    if (len(content), zlib.crc32(content)) != (length, checksum):
        has = f"of {len(content)} bytes, not {length}" if len(content) != length else "of another model"
        raise BundleError(
            f"{path} and {weights.name} are not of one model: the weights are {has}. A copy or an export was cut off between "
            "the two; copy or export both again."
        )


def _sealed(graph: bytes, weights: bytes) -> bytes:
    seal = f"\n<!-- audiorep: weights of {len(weights)} bytes, CRC-32 {zlib.crc32(weights):08x} -->\n"
    return _SEAL.sub(b"", graph).rstrip() + seal.encode()


def _is_older(path: Path) -> bool:
    """Whether a whole pair without a seal lies there."""
    return path.is_file() and path.with_suffix(".bin").is_file() and not _SEAL.search(path.read_bytes()[-LONGEST:])
