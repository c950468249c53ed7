"""`ModelInfo`: the description of a model, which is stored as metadata in its file."""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.config import failed
from audiorep.errors import BundleError
from audiorep.escape import visible
from audiorep.info import EMBEDDING, calibration, checks
from audiorep.info.calibration import Kind
from audiorep.info.front_end import RATES
from audiorep.untrusted import LARGEST_JSON, brief, from_json, is_number, is_plain, is_shallow, is_text, is_whole

FORMAT_VERSION = 1
PREFIX = "audiorep."
_OLD_NAMES = {"licence": "license"}
MEMBER = "audiorep.json"
"""The archive member with the metadata, for formats that have no metadata of their own (see `append`)."""
SEAL = "model"
"""The key in `MEMBER` of the length and the CRC-32 of the model before the archive."""
ACTIVATIONS = ("softmax", "sigmoid")
PADDINGS = ("zeros", "edge", "edge_frames")
LATER = ("calibration", "unknown", "silence", "embedding_size")
"""Fields that came later, and are written only where they say something."""


@dataclass(frozen=True)
class ModelInfo:
    """The description of a model: all that is needed to run and evaluate it.

    It is stored in the `config.json` of a checkpoint and in the metadata of a deployed model.

    Raises:
        BundleError: a field has a wrong type or a value that is not allowed; the text names all such fields.
    """

    name: str
    """Architecture, or a name that its author gave."""
    labels: dict[str, list[str]]
    """Class names of each head, in the order of its scores."""
    sample_rate: int
    """Hz of the waveform that the model takes."""
    window_seconds: float
    """Length of the sound that the model takes at once."""
    hop_seconds: float
    """Default distance between windows in a long recording."""
    front_end: dict[str, Any]
    """Settings of the log-mel front end (see `audiorep.models.front_end.FrontEndConfig`)."""
    activation: str = "softmax"
    """How logits become scores: `softmax` (one label a window) or `sigmoid` (any number of labels)."""
    padding: str = "zeros"
    """How a clip that is shorter than a window is padded: with `zeros`, `edge` (its last sample) or `edge_frames` (its last
    log-mel frame)."""
    views: int = 0
    """Number of windows in evaluation, spread evenly over a clip, whose scores are averaged; 0: all windows, one hop apart."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Lowest score at which a label is reported, for each class of each head; for a head that is missing here, 0 with softmax
    and 0.5 with sigmoid. They are compared with calibrated scores, where there is a calibration."""
    calibration: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """{head: {`window` or `file`: {`temperature` and, with sigmoid, `bias`}}}, which make probabilities of the scores (see
    `calibrated`); a head that is missing here is not calibrated."""
    unknown: str = ""
    """What sounds of none of the classes are reported as: with softmax one of the classes, with sigmoid the answer where no
    class reaches its threshold. Empty, if the model does not tell."""
    silence: float = 0.0
    """Peak below which a window is silence, as a share of full scale: `unknown` whatever the model hears in it, and no part of
    its file's scores; 0, as for every model without `unknown`: all windows count."""
    embedding_size: int = 0
    """Values of the embedding, the vector that the heads are given; 0: the file gives none, as those of earlier versions."""
    license: str = "unknown"
    """License of the weights."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Data, code version, date and measured accuracy."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        damaged = failed(self._type_checks())
        if damaged:
            name = visible(self.name) if is_text(self.name) else brief(self.name)
            raise BundleError(f"model {name}: its settings are damaged: {'; '.join(damaged)}. Export the model again.")
        problems = failed(self._checks())
        if problems:
            raise BundleError(f"model {visible(self.name)}: " + "; ".join(problems) + ".")

    @property
    def task(self) -> str:
        """`single-label` or `multi-label`."""
        return "single-label" if self.activation == "softmax" else "multi-label"

    @property
    def outputs(self) -> dict[str, int]:
        """The size of each output: of the heads, by name, and then of the embedding, where the model gives one."""
        heads = {head: len(names) for head, names in self.labels.items()}
        return {**heads, EMBEDDING: self.embedding_size} if self.embedding_size else heads

    @property
    def window_samples(self) -> int:
        """Samples in a window, as `FrontEndConfig.samples` counts them: one short where frames are centered."""
        return round(self.window_seconds * self.sample_rate) - self.front_end.get("centered", True)

    @property
    def hop_samples(self) -> int:
        """Samples between windows."""
        return max(1, round(self.hop_seconds * self.sample_rate))

    def threshold(self, head: str) -> list[float]:
        """The reporting threshold of each class of `head`."""
        default = 0.0 if self.activation == "softmax" else 0.5
        return self.thresholds.get(head) or [default] * len(self.labels[head])

    def contested(self, head: str, scores: np.ndarray) -> np.ndarray:
        """The scores (…, K) by which the best label is chosen: all but that of `unknown` below a half, which becomes 0.

        A softmax divides what a sound may be among all classes, so that even where it is likely to be one of them, each may
        be less likely than none of them. It is of none where that is likelier than all of them together.
        """
        if self.activation != "softmax" or not self.unknown:
            return scores
        place = self.labels[head].index(self.unknown)
        found = scores.copy()
        found[..., place] = np.where(scores[..., place] >= 0.5, scores[..., place], 0.0)
        return found

    def silent_scores(self, head: str) -> np.ndarray:
        """(K,) float32 scores of silence: 1 of `unknown`, where that is a class, and 0 of all others."""
        return np.array([name == self.unknown for name in self.labels[head]], np.float32)

    def calibrated(self, head: str, scores: np.ndarray, kind: Kind) -> np.ndarray:
        """The calibrated scores (…, K) of windows or of whole files; as they are where the head is not calibrated.

        Args:
            head: a key of `labels`.
            scores: (…, K) of a session; for a file, the mean over its windows.
            kind: `window` or `file`.
        """
        settings = self.calibration.get(head)
        return scores if settings is None else calibration.calibrated(scores, settings[kind], self.activation)

    def with_provenance(self, **entries: Any) -> ModelInfo:
        """A copy with more entries in its provenance."""
        return dataclasses.replace(self, provenance={**self.provenance, **entries})

    def with_precision(self, precision: str, **entries: Any) -> ModelInfo:
        """A copy for a file in another precision, with more entries in its provenance.

        The accuracy in that precision is not known, so the key `measured` becomes `measured_in_float32`.
        """
        renamed = {("measured_in_float32" if key == "measured" else key): value for key, value in self.provenance.items()}
        return dataclasses.replace(self, provenance={**renamed, "precision": precision, **entries})

    def as_dict(self) -> dict[str, Any]:
        """The fields as models keep them."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value or name not in LATER}

    def to_metadata(self) -> dict[str, str]:
        """Strings for the metadata of a model file, {`audiorep.` and the field: its value in JSON}; the task is added."""
        return {f"{PREFIX}{key}": json.dumps(value) for key, value in {**self.as_dict(), "task": self.task}.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> ModelInfo:
        """The description in the metadata of a model file; `path` is named in errors.

        Raises:
            BundleError: the metadata is not from audiorep, is from a newer version, or is damaged.
        """
        values = {}
        for key, text in metadata.items():
            if key.startswith(PREFIX):
                try:
                    values[key.removeprefix(PREFIX)] = from_json(text)
                except ValueError as error:
                    raise BundleError(f"{path}: its metadata {visible(key[:80])} {error}. Export the model again.") from None
        return cls.from_dict(values, path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path) -> ModelInfo:
        """The description in a mapping {field: value}; unknown fields are ignored, and `path` is named in errors.

        Raises:
            BundleError: for the same reasons as in `from_metadata`, or a field is missing.
        """
        if not values:
            raise BundleError(
                f"{path} is not an audiorep model: it carries no labels or settings. Make one with: audiorep export"
            )
        values = {_OLD_NAMES.get(name, name): value for name, value in values.items()}
        version = values.get("format_version")
        if not is_whole(version) or not 1 <= version <= FORMAT_VERSION:
            raise BundleError(
                f"{path} has format version {brief(version)}; this audiorep reads up to {FORMAT_VERSION}. Upgrade audiorep."
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

    def _type_checks(self) -> list[tuple[bool, str]]:
        """Whether each field has its type; `_checks` checks the values."""
        numbers = {"window_seconds": self.window_seconds, "hop_seconds": self.hop_seconds, "silence": self.silence}
        whole_names = ("sample_rate", "views", "embedding_size", "format_version")
        whole = {name: getattr(self, name) for name in whole_names}
        names = ("name", "activation", "padding", "unknown", "license")
        texts = {name: getattr(self, name) for name in names}
        tables = {"front_end": self.front_end, "calibration": self.calibration, "provenance": self.provenance}
        return [
            *((is_text(v), f"{n} is {brief(v)}; a text is needed") for n, v in texts.items()),
            *((is_whole(v), f"{n} is {brief(v)}; a whole number is needed") for n, v in whole.items()),
            *((is_number(v) or isinstance(v, float), f"{n} is {brief(v)}; a number is needed") for n, v in numbers.items()),
            *(
                (isinstance(v, dict) and is_shallow(v) and is_plain(v), f"{n} is {brief(v)}; a table of plain values is needed")
                for n, v in tables.items()
            ),
            (checks.is_lists_by_head(self.labels), f"labels are {brief(self.labels)}; a list of names for each head is needed"),
            (
                checks.is_lists_by_head(self.thresholds),
                f"thresholds are {brief(self.thresholds)}; a list of numbers for each head is needed",
            ),
        ]

    def _checks(self) -> list[tuple[bool, str]]:
        lowest, highest = RATES
        return [
            *checks.labels(self.labels),
            (
                lowest <= self.sample_rate <= highest,
                f"sample_rate is {brief(self.sample_rate)} Hz; {lowest} to {highest} is allowed",
            ),
            *checks.windows(self.window_seconds, self.hop_seconds, self.sample_rate),
            (self.activation in ACTIVATIONS, f"activation is {self.activation!r}; allowed are {', '.join(ACTIVATIONS)}"),
            (self.padding in PADDINGS, f"padding is {self.padding!r}; allowed are {', '.join(PADDINGS)}"),
            (
                self.unknown == "" or self.activation == "sigmoid" or all(self.unknown in n for n in self.labels.values()),
                f"unknown is {brief(self.unknown)}, which is no class of every head",
            ),
            (
                self.silence == 0 or (bool(self.unknown) and 0 < self.silence < 1),
                f"silence is {brief(self.silence)}; 0 to below 1 is allowed, and 0 alone without unknown",
            ),
            (0 <= self.views <= checks.MAX_VIEWS, f"views is {brief(self.views)}; 0 to {checks.MAX_VIEWS} is allowed"),
            (
                0 <= self.embedding_size <= checks.MAX_EMBEDDING,
                f"embedding_size is {brief(self.embedding_size)}; 0 to {checks.MAX_EMBEDDING} is allowed",
            ),
            *checks.thresholds(self.thresholds, self.labels),
            *checks.calibration(self.calibration, self.labels),
            *checks.front_end(self.front_end, self.sample_rate, self.window_seconds),
            *checks.provenance(self.provenance),
        ]


def append(path: Path, info: ModelInfo) -> None:
    """Appends the description of a model to its file, as a zip archive that also holds the length and CRC-32 of the model.

    This is for formats without metadata that allow bytes after the model: the FlatBuffers of LiteRT and ExecuTorch are read
    from their start, and zip archives from their end. TensorFlow Lite's metadata stores label files in the same way.
    """
    model = path.read_bytes()
    seal = {SEAL: json.dumps([len(model), zlib.crc32(model)])}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER), json.dumps({**info.to_metadata(), **seal}, ensure_ascii=False))


