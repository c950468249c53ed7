"""Run an IR or a bundle with OpenVINO on the devices that it finds."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.errors import BundleError, ConfigError, require
from audiorep.info.model_info import PREFIX, ModelInfo
from audiorep.runtimes import Session, cores, existing, in_slices, pair, running, sealed
from audiorep.runtimes.onnx import LOG_MEL
from audiorep.untrusted import brief

SECTION = "audiorep"  # of the IR's run-time information, where the metadata is kept


@functools.cache
def core() -> Any:
    """The one OpenVINO of this process.

    Its CPU plugin gives the thread a signal stack of its own, and when it ends puts back the one it found. Of two that do not
    end in reverse order the later leaves a stack that is gone, and the next signal, as of Ctrl-C or a finished worker, ends
    the process with a segmentation fault.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    return require("openvino", extra="openvino").Core()


class OpenVinoSession(Session):
    """An IR (.xml beside its .bin) or a bundle (.onnx) ready to run: (B, N) float32 to scores and embeddings.

    In bf16 the log-mel stays in float32, since half precision would lose quiet bands.

    Raises:
        BundleError: the file is missing, not a model that OpenVINO reads, or not an audiorep model.
        ConfigError: bf16 on a processor without it.
        MissingExtraError: openvino is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None, precision: str = "fp32") -> None:
        openvino = require("openvino", extra="openvino")
        self._path = path = existing(path)
        onnx = path.suffix == ".onnx"
        told = sealed.information(path.read_bytes(), path) if onnx else None  # before a damaged graph can do harm
        if path.suffix == ".xml":
            pair.check(path)
        with _readable(path):
            model = core().read_model(path)
            metadata = metadata_of(model)
        self.info = ModelInfo.from_metadata(metadata, path) if told is None else told
        _check_graph(model, self.info, path)
        if precision == "bf16" and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ConfigError(f"This processor ({_name()}) has no bf16; run the model in fp32.")
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads or cores() or 0}
        with _readable(path):
            self._stages = [
                core().compile_model(part, "CPU", {**settings, "INFERENCE_PRECISION_HINT": hint})
                for part, hint in _parts(model, precision)
            ]
        self._requests = [stage.create_infer_request() for stage in self._stages]
        self.device = f"OpenVINO {openvino.__version__.partition('-')[0]}, {_name()}, {precision}"

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs that are asked for: {name: (B, size)}."""
        return in_slices(waveform, partial(self._run, outputs=outputs))

    def _run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        values = waveform
        with running(self._path):
            for request in self._requests[:-1]:
                values = request.infer([values])[0]
            found = self._requests[-1].infer([values])
            return {output: np.array(found[output]) for output in outputs}


def _parts(model: Any, precision: str) -> list[tuple[Any, str]]:
    """The model to compile with its precision, for bf16 as front end and network."""
    if precision != "bf16":
        return [(model, "f32")]
    openvino = require("openvino", extra="openvino")
    log_mel = log_mel_of(model)
    results, (waveform,) = model.get_results(), model.get_parameters()
    front_end = openvino.Model([log_mel], [waveform])
    network = model.clone()
    inside = log_mel_of(network)
    given = openvino.opset13.parameter(log_mel.get_partial_shape(), np.float32, "log_mel")
    for target in inside.get_target_inputs():
        target.replace_source_output(given.output(0))
    assert len(results) == len(network.get_results())
    return [(front_end, "f32"), (openvino.Model(network.get_results(), [given]), "bf16")]


def log_mel_of(model: Any) -> Any:
    """The output at which the front end ends."""
    for node in model.get_ordered_ops():
        for output in node.outputs():
            if LOG_MEL in output.get_names():
                return output
    raise BundleError("The model does not say where its front end ends. Export it again.")


def _check_graph(model: Any, info: ModelInfo, path: Path) -> None:
    """Refuses a graph that does not take and give what its metadata says."""
    inputs = {name: _shape(node) for node in model.inputs for name in node.get_names()}
    outputs = {name: _shape(node)[-1:] for node in model.outputs for name in node.get_names()}
    expected = {name: [size] for name, size in info.outputs.items()}
    waveform = len(model.inputs) == 1 and len(inputs.get("waveform", ())) == 2
    if not waveform or any(outputs.get(name) != size for name, size in expected.items()):
        raise BundleError(
            f"{path}: its graph takes {brief(inputs)} and gives {brief(outputs)}; waveform of 2 axes and {brief(expected)} are "
            "needed. Export the model again."
        )


def _shape(node: Any) -> list[int]:
    """The sizes of an input or output, -1 where they are free; nothing where their number is."""
    shape = node.get_partial_shape()
    return [-1 if size.is_dynamic else size.get_length() for size in shape] if shape.rank.is_static else []


def metadata_of(model: Any, section: str = SECTION, prefix: str = PREFIX) -> dict[str, str]:
    """The metadata that a graph keeps in a section of its run-time information, each key behind `prefix`."""
    if not model.has_rt_info([section]):
        return {}
    values = model.get_rt_info([section]).astype(dict)
    return {f"{prefix}{key}": _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


def _name() -> str:
    return str(core().get_property("CPU", "FULL_DEVICE_NAME")).strip()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        missing = " (its weights belong beside it, in a .bin of the same name)" if path.suffix == ".xml" else ""
        last = [line for line in str(error).splitlines() if line.strip()][-1].strip()[:160].rstrip(".")
        raise BundleError(f"{path} is not a model that OpenVINO reads{missing}: {last}.") from None
