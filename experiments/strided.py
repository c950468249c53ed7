"""Measures what safe strided convolutions cost a training step on a CPU, against oneDNN's own strided operator.

    python experiments/strided.py

Both networks have the same weights and see the same sound, in turns. Only widths at which oneDNN's operator stays within
its bounds on any processor (16 input channels and more) can be compared. Writes `results/strided.json`.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from audiorep import models
from audiorep.benchmark.environment import environment
from audiorep.files import write_json
from audiorep.models.layers import SubsampledConv2d, channels_last
from audiorep.runtimes import timing

RESULT = Path(__file__).resolve().parent.parent / "results" / "strided.json"
INPUT = (16, 1, 250, 64)  # of the light front end's windows of 5 s
ROUNDS = 12


def main() -> None:
    """Measures three sizes and writes the result."""
    result = {name: measured(name) for name in ("arin_nano", "arin_small", "arin_base")}
    write_json(RESULT, {"command": "python experiments/strided.py", "result": result, "environment": environment()})
    for name, values in result.items():
        print(name, values)


def measured(name: str) -> dict[str, float]:
    """Seconds of a step, the median over rounds, and the median of the rounds' ratios of safe to plain."""
    torch.manual_seed(0)
    safe = channels_last(models.build(name, {"label": 50})).train()
    sound = torch.randn(INPUT).contiguous(memory_format=torch.channels_last)
    steps = [_step(_plain(safe), sound), _step(safe, sound)]
    plain_times, safe_times = timing.in_turns([timing.turn(step) for step in steps], ROUNDS)
    ratios = timing.ratios(safe_times, plain_times)
    return {
        "plain_seconds": timing.median(plain_times),
        "safe_seconds": timing.median(safe_times),
        "safe_over_plain": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def _plain(network: nn.Module) -> nn.Module:
    """A copy with oneDNN's strided operator."""
    made = copy.deepcopy(network)
    for module in made.modules():
        if isinstance(module, SubsampledConv2d):
            module.forward = nn.Conv2d.forward.__get__(module)  # type: ignore[method-assign]
    return made


def _step(network: nn.Module, sound: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(network.parameters())

    def run() -> None:
        loss: Tensor = network(sound)["label"].square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
