"""Re-parameterizes any network: captures it, merges what is exact and costs nothing, writes an ordinary module, verifies it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from audiorep.errors import FuseError
from audiorep.reparam import rule_failures
from audiorep.reparam.aliases import outputs_to_copy
from audiorep.reparam.capture import Capture, capture, is_single
from audiorep.reparam.capture_check import check_capture, order_matters
from audiorep.reparam.compare import Difference, difference, worst_of
from audiorep.reparam.costs import cost, total_parameters
from audiorep.reparam.emit import Emitter
from audiorep.reparam.engine import Engine
from audiorep.reparam.example_call import argument_forms, bind_example, call_sentences, check_lines
from audiorep.reparam.float64_reference import add_reference
from audiorep.reparam.hooks import hooked_modules
from audiorep.reparam.merge_check import FLOAT64_LIMIT
from audiorep.reparam.model_copies import full_copy, shallow_copy
from audiorep.reparam.module import Fused
from audiorep.reparam.parts import fuse_by_parts
from audiorep.reparam.report import Cost, Merge, Plan, Skip
from audiorep.reparam.size_one import mark_idle_conditions
from audiorep.reparam.verify import (
    FLIPPED_FLOOR,
    Trial,
    Verification,
    in_first_state,
    inputs_at_one,
    needed_conditions,
    output_difference,
    worst_verification,
)


@dataclass(frozen=True)
class FuseResult(Plan):
    """A merged network and the report of what was done."""

    model: nn.Module = field(default_factory=nn.Module)
    """An ordinary module, equal to the original in evaluation mode."""
    verification: Verification = field(default_factory=lambda: Verification(0.0, 0.0, 0.0))
    """The measured differences."""
    conditions: tuple[str, ...] = ()
    """Sentences that describe the calls that the network takes."""

    def to_dict(self) -> dict[str, Any]:
        """The plan's values, with the verification and the conditions."""
        gates = {**vars(self.verification), "passed": self.verification.passed, "failure": self.verification.failure}
        return {**super().to_dict(), "verification": gates, "conditions": list(self.conditions)}

    def table(self) -> str:
        """The plan's table, with the conditions and the verification."""
        held = ["", "It takes calls in which:", *(f"  {condition}" for condition in self.conditions)] if self.conditions else []
        return "\n".join([super().table(), *held, "", *self.verification.lines()])

    __str__ = table


def fuse(model: nn.Module, /, *args: Any, **kwargs: Any) -> FuseResult:
    """A new network equal to `model`, with its linear branches, identities, norms and constant affines merged.

    Args:
        model: any network in evaluation mode; it is not changed.
        *args: an example of its inputs, as for `model(*args, **kwargs)`. Other batch sizes work afterwards, and other
            sizes where the original allows them.
        **kwargs: the example's keyword arguments.

    Raises:
        FuseError: a module is in training mode (named, with what to do), or the example does not run.
    """
    _refuse_unusable(model, args, kwargs)
    try:
        result, _ = _fuse_whole(model, args, kwargs)
    except FuseError as error:
        _refuse_failing_example(model, args, kwargs)
        merged, reports, skips = fuse_by_parts(model, args, kwargs, _fuse_whole, str(error))
        failure = _failure(merged, args, kwargs) if reports else ""
        if failure:
            merged, reports = full_copy(model), {}
            skips.append(Skip("", "network", f"with its parts merged it does not run on the example: {failure}"))
        return _joined(model, merged, reports, skips)
    return result


def plan(model: nn.Module, /, *args: Any, **kwargs: Any) -> Plan:
    """What `fuse` would do, from shapes alone: no weight is computed and no check is run.

    Raises:
        FuseError: `fuse` would raise it too, or the network cannot be captured whole.
    """
    _refuse_unusable(model, args, kwargs)
    try:
        captured = capture(model, args, kwargs)
    except FuseError:
        _refuse_failing_example(model, args, kwargs)
        raise
    engine = Engine(captured, dry=True)
    before = cost(engine, total_parameters(model))
    engine.run()
    emitter = Emitter(engine, "Plan")
    made = emitter.emit()
    return Plan(*_report(engine, emitter, model), before, cost(engine, total_parameters(made)))


