"""Networks that cannot be captured whole: their largest parts that can, replaced one at a time in a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam.capture import shallow
from audiorep.reparam.report import Skip
from audiorep.reparam.verify import largest_error

_CALLS = 4  # calls of a module that are kept, to try its merged form on
_ROUNDING = 3e-6  # relative to its largest value, of a part's outputs in float32
_DRAWS = 3
_TOLERANCE = 1e-3  # relative, float32: each part is proved by itself; here a part that does not fit in shows


def by_parts(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], whole: Callable[..., Any], reason: str
) -> tuple[nn.Module, dict[str, Any], list[Skip]]:
    """(a copy with merged parts, the report of each part by path, what was left)."""
    calls, expected = _record(model, args, kwargs)
    merged = copy.deepcopy(model)
    reports: dict[str, Any] = {}
    skips = [Skip("", "network", f"merged by parts, because {reason}")]

    def visit(module: nn.Module, path: str) -> None:
        if path and path in calls and _worth(module):
            try:
                result = whole(module, *calls[path][0])
                if not result.merges:
                    return
                _replay(result.model, module, calls[path])
                _replace(merged, path, result.model)
                if _fits(merged, args, kwargs, expected, lambda: _jumps(model, path, args, kwargs, expected)):
                    reports[path] = result
                    return
                _replace(merged, path, copy.deepcopy(module))
                skips.append(Skip(path, type(module).__name__, "the network around it does not work with its merged form"))
            except FuseError as error:
                skips.append(Skip(path, type(module).__name__, str(error).rstrip(".")))
        for name, child in module.named_children():
            visit(child, f"{path}.{name}".lstrip("."))

    visit(model, "")
    return merged, reports, skips


def _worth(module: nn.Module) -> bool:
    """A single layer has nothing to merge."""
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def _record(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]], list[Any]]:
    """The inputs of every module's calls, and the network's outputs."""
    calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}
    running = shallow(model)

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            listed = calls.setdefault(path, [])
            if len(listed) < _CALLS:
                listed.append(pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), (given, named)))

        return hook

    handles = [
        module.register_forward_pre_hook(keep(path), with_kwargs=True)
        for path, module in running.named_modules()
        if _worth(module)
    ]
    with torch.no_grad():
        expected = pytree.tree_leaves(running(*args, **kwargs))
    for handle in handles:
        handle.remove()
    return calls, expected


def _replay(made: nn.Module, module: nn.Module, calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    for given, named in calls[1:]:
        with torch.no_grad():
            error = largest_error(
                pytree.tree_leaves(shallow(module)(*given, **named)), pytree.tree_leaves(made(*given, **named))
            )
        if error > _TOLERANCE:
            raise FuseError(f"its merged form differs by {error:.1e} on another of its inputs")


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    root.get_submodule(parent)._modules[name] = module


def _fits(
    merged: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], expected: list[Any], jumps: Callable[[], bool]
) -> bool:
    """Whether the network runs with a merged part and gives the same, as far as it gives the same at all."""
    try:
        with torch.no_grad():
            found = pytree.tree_leaves(shallow(merged)(*args, **kwargs))
    except Exception:  # the network around it asks for more than its forward
        return False
    return largest_error(expected, found) <= _TOLERANCE or jumps()


def _jumps(model: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], expected: list[Any]) -> bool:
    """Whether rounding alone in the original part changes the outputs as much: sorted or selected results do."""
    running = shallow(model)
    generator = torch.Generator().manual_seed(0)

    def noise(value: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point():
            return value
        drawn = torch.randn(value.shape, generator=generator).to(value.device, value.dtype)
        return value + _ROUNDING * value.abs().max() * drawn if value.numel() else value

    def hook(module: nn.Module, given: Any, output: Any) -> Any:
        return pytree.tree_map_only(torch.Tensor, noise, output)

    running.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        draws = (pytree.tree_leaves(running(*args, **kwargs)) for _ in range(_DRAWS))
        return any(largest_error(expected, found) > _TOLERANCE for found in draws)


__all__ = ["by_parts"]
