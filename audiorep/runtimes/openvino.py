"""OpenVINO: export a checkpoint to its IR, in float32 or int8, and run that or a bundle on the devices it finds."""

from __future__ import annotations

import functools
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep.bundle import PREFIX, ModelInfo
from audiorep.errors import BundleError, ConfigError, first_line, require
from audiorep.foreign import brief
from audiorep.runtimes import cores, existing, in_slices, pair, running, sealed
from audiorep.runtimes.check import Parity, first_accepted
from audiorep.runtimes.onnx import LOG_MEL, bundle, fastest_first
from audiorep.runtimes.small import named, stored

if TYPE_CHECKING:
    from audiorep.checkpoint import Checkpoint

SECTION = "audiorep"  # of the IR's run-time information, where the metadata is kept
READERS_SECTION = "framework"  # where OpenVINO keeps an ONNX file's metadata


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


WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")


class OpenVinoSession:
    """An IR (.xml beside its .bin) or a bundle (.onnx) ready to run: (B, N) float32 to {head: scores (B, K)}.

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
            metadata = _metadata(model, SECTION)
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

    def __call__(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of each head for each waveform of the batch."""
        return in_slices(waveform, self._run)

    def _run(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        values = waveform
        with running(self._path):
            for request in self._requests[:-1]:
                values = request.infer([values])[0]
            scores = self._requests[-1].infer([values])
            return {head: np.array(scores[head]) for head in self.info.labels}


def export(
    model: Checkpoint,
    path: str | os.PathLike[str],
    clips: Sequence[np.ndarray],
    precision: str = "fp32",
    calibration: Sequence[np.ndarray] = (),
    control: Control | None = None,
) -> Parity:
    """Writes `model` to `path` as OpenVINO's IR (.xml, and .bin beside it) and checks it on `clips`, (N,) waveforms.

    int8 is static: weights by channel, activations by the ranges seen on the `calibration` waveforms. The other forms of
    `compress.weights.KINDS` only store weights in fewer bytes, and compute in float32. The front end is left in float32. With
    `control`, int8 layers go back to float32 one by one until no more accuracy is lost than allowed.

    Raises:
        BundleError: its scores are not the checkpoint's (see `check.Parity.refusal`), or no calibration clips for int8.
        MissingExtraError: torch, openvino or, for int8, nncf is not installed.
    """
    require("openvino", extra="openvino")
    path = Path(path)
    fused = model.fuse().model
    told = model if precision == "fp32" else replace(model, info=model.info.in_precision(precision))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.xml"

        def attempts() -> Iterator[OpenVinoSession]:
            for form in fastest_first(model, _runs):
                content = bundle(told, fused, form)
                converted = core().read_model(_in_precision(content, precision))
                if precision == "int8":
                    front_end = [node.get_friendly_name() for node in _above(_log_mel(converted))]
                    converted = quantized(converted, [clip[None] for clip in calibration], front_end, control)
                for key, value in _metadata(converted, READERS_SECTION).items():
                    converted.set_rt_info(value, [SECTION, key.removeprefix(PREFIX)])
                _save(converted, made)
                yield OpenVinoSession(made)

        parity = first_accepted(model, attempts(), clips, path, precision)
        pair.move(made, path)
    return parity


def _save(converted: Any, made: Path) -> None:
    try:
        require("openvino", extra="openvino").save_model(converted, made, compress_to_fp16=False)
    except RuntimeError as error:
        raise BundleError(
            f"OpenVINO cannot write a model to {made.parent} ({first_line(error)}). Is there room left?"
        ) from None


def _in_precision(content: bytes, precision: str) -> bytes:
    """What is converted: for int8 with layers named by their weights."""
    if precision == "int8":
        return named(content)
    return content if precision == "fp32" else stored(content, precision)


def _runs(content: bytes) -> Callable[[np.ndarray], object]:
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}  # as it will run
    request = core().compile_model(core().read_model(content), "CPU", settings).create_infer_request()
    return lambda waveform: request.infer([waveform])


def _parts(model: Any, precision: str) -> list[tuple[Any, str]]:
    """The model to compile with its precision, for bf16 as front end and network."""
    if precision != "bf16":
        return [(model, "f32")]
    openvino = require("openvino", extra="openvino")
    log_mel = _log_mel(model)
    results, (waveform,) = model.get_results(), model.get_parameters()
    front_end = openvino.Model([log_mel], [waveform])
    network = model.clone()
    inside = _log_mel(network)
    given = openvino.opset13.parameter(log_mel.get_partial_shape(), np.float32, "log_mel")
    for target in inside.get_target_inputs():
        target.replace_source_output(given.output(0))
    assert len(results) == len(network.get_results())
    return [(front_end, "f32"), (openvino.Model(network.get_results(), [given]), "bf16")]