def _refuse_unusable(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuses what is no network in evaluation mode with an example."""
    if not isinstance(model, nn.Module):
        raise FuseError(f"a torch.nn.Module is needed, not {type(model).__name__}.")
    if isinstance(model, torch.jit.ScriptModule):
        raise FuseError("a scripted network cannot be captured; fuse the original and script the result.")
    if not args and not kwargs:
        raise FuseError("an example of the network's inputs is needed: fuse(model, x).")
    active = [(path, module) for path, module in model.named_modules() if module.training and _trains(module, model)]
    if active:
        path, module = active[0]
        more = f" (and {len(active) - 1} more)" if len(active) > 1 else ""
        raise FuseError(
            f"`{path or 'the network'}` ({type(module).__name__}){more} is in training mode: call model.eval() first."
        )


def _trains(module: nn.Module, model: nn.Module) -> bool:
    """Whether a module in training mode computes something else than in evaluation mode, and not on purpose.

    A batch norm in training mode inside a network in evaluation mode is left so on purpose.
    """
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return model.training and isinstance(module, nn.modules.batchnorm._BatchNorm)


def _refuse_failing_example(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuses an example that the network does not take."""
    try:
        with torch.no_grad():
            shallow_copy(model)(*args, **kwargs)
    except Exception as error:
        raise FuseError(
            f"the network does not run on this example: {type(error).__name__}: {rule_failures.first_line(error)}"
        ) from error


def _failure(made: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Why a finished network does not run on the example; empty if it does."""
    try:
        Trial(args, kwargs).run(shallow_copy(made), double=False)
    except Exception as error:  # whatever an operation raises
        return rule_failures.first_line(error) or type(error).__name__
    return ""


@dataclass(frozen=True)
class _Settings:
    """How a network is merged. The first settings are the fastest; `after_failure` gives more careful ones."""

    double_batch: bool = True
    """Capture the network with a batch of two where the example has a batch of one, so that the batch size is free."""
    check_rounding: bool = False
    """Check the rounding of each merge in float32 too."""
    without: frozenset[str] = frozenset()
    """Kinds of merges that are not made."""

    def after_failure(self, failed: FuseResult, kinds: list[str]) -> _Settings:
        """The settings to try after a merged network with these kinds of merges failed its check."""
        if self.double_batch and (failed.verification.refused or failed.verification.float64 > FLOAT64_LIMIT):
            return replace(self, double_batch=False)
        if self.check_rounding:
            return replace(self, without=self.without | {kinds[-1]})
        return replace(self, check_rounding=True)


def _fuse_whole(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[FuseResult, nn.Module]:
    """The network fused as one graph, and the same in float64; the network as it is if no merged form passes the check.

    Raises:
        FuseError: it cannot be captured.
    """
    settings = _Settings()
    while True:
        try:
            result, double, kinds = _fuse_once(model, args, kwargs, settings)
        except FuseError:
            if not settings.double_batch or not is_single(args, kwargs):
                raise
            settings = replace(settings, double_batch=False)
            continue
        except Exception as error:  # an unusual operation: leave the network and report it
            raise FuseError(rule_failures.reason(error)) from error
        if result.verification.passed or not kinds:
            break
        settings = settings.after_failure(result, kinds)
    if result.merges and result.verification.passed:
        return result, double
    return _unmerged(model, result), double


def _unmerged(model: nn.Module, result: FuseResult) -> FuseResult:
    """The result for a network that is left as it is."""
    failure = result.verification.failure
    left = [Skip("", "network", f"its merged form failed the check: {failure}")] if failure else []
    skipped = (*result.skipped, *left)
    return replace(result, merges=(), skipped=skipped, after=result.before, model=full_copy(model), conditions=())


def _fuse_once(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], settings: _Settings
) -> tuple[FuseResult, nn.Module, list[str]]:
    """(the result, the merged network in float64, the kinds of merges in it) with these settings."""
    captured = mark_idle_conditions(model, capture(model, args, kwargs, settings.double_batch))
    call = bind_example(model, args, kwargs)
    inputs, captured_difference = check_capture(model, captured, Trial(call.args, call.kwargs), _epsilon(model))
    unfused = add_reference(model, captured, inputs)
    engine = Engine(captured, dry=False, without=settings.without, check_rounding=settings.check_rounding)
    before = cost(engine, total_parameters(model))
    engine.run()
    double = Emitter(engine, type(model).__name__, double=True).emit()
    exact = worst_of(
        output_difference(trial.expected, trial, in_first_state(double, captured), double=True) for trial in inputs
    )
    emitter = Emitter(engine, type(model).__name__)
    made, conditions = _with_checked_calls(model, captured, emitter, inputs, unfused)
    own, refused = _own_precision_difference(made, captured, replace(inputs[0], args=args, kwargs=kwargs), inputs[1:])
    verification = Verification(
        float64=exact.value,
        float32=own.value,
        unfused_float32=unfused.value,
        sizes=tuple(trial.shapes for trial in inputs),
        epsilon=_epsilon(model),
        captured=captured_difference,
        flipped64=exact.flipped,
        flipped=own.flipped,
        unfused_flipped=unfused.flipped,
        refused=refused,
    )
    merges, skipped = _report(engine, emitter, model)
    after = cost(engine, total_parameters(made))
    result = FuseResult(merges, skipped, before, after, ("",), made, verification, tuple(conditions))
    return result, double, list(dict.fromkeys(step.merge.kind for step in engine.steps))


def _with_checked_calls(
    model: nn.Module, captured: Capture, emitter: Emitter, inputs: list[Trial], unfused: Difference
) -> tuple[Fused, list[str]]:
    """The merged network with the checks of its calls, and the sentences that describe them."""
    made = emitter.emit()
    copies = outputs_to_copy(shallow_copy(model), in_first_state(made, captured), inputs[-1])
    rounding = max(4 * unfused.value + 64 * _epsilon(model), FLOAT64_LIMIT)
    outside = inputs_at_one(captured, functools.partial(_runs, shallow_copy(model)))
    needed = needed_conditions(captured, outside, functools.partial(_is_equal, made, captured, rounding))
    fixed = captured.sizes.fixed()
    lines = check_lines(captured.call, fixed)
    lines += [f"require({code}, {code!r})" for code in captured.sizes.expressions(needed)]
    made = made.with_code(emitter.source(lines, copies))
    made.forms = argument_forms(captured.call, order_matters(model, inputs[0], _epsilon(model)))
    return made, [*call_sentences(captured.call, fixed), *captured.sizes.sentences(needed)]


def _own_precision_difference(made: Fused, captured: Capture, example: Trial, others: list[Trial]) -> tuple[Difference, str]:
    """How far the merged network is from the original, and why it does not run on the example if it does not."""
    try:
        first = difference(example.expected, example.run(in_first_state(made, captured), double=False))
    except Exception as error:  # whatever an operation raises
        return Difference(math.inf, 1.0), f"it does not run on the example: {rule_failures.first_line(error)}"
    rest = (output_difference(trial.expected, trial, in_first_state(made, captured), double=False) for trial in others)
    return worst_of([first, *rest]), ""


def _epsilon(model: nn.Module) -> float:
    """The rounding of the coarsest precision among the parameters."""
    dtypes = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return max((torch.finfo(dtype).eps for dtype in dtypes), default=torch.finfo(torch.float32).eps)


def _runs(original: nn.Module, trial: Trial) -> bool:
    """Runs the original on an input and keeps what it gives; False if it does not take the input."""
    try:
        trial.own = trial.run(original, double=False)
    except Exception:  # whatever the network raises at sizes that it does not take
        return False
    return True


def _is_equal(made: nn.Module, captured: Capture, tolerance: float, trial: Trial) -> bool:
    """Whether a merged network computes what the original does: another function differs by far more than rounding."""
    found = output_difference(trial.own, trial, in_first_state(made, captured), double=False)
    return found.value <= tolerance and found.flipped <= FLIPPED_FLOOR


def _report(engine: Engine, emitter: Emitter, model: nn.Module) -> tuple[tuple[Merge, ...], tuple[Skip, ...]]:
    """The merges, each with the path of its module in the new network, and what was left."""
    merges = []
    for step in engine.steps:
        into = [path for target, path in emitter.paths.items() if any(_has_all(target, members) for members in step.members)]
        merges.append(replace(step.merge, into=", ".join(into) or "the input"))
    return tuple(merges), (*engine.skips(), *_hook_skips(model))


def _has_all(target: Any, members: tuple[tuple[str, str], ...]) -> bool:
    """Whether a map of the new network was merged from all these members."""
    own = getattr(target, "members", None)
    return own is not None and getattr(target, "raw", True) in (None, False) and set(members) <= set(own)


def _hook_skips(model: nn.Module) -> list[Skip]:
    reason = "what it does to values is captured; what else it does happens in the original only"
    return [Skip(path, "forward hook", reason) for path in hooked_modules(model)]


def _joined(model: nn.Module, merged: nn.Module, reports: dict[str, FuseResult], skips: list[Skip]) -> FuseResult:
    """One report of a network that was merged by parts."""
    merges = tuple(replace(m, into=f"{path}.{m.into}") for path, part in reports.items() for m in part.merges)
    skipped = [replace(s, path=f"{path}.{s.path}".rstrip(".")) for path, part in reports.items() for s in part.skipped]
    before = _total_cost([part.before for part in reports.values()], total_parameters(model))
    after = _total_cost([part.after for part in reports.values()], total_parameters(merged))
    conditions = tuple(f"in {path}: {text}" for path, part in reports.items() for text in part.conditions)
    worst = worst_verification([part.verification for part in reports.values()])
    return FuseResult(merges, (*skips, *skipped), before, after, tuple(reports), merged, worst, conditions)


def _total_cost(costs: list[Cost], parameters: int) -> Cost:
    kinds = {kind for part in costs for kind in part.operations}
    operations = {kind: sum(part.operations.get(kind, 0) for part in costs) for kind in kinds}
    return Cost(parameters, sum(part.macs for part in costs), operations)


__all__ = ["FuseResult", "Fused", "fuse", "plan"]
