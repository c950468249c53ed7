"""Re-parameterize any network, with proof: capture, merge what is exact and costs nothing, emit an ordinary module, verify."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from audiorep.errors import FuseError
from audiorep.reparam import calls, lapses
from audiorep.reparam.aliases import to_copy
from audiorep.reparam.capture import Capture, capture, is_single
from audiorep.reparam.compare import Difference, difference
from audiorep.reparam.copies import in_double, shallow, whole
from audiorep.reparam.counts import count, total_parameters
from audiorep.reparam.emit import Emitter
from audiorep.reparam.engine import Engine, macs_of
from audiorep.reparam.hooks import hooked
from audiorep.reparam.idle import settled
from audiorep.reparam.layout import hint
from audiorep.reparam.merge_check import FLOAT64_LIMIT
from audiorep.reparam.module import Fused
from audiorep.reparam.parts import by_parts
from audiorep.reparam.reference import measure, order_matters
from audiorep.reparam.report import Cost, Merge, Plan, Skip
from audiorep.reparam.verify import (
    FLIPPED_FLOOR,
    OWN_LIMIT,
    Trial,
    Verification,
    at_one,
    fresh,
    kept_conditions,
    measured,
    worst_of,
)

aten = torch.ops.aten


@dataclass(frozen=True)
class FuseResult(Plan):
    """A merged network and the report of what was done."""

    model: nn.Module = field(default_factory=nn.Module)
    """An ordinary module, equal to the original in evaluation mode."""
    verification: Verification = field(default_factory=lambda: Verification(0.0, 0.0, 0.0))
    """The measured differences."""
    conditions: tuple[str, ...] = ()
    """The calls that the network takes, in words."""

    def to_dict(self) -> dict[str, Any]:
        """As of a plan, with the verification."""
        gates = {**vars(self.verification), "passed": self.verification.passed, "failure": self.verification.failure}
        return {**super().to_dict(), "verification": gates, "conditions": list(self.conditions)}

    def table(self) -> str:
        """As of a plan, with the verification."""
        held = ["", "It takes calls in which:", *(f"  {condition}" for condition in self.conditions)] if self.conditions else []
        return "\n".join([super().table(), *held, "", *self.verification.lines()])

    __str__ = table


def fuse(model: nn.Module, /, *args: Any, **kwargs: Any) -> FuseResult:
    """A new network equal to `model`, with its linear branches, identities, norms and constant affines merged.

    Args:
        model: any network in evaluation mode; it is not changed.
        *args: an example of its inputs, as for `model(*args, **kwargs)`. Other batch sizes work afterwards, and other
            sizes where the original allows them.
        **kwargs: as `args`.

    Raises:
        FuseError: a module is in training mode (named, with what to do), or the example does not run.
    """
    _check(model, args, kwargs)
    try:
        result, _ = _whole(model, args, kwargs)
    except FuseError as error:
        _run(model, args, kwargs)
        merged, reports, skips = by_parts(model, args, kwargs, _whole, str(error))
        failure = _failure(merged, args, kwargs) if reports else ""
        if failure:
            merged, reports = whole(model), {}
            skips.append(Skip("", "network", f"with its parts merged it does not run on the example: {failure}"))
        return _joined(model, merged, reports, skips)
    return result


def plan(model: nn.Module, /, *args: Any, **kwargs: Any) -> Plan:
    """What `fuse` would do, from shapes alone: no weight is computed and no check is run.

    Raises:
        FuseError: as `fuse`, and where the network cannot be captured whole.
    """
    _check(model, args, kwargs)
    try:
        captured = capture(model, args, kwargs)
    except FuseError:
        _run(model, args, kwargs)
        raise
    engine = Engine(captured, dry=True)
    before = _cost(engine, total_parameters(model))
    engine.run()
    emitted = Emitter(engine, "Plan")
    made = emitted.emit()
    return Plan(*_report(engine, emitted, model), before, _cost(engine, total_parameters(made)))


def _check(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuses a network that trains, and an example that it does not take."""
    if not isinstance(model, nn.Module):
        raise FuseError(f"a torch.nn.Module is needed, not {type(model).__name__}.")
    if isinstance(model, torch.jit.ScriptModule):
        raise FuseError("a scripted network cannot be captured; fuse the original and script the result.")
    if not args and not kwargs:
        raise FuseError("an example of the network's inputs is needed: fuse(model, x).")
    active = [
        (path, module)
        for path, module in model.named_modules()
        if module.training
        and (
            (isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0)
            or (model.training and isinstance(module, nn.modules.batchnorm._BatchNorm))
        )
    ]
    if active:
        path, module = active[0]
        more = f" (and {len(active) - 1} more)" if len(active) > 1 else ""
        raise FuseError(
            f"`{path or 'the network'}` ({type(module).__name__}){more} is in training mode: call model.eval() first."
        )


