"""Checks that a captured graph computes what the network computes, so that proofs about the graph hold for the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam.capture import Capture
from audiorep.reparam.compare import Difference, difference
from audiorep.reparam.model_copies import shallow_copy
from audiorep.reparam.rule_failures import first_line
from audiorep.reparam.verify import FLIPPED_FLOOR, Trial, other_inputs

# The graph has the same operations in the same precision. The kernel behind an operation may differ (attention in one
# piece or in three), by a few roundings in each of a hundred layers. 256 roundings are 3e-5 in float32. In half precision
# that would allow anything, so the limit is at most 1/32, which is 4 roundings of bfloat16.
ROUNDINGS, LARGEST = 256, 2.0**-5
_WITH_FAST_PATH = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
_COUNTER_SHIFT = 1009  # added to a counter, to see whether it is read; larger than any warm-up


class Replayed:
    """Runs a captured graph like the network, with its own copies of buffers."""

    def __init__(self, captured: Capture) -> None:
        self._captured = captured
        written = {target for target, _ in captured.updates}
        self._constants: dict[fx.Node, Any] = {
            node: constant.tensor.detach().clone() if node in written else constant.tensor
            for node, constant in captured.constants.items()
        }
        self._last = {}
        for node in captured.graph.nodes:
            for used in node.all_input_nodes:
                self._last[used] = node
        kept = [*captured.result, *(node for pair in captured.updates for node in pair)]
        self._kept = {node for node in kept if isinstance(node, fx.Node)}

    def __call__(self, *args: Any, **kwargs: Any) -> list[Any]:
        """The leaves of the output."""
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        values = self._constants | dict(zip((node for node, _ in self._captured.inputs), tensors, strict=True))
        for node in self._captured.graph.nodes:
            if node.op != "call_function":
                continue
            given, named = fx.node.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
            values[node] = node.target(*given, **named)
            for used in node.all_input_nodes:
                if self._last[used] is node and used not in self._kept and used.op == "call_function":
                    del values[used]  # frees memory
        for target, value in self._captured.updates:
            values[target].copy_(values[value])
        return [values[leaf] if isinstance(leaf, fx.Node) else leaf for leaf in self._captured.result]


def check_capture(model: nn.Module, captured: Capture, example: Trial, epsilon: float) -> tuple[list[Trial], float]:
    """Runs the original and its graph on the example and a second input; returns the inputs and the largest difference.

    All inputs run on one copy of the network, the example first and last. So a difference shows if the network keeps
    something from call to call that the graph does not keep.

    Args:
        model: the original, which is not changed.
        captured: its graph.
        example: the example, whose outputs are filled in.
        epsilon: the rounding of the network's precision.

    Raises:
        FuseError: the graph computes something else than the network; the message says why.
    """
    running, graph = shallow_copy(model), Replayed(captured)
    before = _plain_state(running)
    _runs(example, running, needed=True)
    second = next((trial for trial in other_inputs(captured) if _runs(trial, shallow_copy(running), needed=False)), None)
    taken = [example, *([second] if second else [])]
    for trial in taken[1:]:
        _runs(trial, running, needed=True)
    again = example.run(running, double=False)
    worst, limit = Difference(), min(ROUNDINGS * epsilon, LARGEST)
    outputs = [_replay(graph, trial) for trial in taken]
    last = _replay(graph, example) if captured.updates else outputs[0]
    for own, found in (*zip((trial.own for trial in taken), outputs, strict=True), (again, last)):
        worst = worst.worse(difference(own, found))
    changed = [place for place, value in _plain_state(running).items() if before.get(place) != value]
    if not _within(worst, limit):
        _refuse_nothing_but_nan(example.own)
        raise FuseError(_cause(model, captured, difference(example.own, again), worst, limit, changed))
    counter = _counter_that_matters(running, changed, example, limit)
    if counter:
        raise FuseError(f"it keeps `{counter}` from one call to the next and computes with it, which a graph does not.")
    if captured.updates:  # from here on each input is measured on a network in its first state
        taken[1:] = [trial for trial in taken[1:] if _runs(trial, shallow_copy(model), needed=False)]
    return taken, worst.value


def order_matters(model: nn.Module, example: Trial, epsilon: float) -> bool:
    """Whether the outputs change when the keys of the example's dictionaries come in another order."""
    turned = _reversed_keys((example.args, example.kwargs))
    if pytree.tree_structure(turned) == pytree.tree_structure((example.args, example.kwargs)):
        return False
    try:
        found = Trial(*turned).run(shallow_copy(model), double=False)
    except Exception:  # whatever the network raises
        return True
    return not _within(difference(example.own, found), min(ROUNDINGS * epsilon, LARGEST))


