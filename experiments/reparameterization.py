"""What merging saves: operations, parameters, MACs and latency of networks before and after, side by side in one run.

    make .venv/networks/installed
    PYTHONPATH=.venv/networks python experiments/reparameterization.py

Each network is timed as it is and merged, in eager PyTorch and in ONNX Runtime, in turns: every round runs all four, so
that a drifting machine hurts all alike. ONNX Runtime folds batch norms and constants by itself, so that its two columns
show what is left for merging to save there. What a merge costs is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from audiorep import models, reparam
from audiorep.benchmark.environment import environment, peak_memory_mb
from audiorep.files import write_json
from audiorep.models.untrained import as_trained
from audiorep.runtimes import timing

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 0.4  # of each form in each round


def arin() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Our own network at the paper's size."""
    return models.build("arin_base", {"label": 309}), (torch.randn(1, 1, 512, 128),)


def image(name: str) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    """A network of timm."""

    def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
        import timm

        return timm.create_model(name), (torch.randn(1, 3, 224, 224),)

    return make


def video() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """R(2+1)D-18 on sixteen frames."""
    from torchvision.models.video import r2plus1d_18

    return r2plus1d_18(), (torch.randn(1, 3, 16, 112, 112),)


class Logits(nn.Module):
    """A language network's logits of a sequence of tokens."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N) to (B, N, K)."""
        return self.network(tokens, use_cache=False).logits


def adapted() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """GPT-2 in a small size with low-rank adapters on every projection."""
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    base = GPT2LMHeadModel(GPT2Config(vocab_size=1000, n_embd=256, n_layer=6, n_head=8, bos_token_id=1, eos_token_id=2))
    adapters = LoraConfig(r=8, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)
    network = get_peft_model(base, adapters)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, 0, 0.02)
    return Logits(network), (torch.randint(0, 1000, (1, 64)),)


class Tagger(nn.Module):
    """A bidirectional LSTM over embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(1000, 256), nn.LayerNorm(256)
        self.rnn, self.head = nn.LSTM(256, 256, 2, batch_first=True, bidirectional=True), nn.Linear(512, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N) to (B, N, 20)."""
        return self.head(self.rnn(self.norm(self.embed(tokens)))[0])


def tagger() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The LSTM tagger on 64 tokens."""
    return Tagger(), (torch.randint(0, 1000, (1, 64)),)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "arin_base (audio)": arin,
    "RepVGG-A0 (image)": image("repvgg_a0"),
    "MobileOne-S0 (image)": image("mobileone_s0"),
    "FastViT-T8 (image)": image("fastvit_t8"),
    "ResNet-18 (image)": image("resnet18"),
    "R(2+1)D-18 (video)": video,
    "GPT-2 + LoRA (language)": adapted,
    "LSTM tagger (language)": tagger,
}


def measure(make: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]], rounds: int) -> dict[str, Any]:
    """Counts and latencies of one network, before and after."""
    network, inputs = make()
    network = as_trained(network)
    result = reparam.fuse(network, *inputs)
    forms: dict[str, Callable[[], object]] = {}
    for name, module in (("before", network), ("after", result.model)):
        forms[f"eager {name}"] = _eager(module, inputs)
        session = _session(module, inputs)
        if session is not None:
            forms[f"onnxruntime {name}"] = session
    taken = _in_turns(forms, rounds)
    report = result.to_dict()
    return {
        **{key: report[key] for key in ("before", "after", "verification")},
        "merges": len(result.merges),
        "skipped": [str(skip) for skip in result.skipped],
        "milliseconds": taken,
    }


def merging(name: str) -> dict[str, float]:
    """Seconds and memory of one merge, in this process, which has merged nothing before."""
    network, inputs = NETWORKS[name]()
    network = as_trained(network)
    size = sum(p.numel() * p.element_size() for p in network.parameters()) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten, the parent's above all
    before = peak_memory_mb()
    seconds = timing.seconds_of(lambda: reparam.fuse(network, *inputs))
    return {"seconds": seconds, "model_mb": size, "peak_beyond_mb": peak_memory_mb() - before}


def _eager(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return module(*inputs)

    return run


def _session(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    feeds = {node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), inputs, strict=True)}
    expected = module(*inputs)
    expected = expected["label"] if isinstance(expected, dict) else expected
    difference = np.abs(session.run(None, feeds)[0] - expected.detach().numpy()).max()
    assert difference <= 1e-3 * float(expected.abs().max()), difference
    return lambda: session.run(None, feeds)


def _in_turns(forms: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each form."""
    times = timing.in_turns([timing.turn(form, SECONDS) for form in forms.values()], rounds)
    return {name: 1e3 * timing.median(taken) for name, taken in zip(forms, times, strict=True)}


def table(results: dict[str, Any]) -> str:
    """The Markdown table of the documentation."""
    lines = [
        "| network | operations | parameters | MACs | eager, ms | ONNX Runtime, ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        before, after = row["before"], row["after"]
        counts = [sum(side["operations"].values()) for side in (before, after)]
        cells = [name, f"{counts[0]} → {counts[1]}"]
        cells.append(f"{before['parameters'] / 1e6:.2f} → {after['parameters'] / 1e6:.2f} M")
        cells.append(f"{before['macs'] / 1e9:.2f} → {after['macs'] / 1e9:.2f} G")
        for runtime in ("eager", "onnxruntime"):
            pair = [row["milliseconds"][f"{runtime} {side}"] for side in ("before", "after")]
            cells.append(f"{pair[0]:.1f} → {pair[1]:.1f} ({pair[0] / pair[1]:.2f}×)")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures all networks and writes `results/reparameterization.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", help="a word of the names to measure, without writing")
    parser.add_argument("--merge", choices=NETWORKS, help="print what merging one network costs, and stop")
    arguments = parser.parse_args()
    if arguments.merge:
        print(json.dumps(merging(arguments.merge)))
        return
    results = {}
    for name, make in NETWORKS.items():
        if arguments.only is None or arguments.only in name:
            results[name] = measure(make, arguments.rounds)
            printed = subprocess.run([sys.executable, __file__, "--merge", name], capture_output=True, text=True, check=True)
            results[name]["merging"] = json.loads(printed.stdout.splitlines()[-1])
            print(table({name: results[name]}).splitlines()[-1], flush=True)
    if arguments.only is None:
        command = "PYTHONPATH=.venv/networks python experiments/reparameterization.py"
        record = {"measure": "reparameterization", "command": command, "result": results, "environment": environment()}
        write_json(ROOT / "results" / "reparameterization.json", record)


if __name__ == "__main__":
    # torchvision beside a CPU build of torch: it registers functions for operators that only its own builds have
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    main()