def _run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuses an example that the network does not take."""
    try:
        with torch.no_grad():
            shallow(model)(*args, **kwargs)
    except Exception as error:
        raise FuseError(
            f"the network does not run on this example: {type(error).__name__}: {lapses.first_line(error)}"
        ) from error


def _failure(made: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Why a finished network does not run on the example; empty if it does."""
    try:
        Trial(args, kwargs).run(shallow(made), double=False)
    except Exception as error:  # whatever an operation raises
        return lapses.first_line(error) or type(error).__name__
    return ""


@dataclass(frozen=True)
class _Effort:
    """How a network is merged, from the quick way to the careful one."""

    twice: bool = True
    """Capture it with a batch of two where the example has one, so that the batch is free."""
    rounding: bool = False
    """Check each merge for its rounding in float32 too."""
    without: frozenset[str] = frozenset()
    """Kinds of merges that are given up."""

    def more(self, failed: FuseResult, kinds: list[str]) -> _Effort:
        """The next thing to try after a merged network that failed its check."""
        if self.twice and (failed.verification.refused or failed.verification.float64 > FLOAT64_LIMIT):
            return replace(self, twice=False)
        return replace(self, without=self.without | {kinds[-1]}) if self.rounding else replace(self, rounding=True)


def _whole(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[FuseResult, nn.Module]:
    """The network fused as one graph, and the same in float64; as it is where no merged form passes the check.

    Raises:
        FuseError: it cannot be captured.
    """
    effort = _Effort()
    while True:
        try:
            result, double, kinds = _attempt(model, args, kwargs, effort)
        except FuseError:
            if not effort.twice or not is_single(args, kwargs):
                raise
            effort = replace(effort, twice=False)
            continue
        except Exception as error:  # an operation that behaves as no other: leave the network, and say so
            raise FuseError(lapses.reason(error)) from error
        if result.verification.passed or not kinds:
            break
        effort = effort.more(result, kinds)
    if not result.merges or not result.verification.passed:
        failure = result.verification.failure
        left = Skip("", "network", f"its merged form failed the check: {failure}") if failure else None
        skipped = (*result.skipped, left) if left else result.skipped
        kept = replace(result, merges=(), skipped=skipped, after=result.before, model=whole(model), conditions=())
        return kept, double
    return result, double


def _attempt(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], effort: _Effort
) -> tuple[FuseResult, nn.Module, list[str]]:
    captured = settled(model, capture(model, args, kwargs, effort.twice))
    call = calls.bind(model, args, kwargs)
    inside, off = measure(model, captured, Trial(call.args, call.kwargs), _epsilon(model))
    unfused = _in_float64(model, captured, inside)
    engine = Engine(captured, dry=False, without=effort.without, rounding=effort.rounding)
    before = _cost(engine, total_parameters(model))
    engine.run()
    double = Emitter(engine, type(model).__name__, double=True).emit()
    hard = _worst(measured(trial.expected, trial, fresh(double, captured), double=True) for trial in inside)
    emitter = Emitter(engine, type(model).__name__)
    made, conditions = _finished(model, captured, emitter, inside, unfused)
    soft, refused = _final(made, captured, replace(inside[0], args=args, kwargs=kwargs), inside[1:])
    floats, flips = (hard.value, soft.value, unfused.value), (hard.flipped, soft.flipped, unfused.flipped)
    shapes = tuple(trial.shapes for trial in inside)
    verification = Verification(*floats, shapes, _epsilon(model), off, *flips, refused)
    merges, skipped = _report(engine, emitter, model)
    after = _cost(engine, total_parameters(made))
    kinds = list(dict.fromkeys(step.merge.kind for step in engine.steps))
    words = tuple(conditions)
    return FuseResult(merges, skipped, before, after, model=made, verification=verification, conditions=words), double, kinds


