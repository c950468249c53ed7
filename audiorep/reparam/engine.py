"""Merges what the rules propose if it costs nothing and passes its float64 check, until nothing is left to merge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher

from audiorep.errors import FuseError
from audiorep.reparam import branches, recurrent, rule_failures, rules, simplify
from audiorep.reparam.affine import NORMS, Affine, Constants, Sum, identity, module_path
from audiorep.reparam.capture import Capture
from audiorep.reparam.labels import map_label, mergeable_label, operator_label
from audiorep.reparam.layout import is_layout
from audiorep.reparam.lift import Lifter
from audiorep.reparam.merge_check import NotEqualError, check_merge
from audiorep.reparam.nodes import arguments, operation, rank
from audiorep.reparam.report import Merge, Skip
from audiorep.reparam.rules import Edit, Match, RefusalError
from audiorep.reparam.tensor_use import CostChange, TensorUse

Rule = Callable[[fx.Node], Match | Iterable[Match] | None]

RULES: tuple[Rule, ...] = (
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
    """A merge that was made, before its module has a name in the new network."""

    merge: Merge
    members: list[tuple[tuple[str, str], ...]]
    """The members of each map that the merge made. The map of the new network that has all of them is where it went."""


class Engine:
    """Merges a captured graph in place and records what was done."""

    def __init__(
        self, captured: Capture, dry: bool, without: frozenset[str] = frozenset(), check_rounding: bool = False
    ) -> None:
        """Lifts the linear operations of a graph.

        Args:
            captured: the graph, which is changed.
            dry: work with shapes alone, and check nothing.
            without: kinds of merges that are not made.
            check_rounding: check the rounding of each merge in float32 too.
        """
        self.captured, self.dry, self._without, self._check_rounding = captured, dry, without, check_rounding
        self.constants = Constants(captured, meta=dry)
        self.steps: list[Step] = []
        self._saved_parameters, self._may_grow = 0, False
        self._refusals: dict[fx.Node, dict[str, str]] = {}
        self._made: dict[Any, tuple[Any, tuple[Any, ...]]] = {}
        self._rejected: set[Any] = set()
        self._lifter = Lifter(captured, self.constants)
        self._lift()
        self.use = TensorUse(captured.graph, self.constants)

    def _lift(self) -> None:
        self._lifter.lift()
        for node in self.captured.graph.nodes:
            if node.target in NORMS:
                self._lifter.note_norm(node)
            recurrent.lift(node, self.constants)
        self.constants.forget()
        self._lifter.forget()

    def run(self) -> None:
        """Merges until nothing changes.

        A second round allows merges that add parameters but store fewer values, out of what the first round saved.
        """
        for self._may_grow in (False, True):
            changed = True
            while changed:
                self._flatten_sums()
                changed = False
                for rule in RULES:
                    for node in list(self.captured.graph.nodes):
                        if not node._erased and node.op == "call_function":
                            changed |= self._apply(rule, node)

    def skips(self) -> list[Skip]:
        """What was left, and why."""
        found = {}
        obstacles = {node: {"lift": reason} for node, reason in self._lifter.obstacles.items()}
        for node, reasons in {**self._refusals, **obstacles}.items():
            reason = "; ".join(dict.fromkeys(reasons.values())).rstrip(".")
            failed = rule_failures.SIGN in reason
            label = None if node._erased else mergeable_label(node) or (operator_label(node) if failed else None)
            if label:
                found[module_path(node), label] = reason
        return [Skip(path, label, reason) for (path, label), reason in found.items()]

    def _refuse(self, node: fx.Node, rule: Rule, reason: object) -> None:
        self._refusals.setdefault(node, {})[_rule_name(rule)] = str(reason).rstrip(".")

    def _apply(self, rule: Rule, node: fx.Node) -> bool:
        """Makes the first proposal of a rule at a node that can be made; False if there is none."""
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
                self._refuse(node, rule, rule_failures.reason(error))
                continue
            if group and self._commit(group, rule):
                return True
        return False

    def _matches(self, rule: Rule, node: fx.Node) -> Iterator[Match]:
        try:
            found = rule(node)
            yield from () if found is None else [found] if isinstance(found, Match) else found
        except (RefusalError, FuseError) as reason:
            self._refuse(node, rule, reason)
        except Exception as error:  # a rule may fail in any way on an operator that nobody foresaw
            self._refuse(node, rule, rule_failures.reason(error))

    def _affordable(self, match: Match, rule: Rule) -> list[Match]:
        """The match alone, or with all those that share tensors with it where only all together cost nothing.

        Raises:
            RefusalError: it costs more than it saves, or no module computes its result.
        """
        for group in self._groups(match, rule):
            self._refuse_without_module(group)
            reason = self._growth(group)
            if reason is None:
                return group
        raise RefusalError(reason or "")

    def _groups(self, match: Match, rule: Rule) -> Iterator[list[Match]]:
        """The match alone, then with every other match of its kind that shares tensors with it."""
        yield [match]
        group, grown = [match], True
        while grown:
            inside = {node for member in group for node in member.region}
            users = self.use.sharing(inside)
            grown = False
            for node in self.captured.graph.nodes if users else ():
                for other in self._matches(rule, node):
                    region = set(other.region)
                    if region & users and not region & inside and other.kind == match.kind:
                        group, grown, inside = [*group, other], True, inside | region
                        break
        if len(group) > 1:
            yield group

    def _refuse_without_module(self, group: list[Match]) -> None:
        for match in group:
            for edit in match.build(self._maker(meta=True)).values():
                if isinstance(edit.target, Affine) and not edit.target.raw:
                    reason = no_module(edit.target, rank(edit.args[0]))
                    if reason:
                        raise RefusalError(reason)

    def _growth(self, group: list[Match]) -> str | None:
        """Why the group costs more than it saves, or None."""
        change = self._cost_change(group)
        (old, new), stored, macs = change.parameters, change.stored, change.macs
        allowed = self._may_grow and new - old <= self._saved_parameters and stored[1] <= stored[0]
        if new > old and not allowed:
            if change.shared_with:
                return f"its tensors are also used by {rules.name_of(change.shared_with[0])}, so that merging would copy them"
            return f"merging would grow parameters from {old:,} to {new:,}"
        if macs[1] > macs[0]:
            return f"merging would grow multiply-accumulates from {macs[0]:,} to {macs[1]:,}"
        return None

    def _cost_change(self, group: list[Match]) -> CostChange:
        make = self._maker(meta=True)
        edits = {node: edit for match in group for node, edit in match.build(make).items()}
        return self.use.change(edits, [node for match in group for node in match.merged])

    def _maker(self, meta: bool) -> rules.Make:
        """The function with which a match makes its maps; equal maps are made once."""

        def make(function: Callable[..., Any], parts: tuple[Any, ...], key: Any = ()) -> Any:
            index = (meta, key, *(id(part) for part in parts))
            if index not in self._made:
                given = tuple(_on_meta(part) for part in parts) if meta else parts
                self._made[index] = (function(*given), parts)
            return self._made[index][0]

        return make

    def _commit(self, group: list[Match], rule: Rule) -> bool:
        """Checks and makes the merges of a group; False if one fails its check."""
        changes = [self._cost_change([match]) for match in group]
        try:
            with torch.no_grad():
                edits = [match.build(self._maker(meta=self.dry)) for match in group]
                values = {n: v for m, e in zip(group, edits, strict=True) for n, v in resized_values(m.region, e).items()}
        except Exception as error:
            for match in group:
                self._refuse(match.region[-1], rule, rule_failures.reason(error))
            return False
        errors = self._check_all(group, edits, rule)
        if errors is None:
            return False
        old, new = self._cost_change(group).parameters
        self._saved_parameters += old - new
        for match, edit, difference, change in zip(group, edits, errors, changes, strict=True):
            self._record(match, edit, difference, change)
            self._edit(edit)
            self._drop([*match.merged, *reversed(match.region)])
        for node, value in values.items():
            node.meta["val"] = value
        self._made.clear()
        _free_replaced_operations(self.captured.graph)
        return True

    def _check_all(self, group: list[Match], edits: list[dict[fx.Node, Edit]], rule: Rule) -> list[float | None] | None:
        """The error of each merge, None for each in a dry run; None if a merge failed its check, now or before."""
        errors: list[float | None] = []
        for match, edit in zip(group, edits, strict=True):
            members = tuple(node.target.members for node in match.merged if isinstance(node.target, Affine))
            key = (match.kind, tuple(match.region), members)
            if key in self._rejected:
                return None
            found = None if self.dry else self._check(match, edit)
            if isinstance(found, str):
                self._rejected.add(key)
                for node in {match.region[-1], match.merged[-1]}:
                    self._refuse(node, rule, found)
                return None
            errors.append(found)
        return errors

    def _check(self, match: Match, edits: dict[fx.Node, Edit]) -> float | str:
        """The largest relative difference in float64, or why the merge is rolled back."""
        for small in (True, False):
            try:
                return check_merge(match.region, edits, self.constants, small, self._check_rounding)
            except NotEqualError as failed:
                return str(failed)
            except (RuntimeError, IndexError, TypeError, ValueError):
                if not small:
                    return "its float64 check could not be run"
        raise AssertionError

    def _edit(self, edits: dict[fx.Node, Edit]) -> None:
        for node, edit in edits.items():
            self.use.remove(node)
            if edit.target is not identity:
                node.target, node.args, node.kwargs = edit.target, edit.args, {}
                if edit.value is not None:
                    node.meta["val"] = edit.value
                self.use.add(node)
                if edit.target in NORMS:
                    node.meta.pop("affine", None)
        for node, edit in edits.items():
            if edit.target is identity:
                self.captured.replace(node, edit.args[0])
                self._free(node)

    def _drop(self, nodes: Iterable[fx.Node]) -> None:
        """Erases those of `nodes` that nothing reads any more."""
        for node in dict.fromkeys(nodes):
            if not node._erased and not node.users:
                self.use.remove(node)
                self.captured.graph.erase_node(node)
                self._free(node)

    def _free(self, node: fx.Node) -> None:
        """Lets go of the weights of a node that is not in the graph any more."""
        self._refusals.pop(node, None)
        node.target = identity

    def _record(self, match: Match, edits: dict[fx.Node, Edit], error: float | None, change: CostChange) -> None:
        made = {node: e.target for node, e in edits.items() if isinstance(e.target, Affine | recurrent.Recurrent)}
        members = tuple(dict.fromkeys(f"{label} at {path}" for target in made.values() for label, path in target.members))
        old, new = _kernels(node.target for node in match.merged), _kernels(made.values())
        growth = _largest(new) / max(_largest(old), 1e-300) if old and new and not self.dry else None
        result = " + ".join(dict.fromkeys(map_label(target, node) for node, target in made.items()))
        merge = Merge(match.kind, "", members, result, error, change.parameters, change.macs, growth)
        self.steps.append(Step(merge, [target.members for target in made.values()]))

    def _flatten_sums(self) -> None:
        """Writes sums of sums as one."""
        for node in list(self.captured.graph.nodes):
            while isinstance(node.target, Sum):
                place = _inner_sum(node)
                if place is None:
                    break
                term, factors = arguments(node)[place], node.target.factors
                scaled = tuple(factors[place] * factor for factor in term.target.factors)
                node.target = Sum((*factors[:place], *scaled, *factors[place + 1 :]))
                node.args = (*node.args[:place], *term.args, *node.args[place + 1 :])
                self.captured.graph.erase_node(term)


def _rule_name(rule: Rule) -> str:
    return str(getattr(rule, "__name__", rule))


def _inner_sum(node: fx.Node) -> int | None:
    """The position of a term of a sum that is a sum itself and is read by this one alone."""
    for place, term in enumerate(arguments(node)):
        if isinstance(term.target, Sum) and len(term.users) == 1 and node.args.count(term) == 1:
            return place
    return None


def _free_replaced_operations(graph: fx.Graph) -> None:
    """Frees the weights of maps that were merged further: fx keeps every operation that a node ever had as a key."""
    table = getattr(getattr(graph, "_find_nodes_lookup_table", None), "table", {})
    for key in [key for key, nodes in table.items() if not nodes]:
        del table[key]


def resized_values(region: list[fx.Node], edits: dict[fx.Node, Edit]) -> dict[fx.Node, Any]:
    """New example values for the nodes between merged maps, where the number of their channels changes."""
    values: dict[fx.Node, Any] = {node: edit.value for node, edit in edits.items() if edit.value is not None}
    for node in sorted(set(region)):
        if node in edits or not is_layout(node) or not any(other in values for other in node.all_input_nodes):
            continue
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda other: values.get(other, other.meta.get("val")))
        with enable_python_dispatcher():  # for sizes that are free
            values[node] = operation(node)(*args, **kwargs)
    return {node: value for node, value in values.items() if node not in edits}


def _kernels(targets: Iterable[Any]) -> list[Tensor]:
    """The weights of convolutions and linear layers among `targets`."""
    return [target.taps.weight for target in targets if isinstance(target, Affine) and not target.taps.is_scale]


def _largest(weights: list[Tensor]) -> float:
    return max(float(weight.abs().max()) for weight in weights)


def no_module(affine: Affine, axes: int) -> str | None:
    """Why no ordinary module computes a map of a tensor with this number of axes, or None."""
    taps = affine.taps
    if taps.is_scale or affine.axis is None:
        return None
    if taps.transposed:
        extra = [low - high for low, high in zip(taps.low, taps.high, strict=True)]
        most = [max(stride, dilation) for stride, dilation in zip(taps.stride, taps.dilation, strict=True)]
        fits = min(taps.low) >= 0 and all(0 <= n < limit for n, limit in zip(extra, most, strict=True))
        return None if fits else "no transposed convolution has its padding"
    if taps.size or (affine.axis == 1 and axes in (3, 4, 5)):
        return None
    return None if affine.axis == axes - 1 and taps.groups == 1 else "no linear layer works along its axis"


def _on_meta(target: Any) -> Any:
    """The same map or recurrent layer without values."""
    if isinstance(target, recurrent.Recurrent):
        return recurrent.on_meta(target)
    taps = target.taps
    if taps.weight.is_meta:
        return target
    bias = None if taps.bias is None else taps.bias.to("meta")
    return replace(target, taps=replace(taps, weight=taps.weight.to("meta"), bias=bias))
