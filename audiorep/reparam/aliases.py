"""Finds outputs that are views in the merged network and were new tensors in the original."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from audiorep.reparam.verify import Trial, copied_inputs


def outputs_to_copy(model: Callable[..., Any], made: Callable[..., Any], trial: Trial) -> set[int]:
    """The positions of the outputs that must be copied: they share memory in the merged network, and not in the original.

    A caller may write into a new tensor. If it were shared, that would change an input, another output or the next call.
    """
    after = _shared(made, trial)
    if not any(after):
        return set()  # whatever the original shares
    before = _shared(model, trial)
    return {index for index, (old, new) in enumerate(zip(before, after, strict=True)) if new - old}


def _shared(model: Callable[..., Any], trial: Trial) -> list[set[str]]:
    """For each output, what it shares memory with: inputs, earlier outputs, or the network (as another call shows)."""
    calls = [_call(model, trial) for _ in range(2)]  # both are kept alive, so that no memory is reused
    found: list[set[str]] = []
    memory = [[_memory(leaf) for leaf in leaves] for _, leaves in calls]
    inputs = [_memory(leaf) for leaf in calls[0][0]]
    for index, own in enumerate(memory[0]):
        shared = {f"input {i}" for i, other in enumerate(inputs) if own is not None and own == other}
        shared |= {f"output {i}" for i, other in enumerate(memory[0][:index]) if own is not None and own == other}
        found.append(shared | ({"network"} if own is not None and own == memory[1][index] else set()))
    return found


def _call(model: Callable[..., Any], trial: Trial) -> tuple[list[Any], list[Any]]:
    args, kwargs = copied_inputs(trial.args, trial.kwargs, double=False)
    with torch.no_grad():
        return pytree.tree_leaves((args, kwargs)), pytree.tree_leaves(model(*args, **kwargs))


def _memory(leaf: Any) -> int | None:
    """The address of a tensor's storage; None for other values and for empty or sparse tensors."""
    if not isinstance(leaf, Tensor) or leaf.is_sparse or not leaf.numel():
        return None
    return int(leaf.untyped_storage().data_ptr())