def _log_mel(model: Any) -> Any:
    """The output at which the front end ends."""
    for node in model.get_ordered_ops():
        for output in node.outputs():
            if LOG_MEL in output.get_names():
                return output
    raise BundleError("The model does not say where its front end ends. Export it again.")


@dataclass(frozen=True)
class Control:
    """How NNCF tells what int8 costs, and how much it may."""

    clips: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]]
    """(waveform (1, N), {head: (K,) of 0 and 1}) of each clip."""
    loss: float
    """Share of these clips that may be lost."""
    left: tuple[str, ...] = ()
    """Layers that stay in float32 in any case, by the names of their weights."""

    def accuracy(self, compiled: Any, clips: Any) -> tuple[float, list[float]]:
        """The share, over clips and heads, of best classes that are right, and each clip's."""
        right = []
        for waveform, classes in clips:
            found = compiled([waveform])
            right.append(float(np.mean([values[found[head].argmax()] for head, values in classes.items()])))
        return float(np.mean(right)), right


def quantized(model: Any, calibration: Sequence[np.ndarray], left: Sequence[str], control: Control | None = None) -> Any:
    """The model in int8 but for the operators named in `left`, by the ranges it sees on the inputs (1, …) of `calibration`.

    With `control`, layers go back to float32 until no more accuracy is lost than it allows.

    Raises:
        BundleError: there are none.
        ConfigError: `control` leaves a layer that there is not.
        MissingExtraError: nncf is not installed.
    """
    if not calibration:
        raise BundleError("int8 needs clips to measure the ranges of activations on; give some with --calibration.")
    nncf = require("nncf", extra="openvino")
    layers = _layers(model, left)
    if control and (unknown := [name for name in control.left if name not in layers]):
        raise ConfigError(f"There is no layer {', '.join(unknown)}; the layers are {', '.join(layers)}.")
    data = nncf.Dataset(list(calibration))
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # it draws bars
        warnings.simplefilter("ignore")
        nncf.set_log_level(logging.ERROR)
        patterns = [f"{re.escape(name)}(/.*)?" for name in (control.left if control else ())]
        settings = {
            "preset": nncf.QuantizationPreset.MIXED,
            "subset_size": len(calibration),
            "ignored_scope": nncf.IgnoredScope(names=list(left), patterns=patterns, validate=False),
        }
        if control is None:
            return nncf.quantize(model, data, **settings)
        return nncf.quantize_with_accuracy_control(
            model, data, nncf.Dataset(list(control.clips)), control.accuracy, max_drop=control.loss, **settings
        )


def _layers(model: Any, left: Sequence[str]) -> list[str]:
    """The names of the operators that have weights, those in `left` apart."""
    found = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in WEIGHTED]
    return list(dict.fromkeys(name.partition("/")[0] for name in found if name not in left))


def _above(output: Any) -> list[Any]:
    """The operators that an output is computed by."""
    found: dict[str, Any] = {}
    waiting = [output.get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() not in found:
            found[node.get_friendly_name()] = node
            waiting += [source.get_source_output().get_node() for source in node.inputs()]
    return list(found.values())


def _check_graph(model: Any, info: ModelInfo, path: Path) -> None:
    """Refuses a graph that does not take and give what its metadata says."""
    inputs = {name: _shape(node) for node in model.inputs for name in node.get_names()}
    outputs = {name: _shape(node)[-1:] for node in model.outputs for name in node.get_names()}
    expected = {head: [len(names)] for head, names in info.labels.items()}
    waveform = len(model.inputs) == 1 and len(inputs.get("waveform", ())) == 2
    if not waveform or any(outputs.get(head) != size for head, size in expected.items()):
        raise BundleError(
            f"{path}: its graph takes {brief(inputs)} and gives {brief(outputs)}; waveform of 2 axes and {brief(expected)} are "
            "needed. Export the model again."
        )


def _shape(node: Any) -> list[int]:
    """The sizes of an input or output, -1 where they are free; nothing where their number is."""
    shape = node.get_partial_shape()
    return [-1 if size.is_dynamic else size.get_length() for size in shape] if shape.rank.is_static else []


def _metadata(model: Any, section: str) -> dict[str, str]:
    if not model.has_rt_info([section]):
        return {}
    values = model.get_rt_info([section]).astype(dict)
    prefix = "" if section == READERS_SECTION else PREFIX
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
