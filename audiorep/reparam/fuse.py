"""Merge batch norms, parallel branches and identities of a network built from `Sequential` and `Parallel`, with proof.

The input is never changed. What is merged is exact (see `algebra`); `verify` measures it in float64 and float32.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiorep.errors import FuseError
from audiorep.reparam import algebra
from audiorep.reparam.algebra import Taps
from audiorep.reparam.parallel import Parallel

_CONVOLUTIONS = tuple(algebra.CONVOLUTIONS.values())
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

FLOAT64_LIMIT = 1e-10  # relative; float64 rounding of a deep network stays a thousand times below
FLOAT32_FACTOR = 4.0  # fused float32 error over unfused float32 error, both against float64


def fuse(network: nn.Module) -> nn.Module:
    """A new network equal to `network.eval()`, with every batch norm folded and every `Parallel` merged.

    Raises:
        FuseError: a batch norm is in training mode or has no statistics, or branches do not add up; named by its path.
    """
    return _rebuild(network, "", _merge)


def merge_branches(network: nn.Module) -> nn.Module:
    """The authors' merged form: branches become one convolution, other batch norms and inner identities stay.

    Raises:
        FuseError: as `fuse`.
    """
    return _rebuild(network, "", _merge_branches)


@dataclass(frozen=True)
class Verification:
    """How far a fused network is from its original, relative to the largest output in magnitude."""

    float64: float
    """Fused against original, both in float64."""
    float32: float
    """Fused in float32 against original in float64."""
    unfused_float32: float
    """Original in float32 against original in float64."""

    @property
    def passed(self) -> bool:
        """Whether both gates hold."""
        floor = torch.finfo(torch.float32).eps
        return self.float64 <= FLOAT64_LIMIT and self.float32 <= FLOAT32_FACTOR * max(self.unfused_float32, floor)


def verify(network: nn.Module, example: Tensor, form: Callable[[nn.Module], nn.Module] = fuse) -> Verification:
    """Measured difference between `network` and `form(network)` on `example`, float32 of the network's input shape."""
    single, double = copy.deepcopy(network).eval().float(), copy.deepcopy(network).eval().double()
    with torch.no_grad():
        truth = _outputs(double(example.double()))
        fused_double = _outputs(form(double)(example.double()))
        fused_single = _outputs(form(single)(example.float()))
        unfused_single = _outputs(single(example.float()))
    scale = truth.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    errors = [((other.double() - truth).abs().max() / scale).item() for other in (fused_double, fused_single, unfused_single)]
    return Verification(*errors)


def _outputs(result: Tensor | dict[str, Tensor]) -> Tensor:
    return result if isinstance(result, Tensor) else torch.cat([value.flatten() for value in result.values()])


def _rebuild(module: nn.Module, path: str, merge: Callable[[nn.Module, str], nn.Module]) -> nn.Module:
    """`module` with `merge` applied to every `Sequential` and `Parallel`; everything else copied."""
    if isinstance(module, (nn.Sequential, Parallel)):
        return merge(module, path)
    if not module._modules:
        return copy.deepcopy(module)
    children = {name: _rebuild(child, f"{path}.{name}".lstrip("."), merge) for name, child in module.named_children()}
    shell = copy.copy(module)
    shell._parameters = copy.deepcopy(module._parameters)
    shell._buffers = copy.deepcopy(module._buffers)
    shell._modules = dict(children)
    return shell


def _merge(module: nn.Module, path: str) -> nn.Module:
    taps = _taps(module, path)
    if taps is not None:
        return algebra.to_module(taps, _dtype(module))
    if isinstance(module, Parallel):
        raise FuseError(f"{path}: its branches are not all convolutions, batch norms and identities.")
    return nn.Sequential(_folded_children(module, path))


def _merge_branches(module: nn.Module, path: str) -> nn.Module:
    if isinstance(module, Parallel):
        branches = OrderedDict((name, child) for name, child in module.items() if not isinstance(child, nn.Identity))
        merged = _merge(Parallel(branches), path)
        identities = {name: nn.Identity() for name, child in module.items() if isinstance(child, nn.Identity)}
        return Parallel({"merged": merged, **identities}) if identities else merged
    return nn.Sequential(
        OrderedDict((name, _rebuild(child, f"{path}.{name}", _merge_branches)) for name, child in module.named_children())
    )


def _folded_children(sequence: nn.Module, path: str) -> OrderedDict[str, nn.Module]:
    """The children of a `Sequential`, each batch norm folded into the convolution before it."""
    children: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in sequence.named_children():
        previous = next(reversed(children), None)
        if isinstance(child, _BATCH_NORMS) and previous is not None and isinstance(children[previous], _CONVOLUTIONS):
            folded = _fold(algebra.from_module(children[previous]), child, f"{path}.{name}")  # type: ignore[arg-type]
            children[previous] = algebra.to_module(folded, _dtype(child))
        else:
            children[name] = _rebuild(child, f"{path}.{name}", _merge)
    return children


def _taps(module: nn.Module, path: str, channels: int | None = None) -> Taps | None:
    """`module` as one convolution, or None where it is not linear; an identity needs its `channels` from a sibling."""
    if isinstance(module, _CONVOLUTIONS):
        return algebra.from_module(module)
    if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[1], _BATCH_NORMS):
        inner = _taps(module[0], path)
        return None if inner is None else _fold(inner, module[1], path)
    if isinstance(module, Parallel):
        return _sum(module, path)
    return None


def _sum(parallel: Parallel, path: str) -> Taps | None:
    branches = [_taps(child, f"{path}.{name}") for name, child in parallel.items() if not isinstance(child, nn.Identity)]
    if not branches or any(branch is None for branch in branches):
        return None
    total: Taps = branches[0]  # type: ignore[assignment]
    identities = len(parallel) - len(branches)
    others = branches[1:] + [algebra.unit(total.weight.shape[0], len(total.size), total.weight)] * identities
    for other in others:
        try:
            total = algebra.add(total, other)  # type: ignore[arg-type]
        except FuseError as error:
            raise FuseError(f"{path}: {error}") from None
    return total


def _fold(taps: Taps, bn: nn.Module, path: str) -> Taps:
    try:
        return algebra.scale(taps, *algebra.batch_norm(bn))
    except FuseError as error:
        raise FuseError(f"{path}: {error}") from None


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
