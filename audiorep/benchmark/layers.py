"""Where a network's time goes: each operator's share, by the runtime's own profiler."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiorep.benchmark.cases import Case, Plan, cases
from audiorep.benchmark.engines import UnavailableError
from audiorep.runtimes.onnx import session

CALLS = 30


@dataclass(frozen=True)
class Layer:
    """One operator as the runtime runs it, after its own fusions."""

    name: str
    kind: str
    milliseconds: float
    """Median over calls."""
    share: float
    """Its part of the time of all operators."""


def layers(case: Case, threads: int) -> list[Layer]:
    """The operators of a case in the order they run.

    Raises:
        UnavailableError: its runtime has no profile that can be read.
    """
    if case.runtime not in PROFILES:
        raise UnavailableError(f"{case.runtime} gives no times of its operators; {', '.join(PROFILES)} do")
    found = PROFILES[case.runtime](case.path, case.input, threads)
    medians = {key: 1e3 * float(np.median(seconds)) for key, seconds in found.items()}
    total = sum(medians.values()) or 1.0
    return [Layer(name, kind, value, value / total) for (name, kind), value in medians.items()]


@dataclass(frozen=True)
class Profile:
    """The operators of one case, or why they cannot be told apart."""

    title: str
    batch: int
    layers: list[Layer]
    missing: str = ""
    """Why there are none, or empty."""


def profiles(plan: Plan, threads: int, say: Callable[[str], None] = lambda text: None) -> Iterator[Profile]:
    """Each case of `plan`, operator by operator."""
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(plan, Path(folder), threads, None, say):
            title = f"{case.network}, {case.form}, {case.runtime}, {case.precision}"
            if not isinstance(case, Case):
                yield Profile(title, 0, [], case.reason)
                continue
            try:
                yield Profile(title, case.batch, layers(case, threads))
            except UnavailableError as error:
                yield Profile(title, case.batch, [], str(error))


def by_kind(found: list[Layer]) -> list[Layer]:
    """The same summed over operators of a kind, the most costly first."""
    sums: dict[str, list[Layer]] = defaultdict(list)
    for layer in found:
        sums[layer.kind].append(layer)
    rows = [
        Layer(f"{len(group)} operators", kind, sum(x.milliseconds for x in group), sum(x.share for x in group))
        for kind, group in sums.items()
    ]
    return sorted(rows, key=lambda layer: -layer.milliseconds)


Times = dict[tuple[str, str], list[float]]


def _eager(path: Path, values: np.ndarray, threads: int) -> Times:
    """Modules without children, by hooks."""
    import torch

    torch.set_num_threads(threads)
    network = torch.load(path, weights_only=False)  # a file of our own, from this very run
    found: Times = defaultdict(list)
    started: dict[str, float] = {}

    def before(name: str) -> Callable[..., None]:
        return lambda *given: started.update({name: time.perf_counter()})

    def after(name: str, kind: str) -> Callable[..., None]:
        return lambda *given: found[name, kind].append(time.perf_counter() - started[name])

    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_pre_hook(before(name))
            module.register_forward_hook(after(name, type(module).__name__))
    with torch.inference_mode():
        for _ in range(CALLS):
            network(torch.from_numpy(values))
    return found


def _onnx(path: Path, values: np.ndarray, threads: int) -> Times:
    ready = session(path, threads, profile=str(path.with_suffix("")))
    for _ in range(CALLS):
        ready.run(None, {"given": values})
    profile = Path(ready.end_profiling())
    events = json.loads(profile.read_text())
    profile.unlink()
    found: Times = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            found[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(event["dur"] / 1e6)
    return found


def _openvino(path: Path, values: np.ndarray, threads: int) -> Times:
    from audiorep.runtimes.openvino import core

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
    settings["INFERENCE_PRECISION_HINT"] = "f32"  # otherwise a processor with bf16 uses it
    request = core().compile_model(core().read_model(path), "CPU", settings).create_infer_request()
    found: Times = defaultdict(list)
    for _ in range(CALLS):
        request.infer([values])
        for entry in request.profiling_info:
            if entry.real_time.total_seconds() > 0:
                found[entry.node_name, entry.node_type].append(entry.real_time.total_seconds())
    return found


PROFILES: dict[str, Callable[[Path, np.ndarray, int], Times]] = {"eager": _eager, "onnx": _onnx, "openvino": _openvino}
