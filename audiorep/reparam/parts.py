"""Networks that cannot be captured whole: their largest parts that can, replaced one at a time in a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam.compare import largest_error
from audiorep.reparam.copies import in_double, shallow, to_double
from audiorep.reparam.copies import whole as copied
from audiorep.reparam.report import Skip

_CALLS = 4  # calls of a module that are kept, to try its merged form on
_TOLERANCE = {True: 1e-8, False: 1e-3}  # of the whole, in float64 and as it is: a part that does not fit in shows


@dataclass
class _Copy:
    """A copy of the network whose parts are replaced, and what the original makes of the example."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    double: bool
    expected: list[Any]

    def fits(self, path: str, part: nn.Module) -> bool:
        """Puts a part in; takes it out again if the network does not work with it or gives something else."""
        before = self.model.get_submodule(path)
        _replace(self.model, path, part)
        try:
            error = largest_error(self.expected, _run(self.model, self.args, self.kwargs))
        except Exception:  # the network around it asks for more than its forward
            _replace(self.model, path, before)
            return False
        if error <= _TOLERANCE[self.double]:
            return True
        _replace(self.model, path, before)
        if not self._jumps(path):
            return False
        _replace(self.model, path, part)
        return True

    def _jumps(self, path: str) -> bool:
        """Whether rounding alone in the original part changes the outputs as much: sorted and tied results do."""
        running, generator = shallow(self.model), torch.Generator().manual_seed(0)

        def noise(value: torch.Tensor) -> torch.Tensor:
            if not value.is_floating_point() or not value.numel():
                return value
            drawn = torch.randn(value.shape, generator=generator).to(value.device, value.dtype)
            return value + 4 * torch.finfo(value.dtype).eps * value.abs().max() * drawn

        def hook(module: nn.Module, given: Any, output: Any) -> Any:
            return pytree.tree_map_only(torch.Tensor, noise, output)

        running.get_submodule(path).register_forward_hook(hook)
        with torch.no_grad():
            found = pytree.tree_leaves(running(*self.args, **self.kwargs))
        return largest_error(self.expected, found) > _TOLERANCE[self.double]


def by_parts(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], whole: Callable[..., tuple[Any, nn.Module]], reason: str
) -> tuple[nn.Module, dict[str, Any], list[Skip]]:
    """(a copy with merged parts, the report of each part by path, what was left)."""
    calls, expected = _record(model, args, kwargs)
    merged = copied(model)
    trial = _double_copy(model, args, kwargs) or _Copy(copied(model), args, kwargs, False, expected)
    reports: dict[str, Any] = {}
    skips = [Skip("", "network", f"merged by parts, because {reason}")]

    seen: set[int] = set()

    def visit(module: nn.Module, path: str) -> None:
        if id(module) in seen:
            return  # in place at every path it has
        seen.add(id(module))
        if path and path in calls and _worth(module):
            try:
                result, double = whole(module, *calls[path][0])
                if not result.merges:
                    return
                _replay(result.model, module, calls[path])
                if _copies(model, module):
                    skips.append(Skip(path, type(module).__name__, "its tensors are also used outside it, and would be copied"))
                elif trial.fits(path, double if trial.double else result.model):
                    _replace(merged, path, result.model)
                    reports[path] = result
                    return
                else:
                    reason = "the network around it does not work with its merged form"
                    skips.append(Skip(path, type(module).__name__, reason))
            except FuseError as error:
                skips.append(Skip(path, type(module).__name__, str(error).rstrip(".")))
        for name, child in module.named_children():
            visit(child, f"{path}.{name}".lstrip("."))

    visit(model, "")
    return merged, reports, skips


def _double_copy(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Copy | None:
    """In float64, where sorting and selecting are not left to rounding; None for a network that is not made for it."""
    made = in_double(model)
    args, kwargs = pytree.tree_map_only(torch.Tensor, to_double, (args, kwargs))
    try:
        return _Copy(made, args, kwargs, True, _run(made, args, kwargs))
    except Exception:  # it mixes precisions
        return None


def _run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    with torch.no_grad():
        return pytree.tree_leaves(shallow(model)(*args, **kwargs))


def _worth(module: nn.Module) -> bool:
    """A single layer has nothing to merge, and a scripted module cannot be replaced."""
    if isinstance(module, torch.jit.ScriptModule):
        return False
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
        if error > _TOLERANCE[False]:
            raise FuseError(f"its merged form differs by {error:.1e} on another of its inputs")


def _copies(model: nn.Module, part: nn.Module) -> bool:
    """Whether tensors of a part are used outside it too, so that merging them would copy them."""
    inside = {id(module) for module in part.modules()}
    own = {id(parameter) for parameter in part.parameters()}
    others = [module for module in model.modules() if id(module) not in inside]
    return any(id(parameter) in own for module in others for parameter in module.parameters(recurse=False))


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    """Puts `module` at `path`, and wherever else the module that was there is."""
    old = root.get_submodule(path)
    for owner in list(root.modules()):
        for name, child in owner._modules.items():
            if child is old:
                owner._modules[name] = module


__all__ = ["by_parts"]
