"""Networks by name: (B, 1, T, F) to {head: logits (B, K)}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from audiorep.config import load
from audiorep.errors import ConfigError, MissingExtraError
from audiorep.models.arin import Arin, ArinConfig, merge_branches
from audiorep.models.ast import Ast, AstConfig
from audiorep.models.cnn14 import Cnn14, Cnn14Config
from audiorep.models.inceptionnext import InceptionNext, InceptionNextConfig
from audiorep.models.layers import Network, refuse
from audiorep.models.mobilenetv3 import MobileNetV3, MobileNetV3Config
from audiorep.models.replknet import RepLKNet, RepLKNetConfig
from audiorep.models.resnet import ResNet, ResNetConfig
from audiorep.models.slowfast import SlowFast, SlowFastConfig
from audiorep.models.yamnet import YamNet, YamNetConfig
from audiorep.untrusted import brief, is_text

LARGEST = 100_000  # of any size in a configuration
LONGEST = 32  # of any list of sizes in it
MOST_BLOCKS = 200


@dataclass(frozen=True)
class Architecture:
    """A network class, its configuration class and what sets this size apart."""

    network: type[Network]
    config: type[Any]
    settings: dict[str, Any] = field(default_factory=dict)
    about: str = ""


ARCHITECTURES: dict[str, Architecture] = {
    "arin_base": Architecture(Arin, ArinConfig, {}, "AudioRepInceptionNeXt as in the paper, width 64"),
    "arin_small": Architecture(Arin, ArinConfig, {"width": 32}, "width 32"),
    "arin_nano": Architecture(Arin, ArinConfig, {"width": 16}, "width 16"),
    "arin_pico": Architecture(Arin, ArinConfig, {"width": 8}, "width 8"),
    "slowfast": Architecture(SlowFast, SlowFastConfig, {}, "auditory Slow-Fast R50 (arXiv 2103.03516)"),
    "inceptionnext_tiny": Architecture(InceptionNext, InceptionNextConfig, {}, "InceptionNeXt-T (arXiv 2303.16900)"),
    "replknet_31t": Architecture(RepLKNet, RepLKNetConfig, {}, "RepLKNet-31, tiny widths (arXiv 2203.06717)"),
    "resnet50": Architecture(ResNet, ResNetConfig, {}, "ResNet-50 v1.5 (arXiv 1512.03385)"),
    "cnn14": Architecture(Cnn14, Cnn14Config, {}, "CNN14 of PANNs (arXiv 1912.10211)"),
    "mobilenetv3": Architecture(
        MobileNetV3, MobileNetV3Config, {}, "MobileNetV3-Large, as EfficientAT's mn10 (arXiv 2211.04772)"
    ),
    "yamnet": Architecture(YamNet, YamNetConfig, {}, "YAMNet's MobileNet-V1 (arXiv 1704.04861)"),
    "ast": Architecture(Ast, AstConfig, {}, "Audio Spectrogram Transformer (arXiv 2104.01778)"),
}


@dataclass(frozen=True)
class Cost:
    """What a network costs, by count."""

    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and matrix products, and two for each value that a batch norm scales and
    shifts, for one input: the paper's way of counting."""
    activations: int
    """Values that convolutions and matrix products give for one input (Radosavovic 2020, section 3): what memory must move."""


def build(name: str, heads: Mapping[str, int], settings: Mapping[str, Any] | None = None) -> Network:
    """The network `name` with `heads` classes, any other field of its configuration set by `settings`.

    Raises:
        ConfigError: an unknown name or field, or a value that is refused.
    """
    config = configure(name, heads, settings)
    return ARCHITECTURES[name].network(config)


