"""ONNX Runtime, the default: export a checkpoint to the one-file bundle, and run it on whatever the machine has."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from audiorep.bundle import ModelInfo
from audiorep.errors import BundleError, require
from audiorep.files import replacing
from audiorep.runtimes.check import Parity, accept

if TYPE_CHECKING:
    from audiorep.checkpoint import Checkpoint


class OnnxSession:
    """A bundle ready to run: (B, N) float32 at `info.sample_rate` to {head: scores (B, K)}.

    Raises:
        BundleError: the file is missing, not ONNX, or not an audiorep bundle.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        path = Path(path)
        if not path.is_file():
            raise BundleError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; a model file (.onnx) is needed.")
        options = onnxruntime.SessionOptions()
        if threads or hasattr(os, "sched_getaffinity"):  # elsewhere ONNX Runtime counts the cores itself
            options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        providers = [
            name for name in onnxruntime.get_available_providers() if name != "AzureExecutionProvider"
        ]  # that one is remote
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions share no base but this one
            raise BundleError(f"{path} is not a model that ONNX Runtime reads ({_first_line(error)}).") from None
        self.info = ModelInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map, path)
        self.device = (
            f"ONNX Runtime {onnxruntime.__version__}, {self._session.get_providers()[0].removesuffix('ExecutionProvider')}"
        )
        self._check_graph(path)

    def __call__(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of each head for each waveform of the batch."""
        heads = list(self.info.labels)
        return dict(zip(heads, self._session.run(heads, {"waveform": waveform}), strict=True))

    def _check_graph(self, path: Path) -> None:
        inputs = [node.name for node in self._session.get_inputs()]
        outputs = {node.name: node.shape[-1] for node in self._session.get_outputs()}
        expected = {head: len(names) for head, names in self.info.labels.items()}
        if inputs != ["waveform"] or any(outputs.get(head) != size for head, size in expected.items()):
            raise BundleError(f"{path}: its graph takes {inputs} and gives {outputs}; waveform and {expected} are needed.")


def export(model: Checkpoint, path: str | os.PathLike[str], clips: Sequence[np.ndarray]) -> Parity:
    """Writes `model` to `path` as one self-describing `.onnx`, waveform in and scores out, and checks it on `clips`.

    The network is fused, the front end is inside as matrix products, and batch and length are dynamic. `clips` are (N,)
    float32 waveforms at the model's rate. The file appears only after its scores agree with the checkpoint's.

    Raises:
        BundleError: a score differs by more than PARITY_LIMIT.
        MissingExtraError: torch or onnx is not installed.
    """
    path = Path(path)
    with replacing(path) as partial:
        _write(model, partial)
        return accept(model, OnnxSession(partial), clips, path)


def _write(model: Checkpoint, path: Path) -> None:
    torch = require("torch", extra="train")
    from audiorep.runtimes.torch import Pipeline

    pipeline = Pipeline(model.front_end.exportable(), model.fuse().model, model.info).eval()
    example = torch.zeros(2, model.info.window_samples)
    shapes = {"waveform": {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples")}}
    proto = to_onnx(pipeline, (example,), list(model.info.labels), input_names=["waveform"], dynamic_shapes=shapes)
    for key, value in model.info.to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())


def to_onnx(network: Any, args: tuple[Any, ...] | None, outputs: list[str], **more: Any) -> Any:
    """The ONNX model of a torch module or exported program, without traces of the machine it was made on.

    Raises:
        MissingExtraError: torch or onnxscript is not installed.
    """
    torch, _ = require("torch", extra="train"), require("onnxscript", extra="train")
    with _quiet():
        program = torch.onnx.export(network, args or (), dynamo=True, output_names=outputs, verbose=False, **more)
    proto = program.model_proto  # made anew at every look
    _strip(proto)
    return proto


def _strip(proto: Any) -> None:
    """Removes the exporter's notes, which hold stack traces with the paths of the exporting machine."""
    graph = proto.graph
    for noted in (proto, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del noted.metadata_props[:]
        noted.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk of its own deprecations and of torchvision, which no user can act on."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200].rstrip(".")