def _worst(found: Iterable[Difference]) -> Difference:
    return functools.reduce(Difference.worse, found, Difference())


def _finished(
    model: nn.Module, captured: Capture, emitter: Emitter, inside: list[Trial], unfused: Difference
) -> tuple[Fused, list[str]]:
    """The merged network with what it asks of its calls, and that in words."""
    made = emitter.emit()
    copies = to_copy(shallow(model), fresh(made, captured), inside[-1])
    rounding = max(4 * unfused.value + 64 * _epsilon(model), FLOAT64_LIMIT)
    outside = at_one(captured, functools.partial(_taken, shallow(model)))
    kept = kept_conditions(captured, outside, functools.partial(_same, made, captured, rounding))
    lines = calls.lines(captured.call, captured.sizes.held())
    lines += [f"require({text}, {text!r})" for text in captured.sizes.texts(kept)]
    made = made.with_code(emitter.source(lines, copies))
    made.forms = calls.forms(captured.call, order_matters(model, inside[0], _epsilon(model)))
    return made, [*calls.words(captured.call, captured.sizes.held()), *captured.sizes.words(kept)]


def _final(made: Fused, captured: Capture, example: Trial, more: list[Trial]) -> tuple[Difference, str]:
    """How far the finished network is from the original, and why it does not run on the example if it does not."""
    try:
        first = difference(example.expected, example.run(fresh(made, captured), double=False))
    except Exception as error:  # whatever an operation raises
        return Difference(math.inf, 1.0), f"it does not run on the example: {lapses.first_line(error)}"
    return _worst([first, *(measured(trial.expected, trial, fresh(made, captured), double=False) for trial in more)]), ""


def _epsilon(model: nn.Module) -> float:
    dtypes = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return max((torch.finfo(dtype).eps for dtype in dtypes), default=torch.finfo(torch.float32).eps)


def _in_float64(model: nn.Module, captured: Capture, inside: list[Trial]) -> Difference:
    """Fills in what the original makes of its inputs in float64; how far its own precision is from that.

    A network that changes precision by itself, or that does not run in float64, is replaced by its captured graph, which
    has been measured against it.

    Raises:
        FuseError: its own rounding leaves nothing to be shown.
    """
    graph = functools.partial(_graph_in_double, captured)
    made = graph() if _casts(captured) else in_double(model)
    try:
        _expect(inside, made, captured)
    except Exception:  # a network that mixes precisions
        _expect(inside, graph(), captured)
    own = _worst(difference(trial.expected, trial.own) for trial in inside)
    if not own.value <= OWN_LIMIT:
        raise FuseError(
            f"its own rounding is {own.value:.1e} of its largest output, so that nothing can be shown about merging."
        )
    return own


def _graph_in_double(captured: Capture) -> nn.Module:
    """The captured graph with all its precisions made float64: the reference for a network that changes precision itself."""
    return Emitter(Engine(captured.copy(), dry=False), "Reference", double=True).emit()


def _expect(inside: list[Trial], reference: nn.Module, captured: Capture) -> None:
    for trial in inside:
        trial.expected = trial.run(fresh(reference, captured), double=True)


def _taken(own: nn.Module, trial: Trial) -> bool:
    """Runs the original on an input; False if it does not take it."""
    try:
        trial.own = trial.run(own, double=False)
    except Exception:  # whatever the network raises at sizes that it does not take
        return False
    return True


def _casts(captured: Capture) -> bool:
    """Whether the network changes precision by itself, so that its float64 copy would not be in float64."""
    for node in captured.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        named = [arg for arg in (*node.args, *node.kwargs.values()) if isinstance(arg, torch.dtype)]
        inputs = [i.meta["val"] for i in node.all_input_nodes if isinstance(i.meta.get("val"), Tensor)]
        if named or any(i.is_floating_point() and i.dtype != value.dtype for i in inputs):
            return True
    return False


