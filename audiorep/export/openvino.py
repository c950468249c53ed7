"""Write a checkpoint as OpenVINO's IR, in float32 or int8."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep.errors import BundleError, ConfigError, first_line, require
from audiorep.export.onnx import bundle
from audiorep.export.parity import Parity, first_accepted
from audiorep.export.precision import named, stored
from audiorep.info.model_info import PREFIX
from audiorep.runtimes import pair
from audiorep.runtimes.openvino import SECTION, OpenVinoSession, core, log_mel_of, metadata_of

if TYPE_CHECKING:
    from audiorep.models.checkpoint import Checkpoint

READERS_SECTION = "framework"  # where OpenVINO keeps an ONNX file's metadata


WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")


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
    `weights.KINDS` only store weights in fewer bytes, and compute in float32. The front end is left in float32. With
    `control`, int8 layers go back to float32 one by one until no more accuracy is lost than allowed.

    Raises:
        BundleError: its scores are not the checkpoint's (see `parity.Parity.refusal`), or no calibration clips for int8.
        MissingExtraError: torch, openvino or, for int8, nncf is not installed.
    """
    require("torch", extra="train"), require("openvino", extra="openvino")
    from audiorep.models.front_end import forms

    path = Path(path)
    fused = model.fuse().model
    told = model if precision == "fp32" else replace(model, info=model.info.with_precision(precision))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.xml"

        def attempts() -> Iterator[OpenVinoSession]:
            for form in forms(model.front_end.config):
                content = bundle(told, fused, form)
                converted = core().read_model(_in_precision(content, precision))
                if precision == "int8":
                    converted = quantized(converted, [clip[None] for clip in calibration], front_end_of(converted), control)
                for key, value in metadata_of(converted, READERS_SECTION, prefix="").items():
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


def front_end_of(model: Any) -> list[str]:
    """The names of the operators of a model's front end."""
    return list(ancestors(log_mel_of(model)))


def ancestors(output: Any) -> dict[str, Any]:
    """The operators that an output is computed by, by their names."""
    found: dict[str, Any] = {}
    waiting = [output.get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() not in found:
            found[node.get_friendly_name()] = node
            waiting += [source.get_source_output().get_node() for source in node.inputs()]
    return found
