"""Merges what the rules propose, where it costs nothing and its float64 check holds, until nothing is left to merge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam import branches, lapses, recurrent, rules, simplify
from audiorep.reparam.affine import NORMS, Affine, Constants, Sum, identity, module_path
from audiorep.reparam.capture import Capture
from audiorep.reparam.layout import hint, is_layout
from audiorep.reparam.lift import Lifter
from audiorep.reparam.merge_check import NotEqualError, difference
from audiorep.reparam.report import Merge, Skip
from audiorep.reparam.rules import Edit, Match, RefusalError

RULES: tuple[Callable[[fx.Node], Any], ...] = (
    simplify.padding,
    rules.scale_up,
    simplify.sandwich,
    branches.parallel,
    branches.siblings,
    rules.map_down,
    rules.norm_down,
    rules.one_bias,
    simplify.constant,
)


@dataclass
class Step:
    """A merge before its module has a name."""

    merge: Merge
    members: list[tuple[tuple[str, str], ...]]
    """Of each map it made: the new network's map that has all of them is where it went."""


class Engine:
    """The working graph, what uses which tensors, and what was done."""

    def __init__(self, captured: Capture, dry: bool, without: frozenset[str] = frozenset(), rounding: bool = False) -> None:
        self.captured, self.dry, self._without, self._rounding = captured, dry, without, rounding
        self.constants = Constants(captured, meta=dry)
        self.steps: list[Step] = []
        self._saved, self._spends = 0, False
        self._refused: dict[fx.Node, dict[str, str]] = {}
        self._made: dict[Any, tuple[Affine, tuple[Any, ...]]] = {}
        self._rejected: set[Any] = set()
        self._lifter = Lifter(captured, self.constants)
        self._lifter.lift()
        self._norms()
        self.constants.forget()
        self._lifter.forget()
        self._users: dict[Any, set[fx.Node]] = {}
        for node in captured.graph.nodes:
            self._index(node)

    def _index(self, node: fx.Node) -> None:
        for key in self._keys(node):
            self._users.setdefault(key, set()).add(node)

    def _forget(self, node: fx.Node) -> None:
        for key in self._keys(node):
            users = self._users.get(key, set())
            users.discard(node)
            if not users:
                self._users.pop(key, None)  # a map that was merged on is freed with its weights

    def _free(self, node: fx.Node) -> None:
        """Lets go of the weights of a node that is not in the graph any more."""
        self._refused.pop(node, None)
        node.target = identity

    def run(self) -> None:
        """Merges until nothing changes; last what adds parameters but stores less, out of what the others saved."""
        for self._spends in (False, True):
            changed = True
            while changed:
                self._flatten()
                changed = False
                for rule in RULES:
                    for node in list(self.captured.graph.nodes):
                        if not node._erased and node.op == "call_function":
                            changed |= self._apply(rule, node)

    def _refuse(self, node: fx.Node, rule: Callable[[fx.Node], Any], reason: object) -> None:
        self._refused.setdefault(node, {})[rule.__name__] = str(reason).rstrip(".")

    def _apply(self, rule: Callable[[fx.Node], Any], node: fx.Node) -> bool:
        for match in self._matches(rule, node):
            if match.kind in self._without:
                self._refuse(node, rule, "its merge failed the check of the whole network")
                continue
            try:
                group = self._affordable(match, rule)
            except (RefusalError, FuseError) as reason:
                self._refuse(node, rule, reason)
                continue
            except Exception as error:
                self._refuse(node, rule, lapses.reason(error))
                continue
            if group and self._commit(group, rule):
                return True
        return False

    def _matches(self, rule: Callable[[fx.Node], Any], node: fx.Node) -> Iterator[Match]:
        try:
            found = rule(node)
            yield from () if found is None else [found] if isinstance(found, Match) else found
        except (RefusalError, FuseError) as reason:
            self._refuse(node, rule, reason)
        except Exception as error:  # whatever a rule that meets the unexpected raises: it costs this operator
            self._refuse(node, rule, lapses.reason(error))

    def _affordable(self, match: Match, rule: Callable[[fx.Node], Any]) -> list[Match]:
        """The match, with those that share tensors with it where only all together cost nothing; refuses if it grows."""
        for group in self._groups(match, rule):
            self._cost(group)
            reason = self._growth(group)
            if reason is None:
                return group
        raise RefusalError(reason or "")

    def _groups(self, match: Match, rule: Callable[[fx.Node], Any]) -> Iterator[list[Match]]:
        yield [match]
        group, grown = [match], True
        while grown:
            inside = {node for m in group for node in m.region}
            shared = {key for node in inside for key in self._keys(node)}
            users = {node for key in shared for node in self._users.get(key, ())} - inside
            grown = False
            for node in self.captured.graph.nodes if users else ():
                for other in self._matches(rule, node):
                    fresh = set(other.region)
                    if fresh & users and not fresh & inside and other.kind == match.kind:
                        group, grown, inside = [*group, other], True, inside | fresh
                        break
        if len(group) > 1:
            yield group

    def _cost(self, group: list[Match]) -> None:
        for match in group:
            for edit in match.build(self._maker(meta=True)).values():
                if isinstance(edit.target, Affine) and not edit.target.raw:
                    reason = not_emittable(edit.target, edit.args[0])
                    if reason:
                        raise RefusalError(reason)

    def _growth(self, group: list[Match]) -> str | None:
        """Why the group costs more than it saves, or None."""
        (parameters, macs), stored, shared = self.costs(group)
        growth = parameters[1] - parameters[0]
        if growth > 0 and not (self._spends and growth <= self._saved and stored[1] <= stored[0]):
            if shared:
                return f"its tensors are also used by {rules.name_of(shared[0])}, so that merging would copy them"
            return f"merging would grow parameters from {parameters[0]:,} to {parameters[1]:,}"
        if macs[1] > macs[0]:
            return f"merging would grow multiply-accumulates from {macs[0]:,} to {macs[1]:,}"
        return None

    def costs(self, group: list[Match]) -> tuple[tuple[tuple[int, int], tuple[int, int]], tuple[int, int], list[fx.Node]]:
        """((parameters before, after), (MACs before, after)), the same of all stored values, and who else uses its tensors."""
        make = self._maker(meta=True)
        edits = {node: edit for match in group for node, edit in match.build(make).items()}
        touched = {*edits, *(node for match in group for node in match.merged)}
        before = {key for node in touched for key in self._keys(node)}
        outside = [node for key in before for node in self._users.get(key, ()) if node not in touched]
        kept = {key for node in outside for key in self._keys(node)}
        after = {key for edit in edits.values() for key in self._keys_of(edit.target, edit.args)}
        parameters, stored = (
            (sum(price(k) for k in before - kept), sum(price(k) for k in after - kept)) for price in (self._price, self._size)
        )
        macs = (
            sum(macs_of(node.target, node.meta.get("val"), node.args) for node in touched),
            sum(
                macs_of(edit.target, edit.value if edit.value is not None else node.meta.get("val"), edit.args)
                for node, edit in edits.items()
            ),
        )
        return (parameters, macs), stored, outside

    def _keys(self, node: fx.Node) -> tuple[Any, ...]:
        return () if self.constants.names(node) is not None else self._keys_of(node.target, node.args, node)

    def _keys_of(self, target: Any, args: Any, node: fx.Node | None = None) -> tuple[Any, ...]:
        """What a node keeps alive: names of the network's tensors, or maps that were made."""
        if isinstance(target, Affine):
            return tuple(target.names) if target.raw is not None else (target,)
        if isinstance(target, recurrent.Recurrent):
            return target.keys
        used = pytree.tree_leaves(args) if node is None else node.all_input_nodes
        return tuple(name for other in used for name in self.constants.names(other) or ())

    def _price(self, key: Any) -> int:
        if isinstance(key, str):
            return self.constants.numel[key] if self.constants.trained[key] else 0
        return int(key.parameters)

    def _size(self, key: Any) -> int:
        """Stored values: parameters, and statistics of batch norms."""
        if isinstance(key, str):
            return self.constants.numel[key]
        taps = getattr(key, "taps", None)
        return key.parameters if taps is None else taps.weight.numel() + (0 if taps.bias is None else taps.bias.numel())

    def _maker(self, meta: bool) -> Callable[..., Affine]:
        def make(function: Callable[..., Affine], parts: tuple[Affine, ...], key: Any = ()) -> Affine:
            index = (meta, key, *(id(part) for part in parts))
            if index not in self._made:
                given = tuple(_on_meta(part) for part in parts) if meta else parts
                self._made[index] = (function(*given), parts)
            return self._made[index][0]

        return make

    def _commit(self, group: list[Match], rule: Callable[[fx.Node], Any]) -> bool:
        """Checks and makes the merges of a group; False if one fails its check."""
        costs = [self.costs(group)[0]] if len(group) == 1 else [self.costs([m])[0] for m in group]
        try:
            with torch.no_grad():
                edits = [match.build(self._maker(meta=self.dry)) for match in group]
                values = {n: v for m, e in zip(group, edits, strict=True) for n, v in revalued(m.region, e).items()}
        except Exception as error:
            for match in group:
                self._refuse(match.region[-1], rule, lapses.reason(error))
            return False
        errors: list[float | None] = []
        for match, edit in zip(group, edits, strict=True):
            key = (
                match.kind,
                tuple(match.region),
                tuple(n.target.members for n in match.merged if isinstance(n.target, Affine)),
            )
            if key in self._rejected:
                return False
            error = None if self.dry else self._check(match, edit)
            if isinstance(error, str):
                self._rejected.add(key)
                for node in {match.region[-1], match.merged[-1]}:
                    self._refuse(node, rule, error)
                return False
            errors.append(error)
        whole = costs[0][0] if len(group) == 1 else self.costs(group)[0][0]
        self._saved += whole[0] - whole[1]
        for match, edit, error, cost in zip(group, edits, errors, costs, strict=True):
            self._record(match, edit, error, cost)
            self._edit(edit)
            self._drop([*match.merged, *reversed(match.region)])
        for node, value in values.items():
            node.meta["val"] = value
        self._made.clear()
        _let_go(self.captured.graph)
        return True

    def _check(self, match: Match, edits: dict[fx.Node, Edit]) -> float | str:
        """The largest relative difference in float64, or why the merge is rolled back."""
        for small in (True, False):
            try:
                return difference(match.region, edits, self.constants, small, self._rounding)
            except NotEqualError as failed:
                return str(failed)
            except (RuntimeError, IndexError, TypeError, ValueError):
                if not small:
                    return "its float64 check could not be run"
        raise AssertionError

    def _edit(self, edits: dict[fx.Node, Edit]) -> None:
        for node, edit in edits.items():
            self._forget(node)
            if edit.target is not identity:
                node.target, node.args, node.kwargs = edit.target, edit.args, {}
                if edit.value is not None:
                    node.meta["val"] = edit.value
                self._index(node)
                if edit.target in NORMS:
                    node.meta.pop("affine", None)
        for node, edit in edits.items():
            if edit.target is identity:
                source = node.args[0] if node in edits and edit.args[0] is node.args[0] else edit.args[0]
                self.captured.replace(node, source)
                self._free(node)

    def _drop(self, nodes: Iterable[fx.Node]) -> None:
        for node in dict.fromkeys(nodes):
            if not node._erased and not node.users:
                self._forget(node)
                self.captured.graph.erase_node(node)
                self._free(node)

    def _record(self, match: Match, edits: dict[fx.Node, Edit], error: float | None, cost: Any) -> None:
        targets = [edit.target for edit in edits.values() if isinstance(edit.target, Affine | recurrent.Recurrent)]
        members = tuple(dict.fromkeys(f"{label} at {path}" for target in targets for label, path in target.members))
        old = _kernels(node.target for node in match.merged)
        new = _kernels(targets)
        growth = _largest(new) / max(_largest(old), 1e-300) if old and new and not self.dry else None
        result = " + ".join(
            dict.fromkeys(_described(edit.target, node) for node, edit in edits.items() if edit.target in targets)
        )
        merge = Merge(match.kind, "", members, result, error, cost[0], cost[1], growth)
        self.steps.append(Step(merge, [target.members for target in targets]))

    def _flatten(self) -> None:
        """Sums of sums as one."""
        for node in list(self.captured.graph.nodes):
            while isinstance(node.target, Sum):
                inner = [i for i, term in enumerate(node.args) if isinstance(term.target, Sum) and len(term.users) == 1]
                inner = [i for i in inner if node.args.count(node.args[i]) == 1]
                if not inner:
                    break
                place, term = inner[0], node.args[inner[0]]
                scaled = tuple(node.target.factors[place] * factor for factor in term.target.factors)
                factors = node.target.factors
                node.target = Sum((*factors[:place], *scaled, *factors[place + 1 :]))
                node.args = (*node.args[:place], *term.args, *node.args[place + 1 :])
                self.captured.graph.erase_node(term)

    def _norms(self) -> None:
        for node in self.captured.graph.nodes:
            if node.target in NORMS:
                self._lifter.norm(node)
            recurrent.lift(node, self.constants)

    def skips(self) -> list[Skip]:
        """What was left, and why."""
        found = {}
        notes = {node: {"lift": reason} for node, reason in self._lifter.notes.items()}
        for node, reasons in {**self._refused, **notes}.items():
            reason = "; ".join(dict.fromkeys(reasons.values())).rstrip(".")
            what = None if node._erased else _what(node) or (_operator(node) if lapses.SIGN in reason else None)
            if what:
                found[module_path(node), what] = reason
        return [Skip(path, what, reason) for (path, what), reason in found.items()]


