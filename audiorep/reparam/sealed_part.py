"""A merged part of a network: it is called like the original and refuses access to what is inside.

The original modules of a part are gone: `encoder[0]` may now be a convolution merged with its norm. If the network's own
code reaches into a part, in a branch that the example did not take, it would silently compute something else. So this is
refused.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from audiorep.errors import FuseError
from audiorep.reparam.module import Fused, build

_SPECIAL = (
    *("__getitem__", "__setitem__", "__delitem__", "__iter__", "__len__", "__contains__", "__reversed__", "__add__"),
    *("__iadd__", "__mul__", "__imul__", "__bool__", "__enter__", "__exit__", "__int__", "__float__", "__index__"),
)
_MODULE = frozenset(dir(nn.Module()))


def seal(made: nn.Module, original: nn.Module, after: nn.Module) -> Fused:
    """`made`, sealed to take the place of `original`.

    Plain attributes (`out_channels`) keep their values, except those that a call changes.

    Args:
        made: the merged part.
        original: the module that it replaces.
        after: a copy of `original` that was called.
    """
    assert isinstance(made, Fused)
    names = (_own(original) | _own(after)) - _MODULE - frozenset(_SPECIAL)
    values = {name: inspect.getattr_static(original, name, original) for name in names}
    plain = {k: v for k, v in values.items() if _is_plain(v) and _same(v, inspect.getattr_static(after, k, after))}
    part = _empty(type(made).__name__, made.code, type(original), names, plain)
    vars(part).update(vars(made))
    return part


def _own(module: nn.Module) -> frozenset[str]:
    """All attribute names of a module; `dir` leaves out those that begin with a digit."""
    return frozenset((*dir(module), *module._modules, *module._parameters, *module._buffers))


def _is_plain(value: Any) -> bool:
    """Whether a value is immutable and holds no weights."""
    if isinstance(value, tuple):
        return all(_is_plain(inner) for inner in value)
    return value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device)


def _same(before: Any, after: Any) -> bool:
    return type(before) is type(after) and bool(before == after)


def watch_running(network: nn.Module) -> None:
    """Tracks when the code of `network` runs; then the modules of its parts may not be listed either."""
    network.register_forward_pre_hook(_enter, prepend=True)
    network.register_forward_hook(_leave, always_call=True)


_running = threading.local()


def _enter(module: nn.Module, args: Any) -> None:
    _running.depth = getattr(_running, "depth", 0) + 1


def _leave(module: nn.Module, args: Any, output: Any) -> None:
    _running.depth = max(0, getattr(_running, "depth", 0) - 1)


def _is_running() -> bool:
    return getattr(_running, "depth", 0) > 0


def _refusal(what: str) -> FuseError:
    return FuseError(
        f"the network's own code asks a merged part for {what}, and what the part was made of is gone. "
        "Fuse the network with an example that takes this branch, or use the original."
    )


def _dictionary(name: str) -> Any:
    """A property for a module's dictionary of children, parameters or buffers, which refuses the network's running code."""

    def get(self: Any) -> Any:
        if _is_running():
            raise _refusal("its modules or tensors")
        return vars(self)[name]

    def put(self: Any, value: Any) -> None:
        vars(self)[name] = value

    return property(get, put)


class Part(Fused):
    """A merged network that can be called, moved, saved and loaded, but not reached into.

    `part(name)` still gives a module or tensor of it, for callers that know it is merged.
    """

    _names: frozenset[str]
    """The names of the original's own attributes."""
    _plain: dict[str, Any]
    """The original's attributes that are plain values."""
    _kind: type[nn.Module]
    """The original's class, which `__class__` gives."""
    _open: type[Fused]
    """The class whose forward it runs."""
    _modules = _dictionary("_modules")
    _parameters = _dictionary("_parameters")
    _buffers = _dictionary("_buffers")

    def __getattr__(self, name: str) -> Any:
        if name in self._plain:
            return self._plain[name]
        if name in self._names:
            raise _refusal(f"`{name}`")
        raise AttributeError(f"{self._kind.__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._names or (_is_running() and name not in vars(self)):
            raise _refusal(f"another `{name}`")
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (type(self).__name__, vars(type(self))["code"], self._kind, self._names, self._plain), vars(self)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode as for any merged network; the network's own code may call `eval()`, which changes nothing."""
        return self if not mode and not self.training else super().train(mode)

    def named_modules(self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """Lists the modules; the network's running code gets only a parameter that tells precision and device."""
        if not _is_running():
            yield from super().named_modules(memo, prefix, remove_duplicate)
            return
        yield prefix, _Shown(vars(self))
        raise _refusal("its modules or tensors")


def _empty(name: str, code: str, kind: type[nn.Module], names: frozenset[str], plain: dict[str, Any]) -> Part:
    """A part without tensors."""
    opened = type(build(name, code))

    @functools.wraps(opened.forward)
    def forward(self: Part, *args: Any, **kwargs: Any) -> Any:
        inside = object.__new__(opened)
        object.__setattr__(inside, "__dict__", vars(self))  # the same modules in a class that may access them
        return opened.forward(inside, *args, **kwargs)

    hidden = {key: property(_refusing(key)) for key in names & frozenset(dir(Fused))}
    special = {key: _refusing(key) for key in _SPECIAL if hasattr(kind, key) and not hasattr(nn.Module, key)}
    space = {"forward": forward, "code": code, "_open": opened, "__module__": __name__}
    space |= {"_kind": kind, "_names": names, "_plain": plain}
    claimed = {"__class__": property(lambda self: kind)}  # for code that asks `isinstance`
    made: Part = type(name, (Part,), {**space, **hidden, **special, **claimed})()
    vars(made).update(vars(build(name, code)))
    return made


def _refusing(name: str) -> Any:
    def refuse(self: Any, *args: Any) -> Any:
        raise _refusal(f"`{name}`")

    return refuse


class _Shown(nn.Module):
    """Stands in for a part; has one parameter that tells precision and device."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        first = next((p for module in (state, *map(vars, _below(state))) for p in module["_parameters"].values()), None)
        if first is not None:
            kind = torch.Tensor._make_subclass(_Kind, first.detach())
            self._parameters["kind"] = kind  # type: ignore[assignment]  # no `nn.Parameter`, which would show its values


def _below(state: dict[str, Any]) -> list[nn.Module]:
    return [module for child in state["_modules"].values() for module in child.modules()]


class _Kind(Tensor):
    """A parameter that tells its precision and device and makes tensors like itself, but refuses to give its values."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shown = function in _OF_ITSELF or (function in _OF_ANOTHER and not isinstance(args[0], _Kind))
        if not shown:
            raise _refusal("a parameter")
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))


_OF_ITSELF = {getattr(Tensor, name).__get__ for name in ("dtype", "device", "layout", "is_cuda", "is_meta", "is_cpu", "is_mps")}
_OF_ITSELF |= {Tensor.is_floating_point, Tensor.is_complex, Tensor.get_device, Tensor.new_zeros, Tensor.new_ones}
_OF_ITSELF |= {Tensor.new_empty, Tensor.new_full, Tensor.new_tensor}
_OF_ANOTHER = {Tensor.to, Tensor.type_as}