def read_appended(path: Path) -> ModelInfo:
    """The description that `append` added to the model file at `path`.

    Raises:
        BundleError: the file is missing, is not an audiorep model, or is damaged.
    """
    return ModelInfo.from_metadata(_read_appended(path)[0], path)


def without_appended(path: Path) -> bytes:
    """The model in the file at `path`, as it was before `append`.

    Raises:
        BundleError: as `read_appended`.
    """
    return _read_appended(path)[1]


def _read_appended(path: Path) -> tuple[dict[str, str], bytes]:
    """The metadata that `append` added, and the model before it."""
    if not path.is_file():
        raise BundleError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; a model file is needed.")
    if (content := _member(path)) is None:
        raise BundleError(
            f"{path} is not an audiorep model, or was cut short: it carries no labels or settings. "
            "Make one with: audiorep export"
        )
    try:
        values = from_json(content.decode())
        length, checksum = from_json(values.pop(SEAL))
        with path.open("rb") as file:
            model = file.read(length)
        intact = zlib.crc32(model) == checksum
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise BundleError(f"{path}: its metadata is damaged. Export the model again.") from None
    if not intact:
        raise BundleError(f"{path} is damaged: its content is not what was exported. Copy or export it again.")
    return values, model


def _member(path: Path) -> bytes | None:
    """The content of `MEMBER` in the archive at the end of a file; None if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            too_large = archive.getinfo(MEMBER).file_size > LARGEST_JSON  # a few bytes can unpack to gigabytes
            return None if too_large else archive.read(MEMBER)
    except (
        zipfile.BadZipFile,
        KeyError,
        EOFError,
        RuntimeError,
        ValueError,
        OSError,
        zlib.error,
    ):  # all that zipfile raises
        return None
