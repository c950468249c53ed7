"""Which runtimes this machine has, what each would run on, and what to type for the rest."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from audiorep.errors import first_line
from audiorep.runtimes import RUNTIMES, cores

DISTRIBUTIONS = {"ai_edge_litert": "ai-edge-litert"}  # where a package to import and one to install differ in name


@dataclass(frozen=True)
class InstalledRuntime:
    """What this machine has of one runtime."""

    name: str
    version: str
    """Empty: not installed."""
    hardware: str
    """What it would use, or why it cannot be asked."""
    precisions: str
    install: str
    """The command that brings it; empty where it is here."""


def runtimes() -> list[InstalledRuntime]:
    """What this machine has of every runtime."""
    rows = []
    for name, row in RUNTIMES.items():
        if importlib.util.find_spec(row.package) is None:
            rows.append(InstalledRuntime(name, "", "", ", ".join(row.precisions), f"pip install 'audiorep[{row.extra}]'"))
            continue
        try:
            hardware = HARDWARE[name]()
        except Exception as error:  # a broken installation raises nearly every kind, and the others are still of use
            hardware = f"broken: {first_line(error)}"
        rows.append(InstalledRuntime(name, _version(row.package), hardware, ", ".join(row.precisions), ""))
    return rows


def _version(package: str) -> str:
    try:
        return version(DISTRIBUTIONS.get(package, package))
    except PackageNotFoundError:
        return "unknown version"


def _onnx() -> str:
    import onnxruntime

    names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return ", ".join(name for name in names if name != "Azure") + f", {cores()} cores"


def _torch() -> str:
    import torch

    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return f"CPU ({torch.backends.cpu.get_cpu_capability()}), {cores()} cores"


def _openvino() -> str:
    from audiorep.runtimes.openvino import core

    devices = [f"{name}: {core().get_property(name, 'FULL_DEVICE_NAME').strip()}" for name in core().available_devices]
    able = [
        name.lower() for name in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") if name in ("BF16", "FP16", "INT8")
    ]
    return "; ".join(devices) + f" ({', '.join(able)})"


def _mobile() -> str:
    return f"CPU (XNNPACK), {cores()} cores"


def _coreml() -> str:
    import platform

    return "CPU, GPU and Neural Engine" if platform.system() == "Darwin" else "writes files; they run on a Mac or iPhone"


HARDWARE: dict[str, Callable[[], str]] = {
    "onnx": _onnx,
    "torch": _torch,
    "torch_compiled": _torch,
    "openvino": _openvino,
    "litert": _mobile,
    "executorch": _mobile,
    "coreml": _coreml,
}
