"""Fuses a network that cannot be captured as one graph: its largest parts that can be, one at a time, in a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam.compare import largest_error
from audiorep.reparam.hooks import hooked_modules
from audiorep.reparam.model_copies import double_copy, full_copy, shallow_copy, to_double
from audiorep.reparam.outputs import output_leaves
from audiorep.reparam.report import Skip
from audiorep.reparam.sealed_part import seal, watch_running

_CALLS = 4  # recorded calls of a module, on which its merged form is tried
_TOLERANCE = {True: 1e-8, False: 1e-3}  # for the outputs of the network with a merged part, in float64 and as it is


_Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


@dataclass
class _Copy:
    """A copy of the network in which parts are replaced, with the original's outputs for the example."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    double: bool
    expected: list[Any]

    def misfit(self, path: str, part: nn.Module) -> str | None:
        """Replaces a part; returns why the network fails or differs with it, or None."""
        _replace(self.model, path, part)
        try:
            error = largest_error(self.expected, _run(self.model, self.args, self.kwargs))
        except FuseError as refused:
            return f"its merged form refuses the network around it: {refused}"
        except Exception as failed:  # the network may need more of it than its forward
            return f"the network around it does not work with its merged form ({type(failed).__name__}: {failed})"
        if error <= _TOLERANCE[self.double]:
            return None
        return f"with its merged form the network around it gives something else (relative difference {error:.1e})"


def _try(copies: list[_Copy], path: str, part: nn.Module, exact: nn.Module) -> None:
    """Replaces a part in every copy, or in none; `exact` is the part in float64.

    Raises:
        FuseError: one of the copies fails or differs with it.
    """
    before = [_at(copy.model, path) for copy in copies]
    for copy in copies:
        misfit = copy.misfit(path, exact if copy.double else part)
        if misfit:
            for each, original in zip(copies, before, strict=True):
                _replace(each.model, path, original)
            raise FuseError(misfit)


def fuse_by_parts(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    fuse_whole: Callable[..., tuple[Any, nn.Module]],
    reason: str,
) -> tuple[nn.Module, dict[str, Any], list[Skip]]:
    """Returns (a copy with merged parts, the report of each part by path, what was left).

    Args:
        model: the network.
        args: an example of its inputs.
        kwargs: the example's keyword arguments.
        fuse_whole: fuses a module as one graph, and gives the same in float64 too.
        reason: why the network cannot be captured as one graph.
    """
    fuser = _PartFuser(model, args, kwargs, fuse_whole)
    fuser.skips.append(Skip("", "network", f"merged by parts, because {reason}"))
    fuser.visit(model, "")
    return fuser.merged, fuser.reports, fuser.skips


class _PartFuser:
    """Fuses the parts of a network from the largest to the smallest."""

    def __init__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], fuse_whole: Callable[..., tuple[Any, nn.Module]]
    ) -> None:
        self._model, self._fuse_whole = model, fuse_whole
        self._calls, expected, self._after = _record(model, args, kwargs)
        self.merged = full_copy(model)
        double = _double_copy(model, args, kwargs)
        self._copies = [_Copy(self.merged, args, kwargs, False, expected), *([double] if double else [])]
        for each in self._copies:
            watch_running(each.model)
        self._seen: set[int] = set()
        self.reports: dict[str, Any] = {}
        self.skips: list[Skip] = []

    def visit(self, module: nn.Module, path: str) -> None:
        """Fuses a module, or else the modules in it."""
        if id(module) in self._seen:
            return  # it was replaced at all its paths
        self._seen.add(id(module))
        if path and path in self._calls and _is_worthwhile(module):
            try:
                _refuse_hooks(module)
                if self._merge(module, path):
                    return
            except FuseError as error:
                self.skips.append(Skip(path, type(module).__name__, str(error).rstrip(".")))
        for name, child in module.named_children():
            self.visit(child, f"{path}.{name}".lstrip("."))

    def _merge(self, module: nn.Module, path: str) -> bool:
        """Puts the merged form of a module in its place; False if there was nothing to merge.

        Raises:
            FuseError: it must be left; the message says why.
        """
        calls = self._calls[path]
        result, in_float64 = self._fuse_whole(module, *calls[0])
        if not result.merges:
            return False
        _refuse_shared(self._model, module)
        _replay(result.model, module, calls)
        part, exact = (seal(made, module, _at(self._after, path)) for made in (result.model, in_float64))
        _try(self._copies, path, part, exact)
        self.reports[path] = result
        return True


def _refuse_hooks(module: nn.Module) -> None:
    """Refuses a part with hooks inside, which its merged form would not call."""
    paths = hooked_modules(module)
    if paths:
        where = f"`{paths[0]}` in it" if paths[0] else "it"
        raise FuseError(f"{where} has a hook, which its merged form would not call; remove it first")


def _refuse_shared(model: nn.Module, part: nn.Module) -> None:
    """Refuses a part that shares modules or tensors with the rest of the network, since merging would copy them."""
    inside = {id(module) for module in part.modules()}
    own = {id(parameter) for parameter in part.parameters()}
    outside = [model]
    for module in outside:
        for child in module.children():
            if child is not part and not any(child is other for other in outside):
                outside.append(child)
    modules = any(id(module) in inside for module in outside)
    if modules or any(id(p) in own for module in outside for p in module.parameters(recurse=False)):
        raise FuseError("its tensors are also used outside it, and would be copied")


def _double_copy(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Copy | None:
    """A copy in float64, where a wrong part shows clearly; None if the network does not run in float64."""
    made = double_copy(model)
    args, kwargs = pytree.tree_map_only(torch.Tensor, to_double, (args, kwargs))
    try:
        return _Copy(made, args, kwargs, True, _run(made, args, kwargs))
    except Exception:  # for example because it mixes precisions
        return None


def _run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    with torch.no_grad():
        return output_leaves(shallow_copy(model)(*args, **kwargs))


def _is_worthwhile(module: nn.Module) -> bool:
    """Whether a module may be fused: a single layer has nothing to merge, and a scripted module cannot be replaced."""
    if isinstance(module, torch.jit.ScriptModule):
        return False
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def _record(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, _Calls], list[Any], nn.Module]:
    """(the inputs of every module's calls, the network's outputs, a copy of the network after the call)."""
    calls: dict[str, _Calls] = {}
    running = shallow_copy(model)

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            listed = calls.setdefault(path, [])
            if len(listed) < _CALLS:
                listed.append(pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), (given, named)))

        return hook

    handles = [
        module.register_forward_pre_hook(keep(path), with_kwargs=True)
        for path, module in running.named_modules()
        if _is_worthwhile(module)
    ]
    with torch.no_grad():
        expected = output_leaves(running(*args, **kwargs))
    for handle in handles:
        handle.remove()
    return calls, expected, running


def _replay(made: nn.Module, module: nn.Module, calls: _Calls) -> None:
    for given, named in calls[1:]:
        with torch.no_grad():
            error = largest_error(output_leaves(shallow_copy(module)(*given, **named)), output_leaves(made(*given, **named)))
        if error > _TOLERANCE[False]:
            raise FuseError(f"its merged form differs by {error:.1e} on another of its inputs")


def _at(root: nn.Module, path: str) -> nn.Module:
    """The module at a path. Attributes would not do: a child may be called `forward`."""
    for name in path.split("."):
        child = root._modules[name]
        assert child is not None
        root = child
    return root


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    """Puts `module` at `path` and everywhere else that the old module is used."""
    old = _at(root, path)
    for owner in list(root.modules()):
        for name, child in owner._modules.items():
            if child is old:
                owner._modules[name] = module


__all__ = ["fuse_by_parts"]