def _reversed_keys(value: Any) -> Any:
    """The same containers with the keys of plain dictionaries in the opposite order."""
    if type(value) is dict:
        return {key: _reversed_keys(value[key]) for key in reversed(value)}
    return type(value)(_reversed_keys(item) for item in value) if type(value) in (list, tuple) else value


def _runs(trial: Trial, running: nn.Module, needed: bool) -> bool:
    """Runs the original on an input and keeps its outputs; if it fails, raises if `needed`, else returns False."""
    try:
        trial.own = trial.run(running, double=False)
    except Exception as error:
        if needed:
            raise FuseError(f"the network does not run on this example: {type(error).__name__}: {first_line(error)}") from error
        return False  # whatever the network raises at sizes that it does not take
    return True


def _replay(graph: Replayed, trial: Trial) -> list[Any]:
    try:
        return trial.run(graph, double=False)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise FuseError(f"its captured graph does not run on {trial.shapes}: {first_line(error)}") from error


def _refuse_nothing_but_nan(outputs: list[Any]) -> None:
    if any(isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel() and leaf.isnan().all() for leaf in outputs):
        raise FuseError("an output of it is nothing but NaN on this example, so that nothing can be shown.")


def _cause(model: nn.Module, captured: Capture, calls: Difference, worst: Difference, limit: float, changed: list[Any]) -> str:
    """Why the captured graph computes something else than the network.

    Args:
        model: the network.
        captured: its graph.
        calls: the difference between two calls of the network with the example.
        worst: the largest difference between the network and the graph.
        limit: the largest difference of floats that is allowed.
        changed: plain attributes that calls changed, as (module, attribute).
    """
    if not captured.updates and not _within(calls, limit):
        drawn = _random_operation(captured)
        kept = f"it keeps `{'.'.join(filter(None, changed[0]))}`" if changed else "it keeps something"
        why = f"it draws at random ({drawn})" if drawn else f"{kept} from one call to the next"
        return f"{why}: two calls with the same input differ by {_amount(calls)}."
    fast = [path for path, module in model.named_modules() if isinstance(module, _WITH_FAST_PATH)]
    reason = f"; `{fast[0]}` runs on a fast path that a capture does not see" if fast else ""
    return f"its captured graph gives something else than the network itself ({_amount(worst)} off){reason}."


def _amount(found: Difference) -> str:
    return f"{found.value:.1e}" if found.value else f"{found.flipped:.2%} of the integers"


def _random_operation(captured: Capture) -> str:
    """The first operation of the graph that draws random numbers, or an empty text."""
    tag = torch.Tag.nondeterministic_seeded
    targets = [node.target for node in captured.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    found = [str(target) for target in targets if tag in target.tags and "attention" not in str(target)]
    return found[0] if found else ""


def _plain_state(model: nn.Module) -> dict[tuple[str, str], Any]:
    """The numbers that modules keep as plain attributes, by (module, attribute)."""
    return {
        (path, name): value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float) and name != "training"
    }


def _counter_that_matters(running: nn.Module, changed: list[tuple[str, str]], trial: Trial, limit: float) -> str:
    """A plain attribute that calls change and that the outputs depend on, or an empty text."""

    def matters(places: list[tuple[str, str]]) -> bool:
        with _shifted(running, places):
            try:
                return not _within(difference(trial.own, trial.run(running, double=False)), limit)
            except Exception:  # it uses the number and fails with another value
                return True

    if not changed or not matters(changed):
        return ""
    return ".".join(filter(None, next((place for place in changed if matters([place])), changed[0])))


def _within(found: Difference, limit: float) -> bool:
    return found.value <= limit and found.flipped <= FLIPPED_FLOOR


@contextmanager
def _shifted(model: nn.Module, places: list[tuple[str, str]]) -> Iterator[None]:
    before = {place: getattr(model.get_submodule(place[0]), place[1]) for place in places}
    for (path, name), value in before.items():
        setattr(model.get_submodule(path), name, not value if isinstance(value, bool) else value + _COUNTER_SHIFT)
    try:
        yield
    finally:
        for (path, name), value in before.items():
            setattr(model.get_submodule(path), name, value)