def configure(name: str, heads: Mapping[str, int], settings: Mapping[str, Any] | None = None) -> Any:
    """The configuration of the network that `build` makes of the same arguments.

    Raises:
        ConfigError: as `build`.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(f"{brief(name)} is not an architecture; there are {', '.join(ARCHITECTURES)}.")
    row = ARCHITECTURES[name]
    config = load(row.config, {**row.settings, **(settings or {}), "heads": dict(heads)}, where=name)
    refuse(_bounds(config))
    return config


def _bounds(config: Any) -> list[tuple[bool, str]]:
    """What every network's configuration keeps to: far above any that is of use, and cheap to make without memory."""
    values = {key: value for key, value in vars(config).items() if key != "heads"}
    listed = {key: value for key, value in values.items() if isinstance(value, tuple)}
    numbers = {**values, **{f"{key}[{place}]": n for key, row in listed.items() for place, n in enumerate(row)}}
    blocks = sum(max(n, 0) for key in ("depth", "depths") for n in _as_tuple(values.get(key, ())))
    return [
        *(
            (abs(n) <= LARGEST, f"{key} is {brief(n)}; at most {LARGEST} is allowed")
            for key, n in numbers.items()
            if isinstance(n, int | float)
        ),
        *((len(row) <= LONGEST, f"{key} has {len(row)} numbers; {LONGEST} are allowed") for key, row in listed.items()),
        (blocks <= MOST_BLOCKS, f"it has {brief(blocks)} blocks; {MOST_BLOCKS} are allowed"),
        *(
            (
                is_text(head, blank=False) and "." not in head and not hasattr(nn.ModuleDict, head),
                f"a head cannot be called {brief(head)}",
            )
            for head in config.heads
        ),
    ]


def _as_tuple(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def sized(name: str, frames: int, mels: int) -> dict[str, int]:
    """The fields of a network's configuration that follow from what it is to be shown: log-mels of T frames and F bands."""
    fields = ARCHITECTURES[name].config.__dataclass_fields__
    return {key: value for key, value in (("frames", frames), ("mels", mels)) if key in fields}


def cost(network: nn.Module, shape: tuple[int, ...]) -> Cost:
    """Parameters, and multiply-accumulates for an input of `shape`, for example (1, 1, 512, 128)."""
    parameter = next(network.parameters())
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    normed: list[int] = []

    def counted(values: torch.Tensor) -> torch.Tensor:
        normed.append(values.numel())
        return values  # a norm changes no shape, and computing it on the meta device takes longer than all the rest

    was_training = network.training
    network.eval()
    for norm in norms:
        norm.forward = counted  # type: ignore[assignment, method-assign]
    try:
        # attention as matrix products, which are counted; a CPU's own kernel for it is not
        exact = sdpa_kernel(SDPBackend.MATH)
        with exact, FlopCounterMode(display=False) as counter, _Outputs() as outputs, torch.no_grad():
            network(torch.zeros(shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        network.train(was_training)
        for norm in norms:
            del norm.forward
    macs = counter.get_total_flops() // 2 + 2 * sum(normed)
    return Cost(sum(p.numel() for p in network.parameters()), macs, outputs.values)


@dataclass(frozen=True)
class Listed:
    """An architecture, and what it costs at the paper's input."""

    name: str
    about: str
    cost: Cost | None
    missing: str = ""
    """Why there is no cost: a package that the network needs."""


def overview(classes: int = 309, shape: tuple[int, ...] = (1, 1, 512, 128)) -> list[Listed]:
    """All architectures with their costs, for `classes` classes and an input of `shape`.

    >>> {row.name: row.cost.parameters for row in audiorep.models.overview()}["arin_nano"] < 1_000_000
    True
    """
    rows = []
    for name, row in ARCHITECTURES.items():
        try:
            with torch.device("meta"):  # counts need no weights
                rows.append(Listed(name, row.about, cost(build(name, {"label": classes}), shape)))
        except MissingExtraError as error:
            rows.append(Listed(name, row.about, None, str(error)))
    return rows


class _Outputs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the values that operators with multiply-accumulates give."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.values += (found[0] if isinstance(found, tuple) else found).numel()
        return found


__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Arin",
    "ArinConfig",
    "Cost",
    "Listed",
    "Network",
    "build",
    "configure",
    "cost",
    "merge_branches",
    "overview",
    "sized",
]
