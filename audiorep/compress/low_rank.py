"""Low rank: pointwise convolutions and linear layers as products of two thinner ones, where that costs less.

A singular value decomposition weighs errors as the network would feel them: by what a layer is really given (the response,
not the weight, is approximated: arXiv 1505.06798, section 3.1) and by the scale of the batch norm that follows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from audiorep.errors import ConfigError
from audiorep.models.resized import Factored

RIDGE = 1e-6  # of the mean second moment: what a layer is never given must not make its moments singular
STEPS = 12  # of the bisection over the energy

Moments = Mapping[str, Tensor]
"""{name of a layer: second moments of its inputs (C, C)}."""


def low_rank(network: nn.Module, energy: float, moments: Moments | None = None) -> nn.Module:
    """A copy of `network` in which each layer keeps the fewest ranks that hold `energy` of its response, where that is cheaper.

    Args:
        network: in evaluation mode.
        energy: share of the squared response of each layer that is kept, above 0 and at most 1.
        moments: of the layers' inputs on real clips (see `input_moments`); without them, inputs count alike.

    Raises:
        ConfigError: an energy out of range.
    """
    if not 0 < energy <= 1:
        raise ConfigError(f"The energy to keep lies above 0 and is at most 1; {energy:g} was asked for.")
    made = copy.deepcopy(network)
    for name, layer in _factorable(made):
        norm = _norm_after(made, name)
        moment = None if moments is None else moments.get(name)
        factored = _factored(layer, energy, moment, _gain(norm))
        if factored is not None:
            made.set_submodule(name, factored.train(layer.training))
    return made


def low_rank_to(
    network: nn.Module, cost: Callable[[nn.Module], float], keep: float, moments: Moments | None = None
) -> tuple[nn.Module, float]:
    """`low_rank` with the most energy, one for all layers, that brings `cost` down to `keep` of what it is; and that energy.

    Raises:
        ConfigError: a share that cannot be reached.
    """
    if not 0 < keep < 1:
        raise ConfigError(f"A share of the cost between 0 and 1 is kept; {keep:g} was asked for.")
    allowed = keep * cost(network)
    low, high = 0.0, 1.0
    best: nn.Module | None = None
    for _ in range(STEPS):
        middle = (low + high) / 2
        made = low_rank(network, middle, moments)
        if cost(made) <= allowed:
            low, best = middle, made
        else:
            high = middle
    if best is None:
        least = cost(low_rank(network, 1e-9, moments)) / allowed * keep
        raise ConfigError(f"Low rank cannot bring the cost down to {keep:.0%}; the least is {least:.0%}.")
    return best, low


def input_moments(network: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """The second moments (C, C) of what each pointwise layer of `network` is given, over `batches` of (B, 1, T, F).

    Raises:
        ConfigError: there are no batches.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...], result: Any) -> None:
            values = _inputs(layer, given[0]).double()
            sums[name] = sums.get(name, 0) + values.T @ values
            counts[name] = counts.get(name, 0) + len(values)

        return hook

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in _factorable(network)]
    try:
        with torch.no_grad():
            for batch in batches:
                network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not sums:
        raise ConfigError("Low rank by response needs clips to measure the layers' inputs on.")
    return {name: total / counts[name] for name, total in sums.items()}


def _factorable(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Plain pointwise convolutions and linear layers, by name."""
    inside = {name for name, module in network.named_modules() if isinstance(module, Factored)}
    return [
        (name, module)
        for name, module in network.named_modules()
        if name.rpartition(".")[0] not in inside and (_is_pointwise(module) or isinstance(module, nn.Linear))
    ]


def _is_pointwise(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.groups == 1
        and module.padding in ((0, 0), 0, "valid", "same")
    )


def _inputs(layer: nn.Module, given: Tensor) -> Tensor:
    """(n, C) of what a layer sees: (B, C, T, F) at its stride, or (B, …, C)."""
    if isinstance(layer, nn.Conv2d):
        rows, columns = layer.stride
        return given[:, :, ::rows, ::columns].permute(0, 2, 3, 1).reshape(-1, given.shape[1])
    return given.reshape(-1, given.shape[-1])


def _norm_after(network: nn.Module, name: str) -> nn.BatchNorm2d | None:
    """The batch norm that follows a layer in its sequence."""
    parent, _, own = name.rpartition(".")
    siblings = list(network.get_submodule(parent).named_children())
    place = [child for child, _ in siblings].index(own)
    after = siblings[place + 1][1] if place + 1 < len(siblings) else None
    return after if isinstance(after, nn.BatchNorm2d) else None


def _gain(norm: nn.BatchNorm2d | None) -> Tensor | None:
    """What a batch norm multiplies each channel by."""
    if norm is None or norm.running_var is None:
        return None
    scale = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight.detach()
    return (scale.double() / (norm.running_var.double() + norm.eps).sqrt()).abs()


def _factored(layer: nn.Module, energy: float, moment: Tensor | None, gain: Tensor | None) -> Factored | None:
    """The layer as a product, or None where that would cost as much."""
    weight = layer.weight.detach().flatten(1).double()  # type: ignore[operator]  # (out, in)
    outputs, inputs = weight.shape
    if moment is None:
        root = torch.eye(inputs, dtype=torch.float64)
    else:
        ridge = RIDGE * moment.diagonal().mean().clamp_min(1e-12)
        root = torch.linalg.cholesky(moment + ridge * torch.eye(inputs, dtype=torch.float64))
    scale = torch.ones(outputs, dtype=torch.float64) if gain is None else gain.clamp_min(1e-6 * gain.max().clamp_min(1e-12))
    left, values, right = torch.linalg.svd(scale[:, None] * weight @ root, full_matrices=False)
    kept = values.square().cumsum(0) / values.square().sum().clamp_min(1e-30)
    rank = int((kept < energy - 1e-12).sum()) + 1
    if rank * (inputs + outputs) >= inputs * outputs:
        return None
    first = torch.linalg.solve_triangular(root, right[:rank], upper=False, left=False)  # right · root⁻¹
    second = left[:, :rank] * values[:rank] / scale[:, None]
    made = Factored.like(layer, rank)
    with torch.no_grad():
        _set(made.first, first)
        _set(made.second, second)
        if layer.bias is not None:
            made.second.bias.copy_(layer.bias)  # type: ignore[operator,arg-type]
    return made


def _set(layer: nn.Module, weight: Tensor) -> None:
    layer.weight.copy_(weight.reshape(layer.weight.shape))  # type: ignore[operator,arg-type]
