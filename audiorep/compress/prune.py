"""Structured pruning: fewer channels, chosen by importance, until a network costs what it may.

Which channels go together is told by the dependency graph of the torch-pruning library (DepGraph, arXiv 2301.12900).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audiorep.errors import ConfigError, require

Importance = Literal["magnitude", "norm", "taylor"]
Scope = Literal["global", "stage"]
MOST = 0.9  # of a layer's channels that may go, so that none becomes a bottleneck
SHARES = (MOST, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of channels that are tried first: a layer all of whose channels matter least is left whole, so more may be less."""
STEPS = 8  # of the bisection: channels come in multiples, so finer shares are the same network
PRUNABLE = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


def prune(
    network: nn.Module,
    example: Tensor,
    cost: Callable[[nn.Module], float],
    keep: float,
    importance: Importance = "magnitude",
    scope: Scope = "global",
    multiple: int = 4,
    gradients: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """A copy of `network` with as many of its channels as fit into `keep` of its cost.

    Args:
        network: in evaluation mode, of convolutions, batch norms and linear layers; its `heads` keep all their outputs.
        example: what it takes, (1, 1, T, F).
        cost: what is to shrink, for example multiply-accumulates, parameters or milliseconds of the merged network.
        keep: the share of the cost that may be left, above 0 and below 1.
        importance: of a channel: `magnitude` of its weights, `norm` for the scale of its batch norm (arXiv 1708.06519), or
            `taylor` for weight times gradient (arXiv 1906.10771), which needs `gradients`.
        scope: channels compete with all others, or with those of their own stage.
        multiple: channels of a layer remain a multiple of it, which vector units like.
        gradients: fills in the gradients of the loss on labelled clips in the network it is given.

    Raises:
        ConfigError: a share that cannot be reached, or layers that cannot be pruned.
        MissingExtraError: torch-pruning is not installed.
    """
    _check(network, keep, importance, gradients)
    graded = copy.deepcopy(network)
    if importance == "taylor":
        assert gradients is not None
        gradients(graded)
    allowed = keep * cost(network)

    def smaller(share: float) -> nn.Module:
        return _pruned(graded, example, share, importance, scope, multiple)

    costs = []
    for high in SHARES:
        best = smaller(high)
        costs.append(cost(best))
        if costs[-1] <= allowed:
            break
    else:
        least, channels = min(costs) / allowed * keep, f" in multiples of {multiple} channels" if multiple > 1 else ""
        raise ConfigError(f"Pruning to {keep:.0%} of the cost is not possible; the least is {least:.0%}{channels}.")
    low = 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        made = smaller(middle)
        if cost(made) <= allowed:
            high, best = middle, made
        else:
            low = middle
    return best.eval()


def _check(network: nn.Module, keep: float, importance: str, gradients: object) -> None:
    if not 0 < keep < 1:
        raise ConfigError(f"Pruning keeps a share of the cost between 0 and 1; {keep:g} was asked for.")
    if importance == "taylor" and gradients is None:
        raise ConfigError("Importance by taylor needs gradients on labelled clips.")
    with_weights = {type(m) for m in network.modules() if any(True for _ in m.parameters(recurse=False))}
    if others := sorted(kind.__name__ for kind in with_weights if not issubclass(kind, PRUNABLE)):
        raise ConfigError(f"Networks with {', '.join(others)} cannot be pruned; convolutions, norms and linear layers can.")


def _pruned(
    network: nn.Module, example: Tensor, share: float, importance: Importance, scope: Scope, multiple: int
) -> nn.Module:
    """A copy without `share` of its channels."""
    pruning = require("torch_pruning", extra="compress")
    made = _copy(network)
    pruner = pruning.pruner.BasePruner(
        made,
        example,
        importance=_importance(pruning, importance),
        global_pruning=True,
        pruning_ratio=share,
        pruning_ratio_dict=dict.fromkeys(_stages(made), share) if scope == "stage" else None,
        max_pruning_ratio=MOST,
        ignored_layers=list(made.heads.modules()) if isinstance(made.heads, nn.Module) else [],
        round_to=multiple,
        output_transform=lambda outputs: sum(values.sum() for values in outputs.values()),
    )
    with torch.enable_grad():  # the library reads the graph off the autograd functions
        pruner.step()
    for parameter in made.parameters():
        parameter.grad = None
    return made


def _copy(network: nn.Module) -> nn.Module:
    """A copy with its gradients, which a deep copy leaves out."""
    made = copy.deepcopy(network)
    for there, here in zip(network.parameters(), made.parameters(), strict=True):
        here.grad = None if there.grad is None else there.grad.clone()
    return made


def _importance(pruning: Any, name: Importance) -> Any:
    table = pruning.importance
    kinds = {
        "magnitude": table.GroupMagnitudeImportance,
        "norm": table.BNScaleImportance,
        "taylor": table.GroupTaylorImportance,
    }
    if name not in kinds:
        raise ConfigError(f"importance is {name!r}; there are {', '.join(kinds)}.")
    return kinds[name]()


def _stages(network: nn.Module) -> list[nn.Module]:
    """The parts in which channels compete: the network's stages, or its parts."""
    stages = getattr(network, "stages", network)
    return [stage for name, stage in stages.named_children() if name != "heads"]
