"""Data sets as tar shards of FLAC and labels (the WebDataset convention, arXiv 2006.10256), read at random positions."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiorep.datasets.example import Example
from audiorep.errors import DataError
from audiorep.escape import shell

FORMAT, VERSION = "audiorep shards", 1
INDEX, UNFINISHED = "index.json", "unfinished.json"
_FIELDS = ("split", "fold", "group", "license", "optional", "token")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Shard:
    """The record of one tar file."""

    name: str
    split: str
    clips: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Unread:
    """A clip that could not be copied."""

    key: str
    path: str
    error: str


@dataclass(frozen=True)
class Prepared:
    """A whole set of shards."""

    folder: Path
    shards: tuple[Shard, ...]
    failures: tuple[Unread, ...]

    @property
    def clips(self) -> int:
        """The number of clips in all shards."""
        return sum(shard.clips for shard in self.shards)

    @property
    def bytes(self) -> int:
        """The size of all shards."""
        return sum(shard.bytes for shard in self.shards)


def is_at(root: Path) -> bool:
    """Whether `root` holds shards, finished or not."""
    return root.is_dir() and marker(root) is not None


def examples(root: Path) -> list[Example]:
    """The clips of all shards in the order of the original data, as `{shard}.tar/{key}.flac`; no shard is opened.

    Raises:
        DataError: the set is unfinished or damaged, or a shard is missing or has another size than was written.
    """
    found = []
    for shard in _shards(root):
        path = root / shard.name
        if fault := size_fault(path, shard):
            raise DataError(f"{path} {fault}")
        found += [_example(path, row) for row in _rows(path)]
    return sorted(found, key=lambda example: example.path.name)


def labels(root: Path) -> dict[str, list[str]] | None:
    """The classes in the official order of the original data set, or None if it has no such order.

    Raises:
        DataError: the set is unfinished or damaged.
    """
    found = _index(root).get("labels")
    return None if found is None else {str(head): list(names) for head, names in found.items()}


def verify(root: Path, on_progress: Callable[[int], None] | None = None) -> dict[Path, str]:
    """The fault of each damaged shard, found by its size, hash and clips; every shard is read completely.

    Raises:
        DataError: the set is unfinished or its index damaged.
    """
    faults = {}
    for shard in _shards(root):
        path = root / shard.name
        if fault := size_fault(path, shard) or _content_fault(path, shard):
            faults[path] = fault
        if on_progress is not None:
            on_progress(shard.clips)
    return faults


def size_fault(path: Path, shard: Shard) -> str:
    """The fault of a shard that is missing or has another size than was written; empty if there is none."""
    if not path.is_file():
        return "is missing. Run the same command again to make it."
    if (size := path.stat().st_size) != shard.bytes:
        return f"has {size} bytes; {shard.bytes} were written. Run the same command again to make it anew."
    return ""


def marker(root: Path) -> dict[str, Any] | None:
    """The index of the shards in a folder, or the marker of an unfinished set; None if there are no shards."""
    for name in (INDEX, UNFINISHED):
        try:
            found = read(root / name)
        except (OSError, ValueError):
            continue
        if found.get("format") == FORMAT:
            return found
    return None


def read(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError, ValueError: it cannot be read, or is not an object.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return values


def sidecar(path: Path) -> Path:
    """The path of the list of a shard's clips."""
    return path.with_suffix(".json")


def shard_of(record: Mapping[str, Any]) -> Shard:
    """The shard that a record describes."""
    return Shard(record["name"], record["split"], record["clips"], record["bytes"], record["sha256"])


def sha256_of(path: Path) -> str:
    """The SHA-256 hash of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _content_fault(path: Path, shard: Shard) -> str:
    try:
        if sha256_of(path) != shard.sha256:
            return "is not the bytes that were written. Delete it. Run the same command again."
        with tarfile.open(path, "r:") as tar:
            inside = sum(name.endswith(".flac") for name in tar.getnames())
        listed = len(_rows(path))
    except (OSError, tarfile.TarError) as error:
        return f"cannot be read ({error}). Delete it, and run the same command again."
    except DataError as error:
        return f"has no list of its clips: {error}"
    if not inside == listed == shard.clips:
        return f"holds {inside} clips and its list {listed}; {shard.clips} were written. Delete both, and run it again."
    return ""


def _index(root: Path) -> dict[str, Any]:
    if not (root / INDEX).is_file():
        raise DataError(
            f"{root} is an unfinished set of shards. Run the command that made it again: "
            f"audiorep data prepare … -o {shell(root)}"
        )
    try:
        index = read(root / INDEX)
    except (OSError, ValueError) as error:
        raise _damaged(root / INDEX, error) from None
    if index.get("format") != FORMAT or index.get("version") != VERSION:
        raise DataError(f"{root / INDEX} is of version {index.get('version')!r} of the format; version {VERSION} can be read.")
    return index


def _shards(root: Path) -> list[Shard]:
    try:
        return [shard_of(record) for record in _index(root)["shards"]]
    except (KeyError, TypeError) as error:
        raise _damaged(root / INDEX, error) from None


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return list(read(sidecar(path))["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(sidecar(path), error) from None


def _example(path: Path, row: Mapping[str, Any]) -> Example:
    try:
        labels = {str(head): tuple(names) for head, names in row["labels"].items()}
        row = {"license" if name == "licence" else name: value for name, value in row.items()}  # its name in older shards
        fields = {name: row[name] for name in _FIELDS}
        group = row["group"] or row["source"]  # the split is drawn by it, as for the original file
        return Example(path / f"{row['key']}.flac", labels, **{**fields, "group": group})
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(sidecar(path), error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read ({error}). Run the same command again: audiorep data prepare … -o {shell(path.parent)}"
    )
