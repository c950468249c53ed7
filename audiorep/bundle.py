"""The one-file format: what a deployed model says of itself, kept as metadata inside its file."""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiorep.errors import BundleError

FORMAT_VERSION = 1
PREFIX = "audiorep."
LONGEST_WINDOW = 3600.0  # seconds; a longer one is a mistake, and would need its memory
MEMBER = "audiorep.json"
"""What a format without metadata of its own carries, in a zip archive at its end (see `append`)."""
SEAL = "model"
"""Beside the metadata in it: length and CRC-32 of the model before the archive."""
ACTIVATIONS = ("softmax", "sigmoid")
PADDINGS = ("zeros", "edge", "edge_frames")


@dataclass(frozen=True)
class ModelInfo:
    """What a model needs to be run and judged, in a checkpoint's `config.json` and a bundle's metadata alike."""

    name: str
    """Architecture, or the name its maker gave it."""
    labels: dict[str, list[str]]
    """Class names of each head, in the order of its scores."""
    sample_rate: int
    """Hz of the waveform it takes."""
    window_seconds: float
    """Length of sound it sees at once."""
    hop_seconds: float
    """Default distance between windows in a long recording."""
    front_end: dict[str, Any]
    """Settings of the log-mel inside (see `audiorep.frontend.FrontEndConfig`)."""
    activation: str = "softmax"
    """How logits became scores: `softmax` (one label a window) or `sigmoid` (any number of labels)."""
    padding: str = "zeros"
    """What follows a clip shorter than a window: `zeros`, `edge` (its last sample), `edge_frames` (its last log-mel frame)."""
    views: int = 0
    """Windows whose scores a clip's are the mean of when it is evaluated, spread evenly from its start to its end; 0: all
    windows, one hop apart."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Score from which a label is reported, per class of each head; a missing head reports from 0 (softmax) or 0.5."""
    licence: str = "unknown"
    """Of the weights."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Data, code version, date and measured accuracy."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        problems = [text for fine, text in self._checks() if not fine]
        if problems:
            raise BundleError(f"model {self.name}: " + "; ".join(problems) + ".")

    @property
    def task(self) -> str:
        """`single-label` or `multi-label`."""
        return "single-label" if self.activation == "softmax" else "multi-label"

    @property
    def window_samples(self) -> int:
        """Samples in a window: one short, so that a centred STFT yields a whole number of frames."""
        return round(self.window_seconds * self.sample_rate) - 1

    @property
    def hop_samples(self) -> int:
        """Samples between windows."""
        return max(1, round(self.hop_seconds * self.sample_rate))

    def threshold(self, head: str) -> list[float]:
        """The reporting threshold of each class of `head`."""
        default = 0.0 if self.activation == "softmax" else 0.5
        return self.thresholds.get(head) or [default] * len(self.labels[head])

    def noting(self, **about: Any) -> ModelInfo:
        """The same with more in its provenance."""
        return dataclasses.replace(self, provenance={**self.provenance, **about})

    def in_precision(self, precision: str, **about: Any) -> ModelInfo:
        """The same of a file of fewer bits, whose accuracy is not known: what was measured is called that of float32."""
        kept = {("measured_in_float32" if key == "measured" else key): value for key, value in self.provenance.items()}
        return dataclasses.replace(self, provenance={**kept, "precision": precision, **about})

    def to_metadata(self) -> dict[str, str]:
        """Flat strings for a model file; every value but the task is JSON."""
        return {f"{PREFIX}{key}": json.dumps(value) for key, value in {**dataclasses.asdict(self), "task": self.task}.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> ModelInfo:
        """The information in a model file's metadata.

        Raises:
            BundleError: it was not written by audiorep, by a newer version, or is damaged.
        """
        values = {}
        for key, text in metadata.items():
            if key.startswith(PREFIX):
                try:
                    values[key.removeprefix(PREFIX)] = json.loads(text)
                except ValueError:
                    raise BundleError(f"{path}: its metadata {key} is not JSON. Export the model again.") from None
        return cls.from_dict(values, path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path) -> ModelInfo:
        """The information in a mapping, refused with `path` where a field is missing or unknown to this version.

        Raises:
            BundleError: as `from_metadata`.
        """
        if not values:
            raise BundleError(
                f"{path} is not an audiorep model: it carries no labels or settings. Make one with: audiorep export"
            )
        version = values.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise BundleError(
                f"{path} has format version {version!r}; this audiorep reads up to {FORMAT_VERSION}. Upgrade audiorep."
            )
        fields = {f.name: f for f in dataclasses.fields(cls)}
        missing = [
            n
            for n, f in fields.items()
            if n not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise BundleError(f"{path} lacks {', '.join(missing)}. Export the model again.")
        try:
            return cls(**{name: values[name] for name in fields if name in values})
        except BundleError as error:
            raise BundleError(f"{path}, {error}") from None
        except (TypeError, AttributeError) as error:
            raise BundleError(f"{path}: its settings are damaged ({error}). Export the model again.") from None

    def _checks(self) -> list[tuple[bool, str]]:
        sizes = {head: len(names) for head, names in self.labels.items()}
        return [
            (bool(sizes) and all(sizes.values()), f"labels {sizes} need at least one class a head"),
            (self.sample_rate > 0, f"sample_rate is {self.sample_rate} Hz"),
            (
                0 < self.hop_seconds <= self.window_seconds <= LONGEST_WINDOW,
                f"window {self.window_seconds:g} s and hop {self.hop_seconds:g} s: both must be positive, the hop at most "
                f"the window, the window at most {LONGEST_WINDOW:g} s",
            ),
            (self.activation in ACTIVATIONS, f"activation is {self.activation!r}; allowed are {', '.join(ACTIVATIONS)}"),
            (self.padding in PADDINGS, f"padding is {self.padding!r}; allowed are {', '.join(PADDINGS)}"),
            (isinstance(self.views, int) and self.views >= 0, f"views is {self.views!r}; a whole number is needed"),
            (
                all(len(t) == sizes.get(h) and all(isinstance(x, int | float) for x in t) for h, t in self.thresholds.items()),
                "thresholds must be numbers that match the labels, one a class",
            ),
            (isinstance(self.provenance, dict), f"provenance is {self.provenance!r}; a table is needed"),
        ]


def append(path: Path, info: ModelInfo) -> None:
    """Adds what a model says of itself to the end of its file, as a zip archive, with the length and CRC of what was there.

    For formats that have no metadata and do not mind what follows them: LiteRT's and ExecuTorch's FlatBuffers are read from
    their start, zip archives from their end (TensorFlow Lite's own metadata keeps label files in the same way).
    """
    model = path.read_bytes()
    seal = {SEAL: json.dumps([len(model), zlib.crc32(model)])}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER), json.dumps({**info.to_metadata(), **seal}, ensure_ascii=False))


def appended(path: Path) -> ModelInfo:
    """What `append` added to the model in `path`.

    Raises:
        BundleError: it is missing, or not an audiorep model, or damaged.
    """
    if not path.is_file():
        raise BundleError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; a model file is needed.")
    if (content := _member(path)) is None:
        raise BundleError(
            f"{path} is not an audiorep model, or was cut short: it carries no labels or settings. "
            "Make one with: audiorep export"
        )
    try:
        values = json.loads(content)
        length, checksum = json.loads(values.pop(SEAL))
        with path.open("rb") as file:
            whole = zlib.crc32(file.read(length)) == checksum
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BundleError(f"{path}: its metadata is damaged. Export the model again.") from None
    if not whole:
        raise BundleError(f"{path} is damaged: its content is not what was exported. Copy or export it again.")
    return ModelInfo.from_metadata(values, path)


def _member(path: Path) -> bytes | None:
    """What `MEMBER` holds in the archive at the end of a file; None if there is none that can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(MEMBER)
    except (zipfile.BadZipFile, KeyError, EOFError, RuntimeError, ValueError, OSError, zlib.error):  # it has no one error
        return None