def _let_go(graph: fx.Graph) -> None:
    """Frees the weights of maps that were merged on: fx keeps every operation that a node ever had as a key."""
    table = getattr(getattr(graph, "_find_nodes_lookup_table", None), "table", {})
    for key in [key for key, nodes in table.items() if not nodes]:
        del table[key]


def _described(target: Affine | recurrent.Recurrent, node: fx.Node) -> str:
    """What a map is in the new network."""
    rank = node.meta["val"].dim() if isinstance(target, Affine) else 0
    pointwise = isinstance(target, Affine) and not target.taps.size and not target.taps.is_scale and target.axis is not None
    return "conv " + "×".join("1" * (rank - 2)) if pointwise and target.axis != rank - 1 else target.label


def revalued(region: list[fx.Node], edits: dict[fx.Node, Edit]) -> dict[fx.Node, Any]:
    """New examples of what lies between merged maps, where their channels become others."""
    values: dict[fx.Node, Any] = {node: edit.value for node, edit in edits.items() if edit.value is not None}
    for node in sorted(set(region)):
        if node in edits or not is_layout(node) or not any(other in values for other in node.all_input_nodes):
            continue
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda other: values.get(other, other.meta.get("val")))
        with enable_python_dispatcher():  # for sizes that are free
            values[node] = node.target(*args, **kwargs)
    return {node: value for node, value in values.items() if node not in edits}


