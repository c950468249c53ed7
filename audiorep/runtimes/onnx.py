"""ONNX Runtime, the default: export a checkpoint to the one-file bundle, and run it on whatever the machine has."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from audiorep.bundle import ModelInfo
from audiorep.errors import BundleError, require
from audiorep.files import replacing
from audiorep.runtimes import cores, existing
from audiorep.runtimes.check import Parity, accept

if TYPE_CHECKING:
    from audiorep.checkpoint import Checkpoint


LOG_MEL = "log_mel"
"""The name, in a bundle's graph, of what the front end gives and the network takes."""


class OnnxSession:
    """A bundle ready to run: (B, N) float32 at `info.sample_rate` to {head: scores (B, K)}.

    Raises:
        BundleError: the file is missing, not ONNX, or not an audiorep bundle.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        path = existing(path)
        providers = [
            name for name in onnxruntime.get_available_providers() if name != "AzureExecutionProvider"
        ]  # that one is remote
        try:
            self._session = onnxruntime.InferenceSession(path, _options(threads), providers=providers)
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

    The network is fused, the front end is inside as matrix products, in the form that is fastest here, and batch and length
    are dynamic. `clips` are (N,) float32 waveforms at the model's rate. The file appears only after its scores agree with
    the checkpoint's.

    Raises:
        BundleError: a score differs by more than `check.PARITY_LIMIT`.
        MissingExtraError: torch or onnx is not installed.
    """
    path = Path(path)
    with replacing(path) as partial:
        bundle(model, partial, fastest_form)
        return accept(model, OnnxSession(partial), clips, path)


def bundle(model: Checkpoint, path: Path, choose: Callable[[dict[str, bytes], np.ndarray], str]) -> None:
    """Writes the unchecked bundle, with the front end's form that `choose` takes of several as ONNX, for one window (1, N)."""
    torch = require("torch", extra="train")
    from audiorep.runtimes.torch import Pipeline

    info = model.info
    noise = np.random.default_rng(0).standard_normal((1, info.window_samples)).astype(np.float32)
    form = choose(_front_ends(model), 0.1 * noise)
    info = replace(info, provenance={**info.provenance, "front_end_form": form})
    pipeline = Pipeline(model.front_end.exportable(form), model.fuse().model, info).eval()
    example = torch.zeros(2, info.window_samples)
    proto = to_onnx(pipeline, (example,), list(info.labels), **_waveform_shapes())
    _name_log_mel(proto)
    for key, value in info.to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())


def fastest_form(candidates: dict[str, bytes], waveform: np.ndarray) -> str:
    """Which of several front ends, as ONNX, ONNX Runtime runs fastest on `waveform` (1, N)."""
    sessions = {form: onnxruntime.InferenceSession(content, _options(None)) for form, content in candidates.items()}
    return fastest({form: lambda s=s: s.run(None, {"waveform": waveform}) for form, s in sessions.items()})  # type: ignore[misc]


def fastest(calls: Mapping[str, Callable[[], object]], rounds: int = 15) -> str:
    """The name of the call whose best time is shortest; they take turns, so that a busy machine hurts all alike."""
    if len(calls) == 1:
        return next(iter(calls))
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return min(best, key=best.__getitem__)


def _front_ends(model: Checkpoint) -> dict[str, bytes]:
    """Each form of the front end alone, as ONNX."""
    import torch

    from audiorep.frontend import forms

    names, example = forms(model.front_end.config), torch.zeros(2, model.info.window_samples)
    made = {form: model.front_end.exportable(form).eval() for form in names}
    return {
        form: to_onnx(front_end, (example,), [LOG_MEL], **_waveform_shapes()).SerializeToString()
        for form, front_end in made.items()
    }


def _waveform_shapes() -> dict[str, Any]:
    import torch

    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples")}
    return {"input_names": ["waveform"], "dynamic_shapes": {"waveform": shape}}


def _name_log_mel(proto: Any) -> None:
    """Gives the front end's last value a name, by which others find where the network begins."""
    last = next(node for node in proto.graph.node if node.op_type == "Log").output[0]
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == last:
                    names[place] = LOG_MEL
    for value in proto.graph.value_info:
        if value.name == last:
            value.name = LOG_MEL


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


def _options(threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores() or 0  # left alone, it counts those this process may not use too
    options.log_severity_level = 3
    return options


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
