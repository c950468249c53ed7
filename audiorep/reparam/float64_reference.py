"""What the original network computes in float64: the reference for every measurement."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from audiorep.errors import FuseError
from audiorep.reparam.capture import Capture
from audiorep.reparam.compare import Difference, difference, worst_of
from audiorep.reparam.emit import Emitter
from audiorep.reparam.engine import Engine
from audiorep.reparam.model_copies import double_copy
from audiorep.reparam.verify import OWN_LIMIT, Trial, in_first_state


def add_reference(model: nn.Module, captured: Capture, trials: list[Trial]) -> Difference:
    """Fills in what the original computes in float64 for each input; returns how far its own precision is from that.

    The reference is a float64 copy of the network. If the network changes precision by itself or does not run in float64,
    it is the captured graph in float64, which has been measured against the network.

    Raises:
        FuseError: its own rounding is so large that a measurement would show nothing.
    """
    graph = functools.partial(_graph_in_float64, captured)
    reference = graph() if _changes_precision(captured) else double_copy(model)
    try:
        _run_all(trials, reference, captured)
    except Exception:  # a network that mixes precisions
        _run_all(trials, graph(), captured)
    own = worst_of(difference(trial.expected, trial.own) for trial in trials)
    if not own.value <= OWN_LIMIT:
        raise FuseError(
            f"its own rounding is {own.value:.1e} of its largest output, so that nothing can be shown about merging."
        )
    return own


def _graph_in_float64(captured: Capture) -> nn.Module:
    """The captured graph with every precision in it made float64."""
    return Emitter(Engine(captured.copy(), dry=False), "Reference", double=True).emit()


def _run_all(trials: list[Trial], reference: nn.Module, captured: Capture) -> None:
    for trial in trials:
        trial.expected = trial.run(in_first_state(reference, captured), double=True)


def _changes_precision(captured: Capture) -> bool:
    """Whether the network changes precision by itself, so that its float64 copy would not compute in float64."""
    for node in captured.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        named = [arg for arg in (*node.args, *node.kwargs.values()) if isinstance(arg, torch.dtype)]
        inputs = [i.meta["val"] for i in node.all_input_nodes if isinstance(i.meta.get("val"), Tensor)]
        if named or any(i.is_floating_point() and i.dtype != value.dtype for i in inputs):
            return True
    return False
