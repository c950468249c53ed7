"""What a network costs, by count: operations by kind, parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx, nn

from audiorep.reparam.affine import NORMS, Affine, Sum
from audiorep.reparam.engine import Engine
from audiorep.reparam.recurrent import Recurrent

aten = torch.ops.aten


def count(engine: Engine) -> dict[str, int]:
    """Operations of the working graph by kind, those on constants left out."""
    counts: dict[str, int] = {}
    for node in engine.captured.graph.nodes:
        if node.op != "call_function" or engine.constants.names(node) is not None:
            continue
        kind = _kind(node)
        amount = len(node.args) - 1 if isinstance(node.target, Sum) else 1
        if kind:
            counts[kind] = counts.get(kind, 0) + amount
    return counts


def _kind(node: fx.Node) -> str | None:
    target, name = node.target, str(node.target)
    if isinstance(target, Sum):
        return "add"
    if isinstance(target, Recurrent):
        return "recurrent"
    if isinstance(target, Affine):
        if target.pool:
            return "pool"
        if target.raw is not None and name and str(target.raw[0]).startswith("aten.batch_norm"):
            return "batch norm"
        if target.taps.is_scale or target.axis is None:
            return "scale and shift"
        return "conv" if target.axis == 1 and node.meta["val"].dim() > 2 else "linear"
    if target in NORMS or "_norm" in name:
        return "batch norm" if "batch_norm" in name else "norm"
    for word, kind in (("conv", "conv"), ("pool", "pool"), ("aten.cat", "cat"), ("sym_size", ""), ("getitem", "")):
        if word in name:
            return kind or None
    if target in (aten.add.Tensor, aten.sub.Tensor):
        return "add"
    return "other" if name.startswith("aten.") and isinstance(node.meta.get("val"), Tensor) else None


def total_parameters(model: nn.Module) -> int:
    """Values of all parameters, each tensor once."""
    return sum(math.prod(parameter.shape) for parameter in model.parameters())
