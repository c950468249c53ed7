"""What a network costs: parameters, multiply-accumulates and operations by kind."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx, nn

from audiorep.reparam.affine import NORMS, Affine, Sum
from audiorep.reparam.engine import Engine
from audiorep.reparam.layout import example_size
from audiorep.reparam.nodes import rank, shape
from audiorep.reparam.recurrent import Recurrent
from audiorep.reparam.report import Cost
from audiorep.reparam.tensor_use import macs_of

aten = torch.ops.aten


def cost(engine: Engine, parameters: int) -> Cost:
    """The cost of the working graph of an engine, for the example as it was given."""
    total = sum(
        macs_of(node.target, node.meta.get("val"), node.args) + _product_macs(node)
        for node in engine.captured.graph.nodes
        if node.op == "call_function"
    )
    return Cost(parameters, total // (2 if engine.captured.doubled else 1), count_operations(engine))


def count_operations(engine: Engine) -> dict[str, int]:
    """The operations of the working graph by kind, those on constants left out."""
    counts: dict[str, int] = {}
    for node in engine.captured.graph.nodes:
        if node.op != "call_function" or engine.constants.is_constant(node):
            continue
        kind = _kind(node)
        amount = len(node.args) - 1 if isinstance(node.target, Sum) else 1
        if kind:
            counts[kind] = counts.get(kind, 0) + amount
    return counts


def total_parameters(model: nn.Module) -> int:
    """The number of values in all parameters, each tensor once."""
    return sum(math.prod(parameter.shape) for parameter in model.parameters())


def _kind(node: fx.Node) -> str | None:
    target, name = node.target, str(node.target)
    if isinstance(target, Sum):
        return "add"
    if isinstance(target, Recurrent):
        return "recurrent"
    if isinstance(target, Affine):
        return _map_kind(node, target)
    if target in NORMS or "_norm" in name:
        return "batch norm" if "batch_norm" in name else "norm"
    for word, kind in (("conv", "conv"), ("pool", "pool"), ("aten.cat", "cat"), ("sym_size", ""), ("getitem", "")):
        if word in name:
            return kind or None
    if target in (aten.add.Tensor, aten.sub.Tensor):
        return "add"
    return "other" if name.startswith("aten.") and isinstance(node.meta.get("val"), Tensor) else None


def _map_kind(node: fx.Node, target: Affine) -> str:
    if target.pool:
        return "pool"
    if target.raw is not None and str(target.raw[0]).startswith("aten.batch_norm"):
        return "batch norm"
    if target.taps.is_scale or target.axis is None:
        return "scale and shift"
    return "conv" if target.axis == 1 and rank(node) > 2 else "linear"


def _product_macs(node: fx.Node) -> int:
    """Multiply-accumulates of a matrix product, attention or convolution whose weights are not constant."""
    name, value = str(node.target), node.meta.get("val")
    if not isinstance(value, Tensor) or not name.startswith("aten."):
        return 0
    size = math.prod(example_size(n) for n in value.shape)
    tensors = [arg for arg in node.args if isinstance(arg, fx.Node) and isinstance(arg.meta.get("val"), Tensor)]
    if name.startswith(("aten.bmm", "aten.matmul", "aten.mm")):
        return size * example_size(shape(tensors[0])[-1])
    if name.startswith("aten.scaled_dot_product_attention"):
        query, key = (shape(tensor) for tensor in tensors[:2])
        return size * example_size(key[-2]) + math.prod(example_size(n) for n in query) * example_size(key[-2])
    if name.startswith(("aten.conv1d", "aten.conv2d", "aten.conv3d")):
        return size * math.prod(example_size(n) for n in shape(tensors[1])[1:])
    return 0
