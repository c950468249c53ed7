"""The machine and the versions that a measurement was made with."""

from __future__ import annotations

import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import audiorep

PACKAGES = (
    "numpy onnxruntime torch openvino nncf ai-edge-litert litert-torch executorch lightning librosa soundfile soxr transformers"
)
INSTRUCTIONS = "avx2 avx512f avx512_vnni avx_vnni avx512_bf16 amx_bf16 amx_int8 asimd asimddp bf16 i8mm sve"


def environment(threads: int | None = None) -> dict[str, Any]:
    """Processor, its instructions that matter to networks, threads, system and the versions of what ran."""
    from audiorep.runtimes import cores

    about = _cpu()
    flags = set(about.get("flags", about.get("Features", "")).split())
    return {
        "processor": about.get("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in INSTRUCTIONS.split() if name in flags],
        "cores": cores(),
        "threads": threads or cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "audiorep": audiorep.__version__,
        "packages": {name: found for name in PACKAGES.split() if (found := _version(name))},
        "gpu": _gpu(),
        "date": date.today().isoformat(),
    }


def in_words(values: dict[str, Any]) -> str:
    """The same in a sentence."""
    packages = ", ".join(f"{name} {found}" for name, found in values["packages"].items())
    gpu = f", {values['gpu']}" if values["gpu"] else ""
    return (
        f"{', '.join([values['processor'] + gpu, str(values['threads']) + ' threads', *values['instructions']])}; "
        f"Python {values['python']}, {packages}; {values['date']}"
    )


def peak_memory_mb() -> float:
    """The most memory this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts what a parent held before it started this program in the other number
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 1e3
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if platform.system() == "Darwin" else 1e3)


def _cpu() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.partition(":") for line in lines if ":" in line]
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _gpu() -> str:
    if not _version("torch") or not Path("/dev/nvidia0").exists():
        return ""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
