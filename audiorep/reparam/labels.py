"""What nodes and maps are called in a report."""

from __future__ import annotations

from torch import fx

from audiorep.reparam.affine import NORMS, Affine, Sum
from audiorep.reparam.nodes import rank
from audiorep.reparam.recurrent import Recurrent


def map_label(target: Affine | Recurrent, node: fx.Node) -> str:
    """What a map is called as a module of the new network; `node` computes it."""
    if isinstance(target, Recurrent):
        return target.label
    axes = rank(node)
    is_pointwise = not target.taps.size and not target.taps.is_scale and target.axis not in (None, axes - 1)
    return "conv " + "×".join("1" * (axes - 2)) if is_pointwise else target.label


def mergeable_label(node: fx.Node) -> str | None:
    """What a node that was left is called; None for one that nobody would expect to be merged."""
    if isinstance(node.target, Affine):
        taps = node.target.taps
        trained = taps.is_scale and (taps.weight_trained or (taps.bias is not None and taps.bias_trained))
        return node.target.label if node.target.pool or trained or node.target.label == "batch norm" else None
    if isinstance(node.target, Sum):
        return "sum"
    if node.target in NORMS:
        return operator_label(node).replace("_", " ")
    name = str(node.target)
    if "batch_norm" in name:
        return "batch norm"
    return "convolution" if "conv" in name else "average pool" if "avg_pool" in name else None


def operator_label(node: fx.Node) -> str:
    """The name of any operation, without its namespace and overload."""
    return node.target.label if isinstance(node.target, Affine | Recurrent) else str(node.target).split(".")[1]
