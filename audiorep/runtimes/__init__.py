"""Sessions that turn waveforms into scores and embeddings, one file a runtime: `Session(path)(waveform) → {head: scores}`."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiorep import shipped
from audiorep.errors import AudiorepError, BundleError, ConfigError, first_line, require
from audiorep.info import EMBEDDING
from audiorep.info.model_info import ModelInfo

SAMPLES_AT_ONCE = 160_000  # two windows of 5 s; a batch of sixteen is a quarter slower a window on two cores


class Session:
    """A model ready to run: (B, N) float32 at `info.sample_rate` to its scores and its embedding; a runtime writes `run`."""

    info: ModelInfo
    device: str
    """What it runs on, for people to read."""
    shares = False
    """Whether several threads may call it at the same time, each with a thread of its own."""

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs that are asked for, some of `info.outputs`: {name: (B, size) float32}; others cost next to nothing."""
        raise NotImplementedError

    def __call__(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """{head: scores (B, K)} of each waveform of the batch."""
        return self.run(waveform, list(self.info.labels))

    def embed(self, waveform: np.ndarray) -> np.ndarray:
        """The embedding (B, C) of each waveform of the batch: the vector that the heads are given, not normalized."""
        return self.run(waveform, [EMBEDDING])[EMBEDDING]


class Checked(Session):
    """A session whose outputs can be used: what is no score or embedding is an error that names the model, in every runtime.

    Raises:
        BundleError: when called, where it gives other shapes than it claims, or NaN or infinite values, or lacks an output.
    """

    def __init__(self, session: Session, name: str | None = None) -> None:
        self.session, self.info, self.device, self.shares = session, session.info, session.device, session.shares
        self.name = name or f"model {session.info.name}"

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs that are asked for: {name: (B, size)}."""
        self.refuse_missing(outputs)
        found = self.session.run(waveform, outputs)
        for output in outputs:
            self._check(output, found.get(output), (len(waveform), self.info.outputs[output]))
        return found

    def refuse_missing(self, outputs: Sequence[str]) -> None:
        """Raises a BundleError where the model does not give all of `outputs`."""
        for output in outputs:
            if output not in self.info.outputs:
                raise BundleError(
                    f"{self.name} gives no {output}: an earlier version exported it. Export it again from its checkpoint."
                )

    def _check(self, output: str, values: np.ndarray | None, shape: tuple[int, int]) -> None:
        if values is None or values.shape != shape:
            found = "none" if values is None else " × ".join(map(str, values.shape)) or "one number"
            raise BundleError(f"{self.name} gives {found} for {output}; {' × '.join(map(str, shape))} values are needed.")
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(1).sum())
            raise BundleError(
                f"{self.name} gives values that are no numbers (NaN or infinite) for {output} in {bad} of {len(values)} "
                "windows: its weights are damaged or its training failed; export it again from a good checkpoint."
            )


class Known(Session):
    """A session without the class for sounds of no other: of softmax scores, the others' shares of what is left."""

    def __init__(self, session: Session) -> None:
        info = session.info
        self.session, self.device = session, session.device
        self._kept = {head: [k for k, name in enumerate(names) if name != info.unknown] for head, names in info.labels.items()}
        labels = {head: [info.labels[head][k] for k in kept] for head, kept in self._kept.items()}
        thresholds = {head: [values[k] for k in self._kept[head]] for head, values in info.thresholds.items()}
        self.info = replace(info, labels=labels, thresholds=thresholds, unknown="", silence=0.0)

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs that are asked for: {name: (B, size)}."""
        found = self.session.run(waveform, outputs)
        return {output: values if output == EMBEDDING else self._shares(output, values) for output, values in found.items()}

    def _shares(self, head: str, scores: np.ndarray) -> np.ndarray:
        kept = scores[:, self._kept[head]]
        if self.info.activation == "sigmoid":
            return kept
        return kept / np.maximum(kept.sum(1, keepdims=True), 1e-30)


def checked(session: Session, name: str | None = None) -> Checked:
    """`session` with its outputs checked, once; `name` is what an error calls its model."""
    return session if isinstance(session, Checked) else Checked(session, name)


@dataclass(frozen=True)
class Runtime:
    """Where a runtime's code and packages are, and what it reads and writes."""

    module: str
    """In this package, with the session class; where there is a writer, in `audiorep.export` too."""
    session: str
    """The class."""
    package: str
    """What must be importable."""
    extra: str
    """Extra that installs it; empty: the base install has it."""
    opens: tuple[str, ...]
    """Suffixes of the files it runs; empty text: a checkpoint folder."""
    writes: str = ""
    """Suffix of the file that its `export` makes; empty: it makes none."""
    precisions: tuple[str, ...] = ("fp32",)
    """That it can run one file in."""
    exports: tuple[str, ...] = ("fp32",)
    """Precisions of the files that its `export` makes."""


SMALL = ("fp16", "int8", "int8_weights", "int4_weights", "shared8", "shared4")
"""Precisions of smaller files; but for int8, weights are decoded when the file is loaded."""

RUNTIMES: dict[str, Runtime] = {
    "onnx": Runtime("onnx", "OnnxSession", "onnxruntime", "", (".onnx",), ".onnx", exports=("fp32", *SMALL)),
    "torch": Runtime("torch", "TorchSession", "torch", "train", ("",), precisions=("fp32", "bf16")),
    "torch_compiled": Runtime("torch", "CompiledTorchSession", "torch", "train", ("",), precisions=("fp32", "bf16")),
    "openvino": Runtime(
        "openvino", "OpenVinoSession", "openvino", "openvino", (".xml", ".onnx"), ".xml", ("fp32", "bf16"), ("fp32", *SMALL)
    ),
    "litert": Runtime("litert", "LiteRtSession", "ai_edge_litert", "litert", (".tflite",), ".tflite", exports=("fp32", "int8")),
    "executorch": Runtime(
        "executorch", "ExecuTorchSession", "executorch", "executorch", (".pte",), ".pte", exports=("fp32", "int8")
    ),
    "coreml": Runtime("coreml", "CoreMlSession", "coremltools", "coreml", (".mlpackage",), ".mlpackage"),
}


def open_session(
    path: str | os.PathLike[str], runtime: str | None = None, threads: int | None = None, precision: str = "fp32"
) -> Checked:
    """The model in `path`, ready to run in `runtime`, by default the first that opens such a file.

    Args:
        path: a bundle or other exported file, a checkpoint folder, or a name in `shipped.SHIPPED`.
        runtime: a key of `RUNTIMES`.
        threads: processor threads, by default one a core.
        precision: of its arithmetic, where the runtime offers a choice when it opens a file.

    Raises:
        BundleError: a file that is no model of ours, or nothing there.
        CheckpointError: a folder that is no checkpoint.
        ConfigError: a runtime that does not open such files or lacks that precision.
        MissingExtraError: its packages are not installed.
    """
    path = _located(path, runtime)
    able = able_to_open(path)
    if runtime is None:
        runtime = able[0] if able else "onnx"  # which says what is wrong with the file
    elif runtime not in RUNTIMES:
        raise ConfigError(f"{runtime!r} is not a runtime; there are {', '.join(RUNTIMES)}.")
    elif runtime not in able and path.exists():
        kinds = " or ".join(kind or "a checkpoint folder" for kind in RUNTIMES[runtime].opens)
        raise ConfigError(f"{path}: the runtime {runtime} opens {kinds}. Make one with: audiorep export")
    row = RUNTIMES[runtime]
    if precision not in row.precisions:
        raise ConfigError(f"The runtime {runtime} runs a file in {' or '.join(row.precisions)}; {precision} was asked for.")
    if row.extra:
        require(row.package, row.extra)
    options: dict[str, Any] = {"precision": precision} if len(row.precisions) > 1 else {}
    module = importlib.import_module(f"{__name__}.{row.module}")
    return checked(getattr(module, row.session)(path, threads, **options), str(path))


def _located(path: str | os.PathLike[str], runtime: str | None) -> Path:
    """Where a model is: of one in the package the checkpoint folder, where the runtime opens such folders only, or the file."""
    folders_only = runtime in RUNTIMES and RUNTIMES[runtime].opens == ("",)
    return shipped.place(path) if folders_only else shipped.file_of(path)


def able_to_open(path: Path) -> list[str]:
    """The runtimes that open such a file, or a checkpoint folder; the first is taken where none is named."""
    suffix = "" if path.is_dir() and path.suffix != ".mlpackage" else path.suffix
    return [name for name, row in RUNTIMES.items() if suffix in row.opens]


def files_of(path: Path) -> list[Path]:
    """The files that a written model consists of."""
    if path.is_dir():
        return [file for file in path.rglob("*") if file.is_file()]
    return [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]


def fingerprint(path: Path) -> str:
    """The SHA-256 of the content of a written model."""
    found = hashlib.sha256()
    for file in sorted(files_of(path)):
        found.update(file.read_bytes())
    return found.hexdigest()


def existing(path: str | os.PathLike[str]) -> Path:
    """`path` if a file is there.

    Raises:
        BundleError: nothing is, or a folder.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; a model file is needed.")
    return path


@contextmanager
def running(path: Path) -> Iterator[None]:
    """A model while it runs: what its runtime raises becomes a sentence, for these share no base but `Exception`.

    Raises:
        BundleError: it fails.
    """
    try:
        yield
    except AudiorepError:
        raise
    except Exception as error:
        raise BundleError(
            f"{path} fails when it is run ({first_line(error)}). If its window was changed, take a longer one; "
            "otherwise export it again."
        ) from error


def in_slices(waveform: np.ndarray, run: Callable[[np.ndarray], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The outputs of a batch (B, N), a few windows in a call: the spectra of more spill out of a processor's cache."""
    step = max(1, SAMPLES_AT_ONCE // waveform.shape[1])
    if len(waveform) <= step:
        return run(waveform)
    parts = [run(waveform[first : first + step]) for first in range(0, len(waveform), step)]
    return {output: np.concatenate([part[output] for part in parts]) for output in parts[0]}


def cores() -> int | None:
    """Processor cores this process may use; None where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