def _kernels(targets: Iterable[Any]) -> list[Tensor]:
    """The weights of convolutions and linear layers among `targets`."""
    return [target.taps.weight for target in targets if isinstance(target, Affine) and not target.taps.is_scale]


def _largest(weights: list[Tensor]) -> float:
    return max(float(weight.abs().max()) for weight in weights)


def _what(node: fx.Node) -> str | None:
    """What a node is called among the things left, or None for what nobody would expect to be merged."""
    if isinstance(node.target, Affine):
        taps = node.target.taps
        trained = taps.is_scale and (taps.weight_trained or (taps.bias is not None and taps.bias_trained))
        return node.target.label if node.target.pool or trained or node.target.label == "batch norm" else None
    if isinstance(node.target, Sum):
        return "sum"
    if node.target in NORMS:
        return str(node.target).split(".")[1].replace("_", " ")
    name = str(node.target)
    if "batch_norm" in name:
        return "batch norm"
    return "convolution" if "conv" in name else "average pool" if "avg_pool" in name else None


def _operator(node: fx.Node) -> str:
    return node.target.label if isinstance(node.target, Affine | recurrent.Recurrent) else str(node.target).split(".")[1]


def not_emittable(affine: Affine, source: Any) -> str | None:
    """Why no ordinary module computes a map, or None."""
    taps, rank = affine.taps, source.meta["val"].dim()
    if taps.is_scale or affine.axis is None:
        return None
    if taps.transposed:
        extra = [low - high for low, high in zip(taps.low, taps.high, strict=True)]
        most = [max(stride, dilation) for stride, dilation in zip(taps.stride, taps.dilation, strict=True)]
        fits = min(taps.low) >= 0 and all(0 <= n < limit for n, limit in zip(extra, most, strict=True))
        return None if fits else "no transposed convolution has its padding"
    if taps.size:
        return None
    if affine.axis == 1 and rank in (3, 4, 5):
        return None
    return None if affine.axis == rank - 1 and taps.groups == 1 else "no linear layer works along its axis"


def _on_meta(affine: Any) -> Any:
    if isinstance(affine, recurrent.Recurrent):
        return recurrent.on_meta(affine)
    taps = affine.taps
    if taps.weight.is_meta:
        return affine
    bias = None if taps.bias is None else taps.bias.to("meta")
    return replace(affine, taps=replace(taps, weight=taps.weight.to("meta"), bias=bias))


def macs_of(target: Any, value: Any, args: tuple[Any, ...]) -> int:
    """Multiply-accumulates in the example of a node that computes `value`."""
    if not isinstance(target, Affine) or target.pool or target.axis is None:
        return target.macs if isinstance(target, recurrent.Recurrent) else 0
    place = args[0].meta["val"] if target.taps.transposed else value
    shape = [hint(n) for axis, n in enumerate(place.shape) if axis != target.axis]
    return target.taps.macs * math.prod(shape)
