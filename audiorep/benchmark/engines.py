"""A network made ready in each runtime, alone: what a benchmark times."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiorep.errors import ConfigError, require
from audiorep.export.onnx import exported_once, name_log_mel, to_onnx
from audiorep.runtimes.onnx import session

if TYPE_CHECKING:  # a process that measures the memory of another runtime must not load torch
    from torch import Tensor, nn


COMPARED = 32  # inputs that the settings of int8 are compared on


@dataclass(frozen=True)
class Job:
    """What is to be made ready."""

    network: nn.Module
    """In evaluation mode: (B, …) to {name: (B, size)} of its outputs."""
    example: Tensor
    """(1, …): a window of sound, or its log-mel."""
    outputs: list[str]
    precision: str
    threads: int
    folder: Path
    """Where its files may lie; empty and its own."""
    calibration: list[np.ndarray]
    """Inputs (1, …) to measure the ranges of activations on, for int8."""
    start: str | None
    """The name of the value at which the network begins and int8 may; None: there is no front end before it."""


class UnavailableError(ConfigError):
    """A runtime or precision that this machine, or this network, cannot have; a row says so and the others are measured."""


def write(runtime: str, job: Job) -> Path:
    """The file of `job` for the runtime of that name, which `load` takes.

    Raises:
        UnavailableError: it cannot run here in that precision.
        MissingExtraError: the runtime is not installed.
    """
    if job.precision not in PRECISIONS[runtime]:
        raise UnavailableError(f"{runtime} has no {job.precision} here")
    if runtime == "openvino" and job.precision == "bf16":
        from audiorep.runtimes.openvino import core

        if "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UnavailableError("this processor has no bf16")
    return ENGINES[runtime][0](job)


def load(runtime: str, path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Any]:
    """What `write` wrote, ready to run: (B, …) to its outputs, waited for."""
    return ENGINES[runtime][1](path, precision, threads)


def _write_torch(job: Job) -> Path:
    import torch

    path = job.folder / "network.pt"
    torch.save(job.network, path)
    return path


def _load_eager(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Any]:
    import torch

    return _torch_call(torch.load(path, weights_only=False), precision, threads)  # a file of our own, from this very run


def _load_channels_last(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Any]:
    import torch

    from audiorep.models.layers import channels_last

    network = torch.load(path, weights_only=False)
    return _torch_call(channels_last(network), precision, threads)


def _load_compiled(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Any]:
    import torch

    from audiorep.models.layers import channels_last

    network = channels_last(torch.load(path, weights_only=False))
    mode = "reduce-overhead" if torch.cuda.is_available() else "default"  # CUDA graphs
    return _torch_call(torch.compile(network, mode=mode, dynamic=False), precision, threads)


def _torch_call(network: Any, precision: str, threads: int) -> Callable[[np.ndarray], Any]:
    import torch

    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device)

    def run(values: np.ndarray) -> Any:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = network(torch.from_numpy(values).to(device))
        return {head: scores.float().cpu() for head, scores in found.items()}  # which waits for a GPU

    return run


def _write_onnx(job: Job) -> Path:
    path = job.folder / "network.onnx"
    content = exported_once(job.network, ("given", job.start), lambda: _exported(job))
    path.write_bytes(_quantized(content, job) if job.precision == "int8" else content)
    return path


def _exported(job: Job) -> Any:
    """The ONNX model of the network alone."""
    import torch

    pair = torch.cat([job.example, job.example])
    name = next(iter(_input_names(job.network)))
    shape = {0: torch.export.Dim("batch")}
    proto = to_onnx(copy.deepcopy(job.network).cpu(), (pair,), job.outputs, input_names=["given"], dynamic_shapes={name: shape})
    if job.start:
        name_log_mel(proto)
    return proto


def _input_names(network: nn.Module) -> list[str]:
    import inspect

    return list(inspect.signature(network.forward).parameters)


def _quantized(content: bytes, job: Job) -> bytes:
    """The network in int8, as an export of it would be."""
    from audiorep.export.precision import Quantizer, best, nearness

    clips = [values[0] for values in job.calibration]
    quantizer = Quantizer(content, clips, job.start)
    return quantizer.make(best(quantizer, nearness(content, clips[:COMPARED])))


def _load_onnx(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Any]:
    ready = session(path, threads)
    return lambda values: ready.run(None, {"given": values})


def _write_openvino(job: Job) -> Path:
    openvino = require("openvino", extra="openvino")
    from audiorep.export.openvino import front_end_of, quantized
    from audiorep.runtimes.openvino import core

    source = _write_onnx(Job(**{**vars(job), "precision": "fp32"}))
    model = core().read_model(source)
    source.unlink()
    if job.precision == "int8":
        model = quantized(model, job.calibration, front_end_of(model) if job.start else [])
    path = job.folder / "network.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def _load_openvino(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Any]:
    from audiorep.runtimes.openvino import core

    hint = "bf16" if precision == "bf16" else "f32"
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint}
    request = core().compile_model(core().read_model(path), "CPU", settings).create_infer_request()
    return lambda values: request.infer([values])


ENGINES: dict[str, tuple[Callable[[Job], Path], Callable[[Path, str, int], Callable[[np.ndarray], Any]]]] = {
    "eager": (_write_torch, _load_eager),
    "channels_last": (_write_torch, _load_channels_last),
    "compiled": (_write_torch, _load_compiled),
    "onnx": (_write_onnx, _load_onnx),
    "openvino": (_write_openvino, _load_openvino),
}
"""(how its file is written, how it is loaded) by name."""
TORCH = tuple(name for name, (writes, _) in ENGINES.items() if writes is _write_torch)
"""Those that are PyTorch."""
PRECISIONS = {
    "eager": ("fp32", "bf16"),
    "channels_last": ("fp32", "bf16"),
    "compiled": ("fp32", "bf16"),
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
