"""Copies of a network: with shared parameters, in float64, or of everything."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from audiorep.errors import FuseError


def shallow_copy(model: nn.Module) -> nn.Module:
    """A copy of the modules and buffers that shares the parameters. Running it does not change the original."""
    return _copied(model, {id(parameter): parameter for parameter in model.parameters()}, double=False)


def double_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` in float64."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        values = to_double(tensor.detach()).clone()
        memo[id(tensor)] = nn.Parameter(values, requires_grad=False) if isinstance(tensor, nn.Parameter) else values
    made = _copied(model, memo, double=True)
    for module in made.modules():
        if isinstance(module, torch.jit.ScriptModule):
            module.double()  # its tensors lie outside Python, where the memo does not reach
    return made


def full_copy(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with `model`."""
    return _copied(model, {}, double=False)


def to_double(tensor: Tensor) -> Tensor:
    """Floats and complex numbers in double precision, other tensors as they are."""
    return tensor.to(double_dtype(tensor.dtype))


def double_dtype(dtype: torch.dtype) -> torch.dtype:
    """The double precision of a float or complex type; any other type as it is."""
    return torch.complex128 if dtype.is_complex else torch.float64 if dtype.is_floating_point else dtype


class _CopyValues(TorchFunctionMode):
    """While it is active, tensors that a network keeps from an earlier call are copied as plain values.

    Activations kept as attributes, and weights that a hook computes (`torch.nn.utils.weight_norm`), belong to the autograd
    graph of that call, and torch refuses to copy them.
    """

    def __init__(self, double: bool) -> None:
        super().__init__()
        self._double = double

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.__deepcopy__ and type(args[0]) is Tensor:
            tensor, memo = args
            if id(tensor) not in memo:
                values = tensor.detach().clone()
                values = to_double(values) if self._double else values
                memo[id(tensor)] = values.requires_grad_(tensor.requires_grad and tensor.is_leaf)
            return memo[id(tensor)]
        return function(*args, **(kwargs or {}))


def _copied(model: nn.Module, memo: dict[int, Any], double: bool) -> nn.Module:
    try:
        with _CopyValues(double), torch.no_grad():
            return copy.deepcopy(model, dict(memo))
    except Exception:  # a lock, a file or a generator cannot be copied: the copy shares it
        shared = {id(value): value for value in _uncopiable(model, memo, double)}
    try:
        with _CopyValues(double), torch.no_grad():
            return copy.deepcopy(model, memo | shared)
    except Exception as error:
        raise FuseError(f"the network cannot be copied: {type(error).__name__}: {error}") from error


def _uncopiable(model: nn.Module, memo: dict[int, Any], double: bool) -> list[Any]:
    """The attributes of the modules that cannot be copied."""
    found = []
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in _MODULE_ATTRIBUTES:
                try:
                    with _CopyValues(double), torch.no_grad():
                        copy.deepcopy(value, dict(memo))
                except Exception:  # any class may refuse in its own way
                    found.append(value)
    return found


_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))
