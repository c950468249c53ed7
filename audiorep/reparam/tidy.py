"""Removes in-place operations, operations without effect and duplicates from a captured graph."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

if TYPE_CHECKING:
    from audiorep.reparam.capture import Capture

aten = torch.ops.aten


def make_functional(graph: fx.Graph) -> bool:
    """Makes in-place operations functional; False if one is left whose target is read elsewhere too, or a vmap."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if getattr(node.target, "__module__", None) == "torch._functorch.predispatch":
            return False  # a layer of a vmap, which needs a decomposition
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        schema = node.target._schema
        if not any(argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments):
            continue
        if schema.name == "aten::batch_norm":
            continue
        plain = getattr(aten, schema.name.removeprefix("aten::").removesuffix("_"), None)
        target = node.args[0]
        overload = getattr(plain, node.target._overloadname, None) if plain is not None else None
        fresh = isinstance(target, fx.Node) and target.op == "call_function" and not _is_view(target)
        if overload is None or not fresh or not schema.name.endswith("_"):
            return False
        later = [user for user in target.users if user is not node and (order[user] > order[node] or _is_view(user))]
        if later:
            return False
        node.target = overload
    return True


def _is_view(node: fx.Node) -> bool:
    """Whether a node's value may share memory with one of its inputs."""
    if node.target is aten.lift_fresh_copy.default:
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return True
    if node.target in (aten.contiguous.default, aten.reshape.default, aten.flatten.using_ints, aten.dropout.default):
        return True
    if node.target._schema.name in ("aten::to", "aten::type_as", "aten::expand_as", "aten::view_as", "aten::reshape_as"):
        return True
    return any(result.alias_info is not None and not result.alias_info.is_write for result in node.target._schema.returns)


_REPEATABLE = {
    *("permute", "transpose", "view", "reshape", "flatten", "unsqueeze", "squeeze", "slice", "select", "sym_size"),
    *("constant_pad_nd", "pad", "reflection_pad1d", "reflection_pad2d", "replication_pad2d", "avg_pool2d"),
    *("chunk", "split", "split_with_sizes"),
}
_WITHOUT_EFFECT = {
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
    aten.detach.default,
    aten.detach_.default,
    aten.alias.default,
    aten.lift_fresh_copy.default,
    aten.lift_fresh.default,
    aten.contiguous.default,
    aten.clone.default,
}
_COPIES = {aten.clone.default, aten.contiguous.default, aten.lift_fresh_copy.default}


def tidy(captured: Capture) -> None:
    """Removes operations that have no effect in evaluation, and computes equal values once."""
    graph = captured.graph
    _single_result_norms(captured)
    seen: dict[Any, fx.Node] = {}
    copies = _copies_for_the_caller(captured)
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # `contiguous` before it may have been removed
        name = getattr(node.target, "_schema", None) and node.target._schema.name
        if name in ("aten::_assert_tensor_metadata", "aten::_assert_scalar", "aten::sym_constrain_range_for_size"):
            graph.erase_node(node)
            continue
        if node in copies:
            continue
        if _has_no_effect(node) and not (len(node.args) == 3 and node.args[1] and node.args[2]):
            captured.replace(node, node.args[0])
            continue
        if not _repeatable(node):
            continue
        key = (node.target, repr(node.args), repr(node.kwargs))
        twin = seen.setdefault(key, node)
        if twin is not node:
            captured.replace(node, twin)
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and not node.users and not _is_impure(node):
            graph.erase_node(node)


def _copies_for_the_caller(captured: Capture) -> set[fx.Node]:
    """Copies that outputs share memory with: the caller may write into them or rely on their memory layout."""
    reached: set[fx.Node] = set()
    ahead = [leaf for leaf in captured.result if isinstance(leaf, fx.Node)]
    while ahead:
        node = ahead.pop()
        if node.op == "call_function" and node not in reached and (_is_view(node) or _has_no_effect(node)):
            reached.add(node)
            ahead += [] if node.target in _COPIES else node.all_input_nodes
    return {node for node in reached if node.target in _COPIES or _copies(node)}


def _copies(node: fx.Node) -> bool:
    """Whether a conversion copies even where the precision does not change."""
    if str(node.target).startswith("aten._to_copy."):
        return True
    arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
    values = dict(zip((argument.name for argument in arguments), node.args, strict=False)) | dict(node.kwargs)
    return str(node.target).startswith("aten.to.") and bool(values.get("copy"))


def _single_result_norms(captured: Capture) -> None:
    """Rewrites norms with several results, which functionalization made, as norms with one result."""
    for node in list(captured.graph.nodes):
        rewrite = _NATIVE_NORMS.get(node.target) if node.op == "call_function" else None
        results = [user for user in node.users if user.target is operator.getitem]
        if rewrite is None or any(user.args[1] != 0 for user in results) or len(results) != len(node.users):
            continue
        for result in results:
            result.target, result.args = rewrite(node.args)
        captured.graph.erase_node(node)


_NATIVE_NORMS: dict[Any, Any] = {
    aten._native_batch_norm_legit_no_training.default: lambda a: (
        aten.batch_norm.default,
        (*a[:5], False, a[5], a[6], True),
    ),
    aten.native_layer_norm.default: lambda a: (aten.layer_norm.default, tuple(a)),
    aten.native_group_norm.default: lambda a: (aten.group_norm.default, (a[0], a[6], a[1], a[2], a[7])),
}


def _has_no_effect(node: fx.Node) -> bool:
    if node.target in _WITHOUT_EFFECT:
        return True
    name, first = str(node.target), node.args[0] if node.args else None
    if not name.startswith(("aten.to.", "aten._to_copy.", "aten.type_as.")) or not isinstance(first, fx.Node):
        return False
    before, after = first.meta.get("val"), node.meta.get("val")
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return False
    return (before.dtype, before.device) == (after.dtype, after.device)


def _repeatable(node: fx.Node) -> bool:
    """Whether equal calls of a node's operation may be made once: cheap operations that rearrange or pad."""
    if node.name.startswith("getitem"):
        return node.target is operator.getitem
    name = str(node.target)
    return name.startswith("aten.") and name.split(".")[1] in _REPEATABLE


def _is_impure(node: fx.Node) -> bool:
    return str(node.target).startswith("aten.copy_") or (str(node.target).startswith("aten.batch_norm") and bool(node.args[5]))