def _same(made: nn.Module, captured: Capture, tolerance: float, trial: Trial) -> bool:
    """Whether a merged network computes what the original does: another function differs by far more than rounding."""
    found = measured(trial.own, trial, fresh(made, captured), double=False)
    return found.value <= tolerance and found.flipped <= FLIPPED_FLOOR


def _report(engine: Engine, emitter: Emitter, model: nn.Module) -> tuple[tuple[Merge, ...], tuple[Skip, ...]]:
    alive = {path: target for target, path in emitter.paths.items()}
    merges = []
    for step in engine.steps:
        into = [path for path, target in alive.items() if any(_contains(target, members) for members in step.members)]
        fields = {**vars(step.merge), "into": ", ".join(into) or "the input"}
        merges.append(Merge(**fields))
    skips = [*engine.skips(), *_hooks(model)]
    return tuple(merges), tuple(skips)


def _contains(target: Any, members: tuple[tuple[str, str], ...]) -> bool:
    """Whether a map of the new network is made of all these."""
    own = getattr(target, "members", None)
    return own is not None and getattr(target, "raw", True) in (None, False) and set(members) <= set(own)


def _hooks(model: nn.Module) -> list[Skip]:
    return [
        Skip(path, "forward hook", "what it does to values is captured; what else it does happens in the original only")
        for path in hooked(model)
    ]


def _cost(engine: Engine, parameters: int) -> Cost:
    """Of the working graph; multiply-accumulates for the example as it was given."""
    total = sum(
        macs_of(node.target, node.meta.get("val"), node.args) + _product(node)
        for node in engine.captured.graph.nodes
        if node.op == "call_function"
    )
    return Cost(parameters, total // (2 if engine.captured.doubled else 1), count(engine))


def _product(node: fx.Node) -> int:
    """Multiply-accumulates of a matrix product, attention or convolution that is no map with constant weights."""
    name, value = str(node.target), node.meta.get("val")
    if not isinstance(value, Tensor) or not name.startswith("aten."):
        return 0
    size = math.prod(hint(n) for n in value.shape)
    tensors = [arg for arg in node.args if isinstance(arg, fx.Node) and isinstance(arg.meta.get("val"), Tensor)]
    if name.startswith(("aten.bmm", "aten.matmul", "aten.mm")):
        return size * hint(tensors[0].meta["val"].shape[-1])
    if name.startswith("aten.scaled_dot_product_attention"):
        query, key = (tensor.meta["val"].shape for tensor in tensors[:2])
        return size * hint(key[-2]) + math.prod(hint(n) for n in query) * hint(key[-2])
    if name.startswith(("aten.conv1d", "aten.conv2d", "aten.conv3d")):
        return size * math.prod(hint(n) for n in tensors[1].meta["val"].shape[1:])
    return 0


def _joined(model: nn.Module, merged: nn.Module, reports: dict[str, FuseResult], skips: list[Skip]) -> FuseResult:
    """One report of several parts."""
    merges = tuple(Merge(**{**vars(m), "into": f"{path}.{m.into}"}) for path, part in reports.items() for m in part.merges)
    skipped = [Skip(f"{path}.{s.path}".rstrip("."), s.what, s.reason) for path, part in reports.items() for s in part.skipped]
    sides = []
    for side in ("before", "after"):
        costs = [getattr(part, side) for part in reports.values()]
        kinds = {kind for cost in costs for kind in cost.operations}
        operations = {kind: sum(cost.operations.get(kind, 0) for cost in costs) for kind in kinds}
        total = total_parameters(model if side == "before" else merged)
        sides.append(Cost(total, sum(cost.macs for cost in costs), operations))
    conditions = tuple(f"in {path}: {text}" for path, part in reports.items() for text in part.conditions)
    worst = worst_of([part.verification for part in reports.values()])
    return FuseResult(merges, (*skips, *skipped), sides[0], sides[1], tuple(reports), merged, worst, conditions)


__all__ = ["FuseResult", "Fused", "fuse", "plan"]
