"""The classes of a fused network: a module whose forward is generated source, and the modules that torch lacks."""

from __future__ import annotations

import keyword
import unicodedata
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam.contract import Form, require
from audiorep.reparam.outputs import close_objects

_INEXACT = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)


class Group(nn.Module):
    """A container for the modules and tensors of one part of the original. An index gives those with numbers for names."""

    def __getitem__(self, index: int) -> Any:
        """The module or tensor named `index`."""
        if not hasattr(self, str(index)):
            raise IndexError(f"there is no {index}.")
        return getattr(self, str(index))

    def part(self, name: str) -> Any:
        """The module or tensor called `name`, also where the class has an attribute of that name."""
        return {**self._modules, **self._parameters, **self._buffers}[name]


class Fused(Group):
    """A merged network. `code` is the source of its forward; its modules have the original's names.

    It is for inference. `train()` is refused until `reparam.trainable(model)` allows it, because merged parts, batch norms
    above all, cannot be trained separately any more.
    """

    code: str
    """The source of `forward`."""
    trains: bool
    """Whether `train()` is allowed."""
    precision: dict[torch.dtype, torch.dtype]
    """The new precision for each that was converted since the merge. Inputs must have the new one."""
    forms: dict[str, Form]
    """The containers of each argument that is not a single value."""
    structure: Structure
    """Builds the original's output class, if the output has one."""

    def _apply(self, fn: Any, recurse: bool = True) -> Fused:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        now = {dtype: fn(torch.empty(0, dtype=self.precision.get(dtype, dtype))).dtype for dtype in _INEXACT}
        self.precision = {dtype: changed for dtype, changed in now.items() if changed != dtype}
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return build, (type(self).__name__, self.code), self.__dict__

    def with_code(self, code: str) -> Fused:
        """The same modules with another forward."""
        made = build(type(self).__name__, code)
        made.__dict__.update({key: value for key, value in self.__dict__.items() if key != "code"})
        return made

    def train(self, mode: bool = True) -> Self:
        """Sets the mode as for any module; refuses `mode=True` unless it was allowed."""
        if mode and not self.trains:
            raise FuseError(
                "this network is merged for inference: its batch norms are gone. Train the original, or allow it with "
                "reparam.trainable(model)."
            )
        return super().train(mode)

    def extra_repr(self) -> str:
        """The text for `print(network)`."""
        return "merged for inference" if not self.trains else "merged, training allowed"


def build(name: str, code: str) -> Fused:
    """A `Fused` without modules whose forward `code` defines."""
    space: dict[str, Any] = {}
    exec(compile(code, f"<{name}.forward>", "exec"), space)
    made: Fused = type(name, (Fused,), {"forward": space["forward"], "__module__": __name__, "code": code})()
    made.trains, made.precision, made.forms = False, {}, {}
    return made


def trainable(model: Fused) -> Fused:
    """Allows `train()` for a merged network, in place, and makes its parameters require gradients."""
    if not isinstance(model, Fused):
        raise FuseError("only a fused network needs this.")
    model.trains = True
    return model.requires_grad_(True)


class Structure:
    """Builds the original's output from its leaves."""

    def __init__(self, spec: Any) -> None:
        self._spec = spec

    def __call__(self, leaves: list[Any]) -> Any:
        """The output."""
        return close_objects(pytree.tree_unflatten(leaves, self._spec))

    def __deepcopy__(self, memo: dict[int, Any]) -> Structure:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[Any, ...]:
        return _structure, (_branches(self._spec),)  # unpickling torch's own class for leaves warns


def _structure(branches: Any) -> Structure:
    return Structure(_spec(branches))


def _branches(spec: Any) -> Any:
    """A tree as plain tuples; None for a leaf."""
    return None if spec.is_leaf() else (spec.type, spec.context, [_branches(child) for child in spec.children()])


def _spec(branches: Any) -> Any:
    if branches is None:
        return pytree.tree_structure(0)
    return pytree.TreeSpec(branches[0], branches[1], [_spec(child) for child in branches[2]])


class Scale(nn.Module):
    """Multiplies channels by a gain and adds a shift, both shaped for broadcasting. It stays where no other map took it in."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """`x` scaled and shifted, in the same shape."""
        x = x * self.weight
        return x if self.bias is None else x + self.bias


class MergedLSTM(nn.LSTM):
    """An `nn.LSTM` that takes (x, *states), returns (output, *states) and stores one bias per direction.

    The second bias, which torch needs, is zeros and is not stored.
    """

    def forward(self, x: Tensor, *states: Tensor) -> Any:  # type: ignore[override]
        """The output and last states of the LSTM."""
        given = (states[0], states[1]) if states else None
        output, last = super().forward(x, given)
        return (output, *last)


class MergedGRU(nn.GRU):
    """An `nn.GRU` that takes (x, state), or x alone, and returns (output, state)."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> Any:  # type: ignore[override]
        """The output and last state of the GRU."""
        return super().forward(x, state)


def set_tensor(module: nn.Module, name: str, tensor: Tensor | None, trained: bool, persistent: bool = True) -> None:
    """Sets a tensor of `module`: a parameter if `trained`, else a buffer."""
    module._parameters.pop(name, None)
    module._buffers.pop(name, None)
    module._non_persistent_buffers_set.discard(name)
    if tensor is None:  # `register_parameter` would refuse names that the class has itself
        module._parameters[name] = None
    elif trained and (tensor.is_floating_point() or tensor.is_complex()):
        given = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)
        module._parameters[name] = given
    else:
        module._buffers[name] = tensor
        module._non_persistent_buffers_set.update([] if persistent else [name])


def attach(root: nn.Module, path: str, module: nn.Module) -> None:
    """Puts `module` at `path` and makes `Group`s for missing parents."""
    *parents, last = path.split(".")
    for name in parents:
        root = _child(root, name)
    before = root._modules.get(last)
    if before is not None:
        module._modules.update(before._modules)
    root._modules[last] = module


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module at `path`; makes `Group`s where there are none."""
    for name in path.split(".") if path else ():
        root = _child(root, name)
    return root


def _child(root: nn.Module, name: str) -> Any:
    """The child called `name`; makes a `Group` if there is none. `add_module` would refuse names that the class has itself."""
    return root._modules.setdefault(name, Group())


def access(path: str) -> str:
    """The expression for a path, for example `self.stages[0].reduce`."""
    text = "self"
    for part in path.split("."):
        if part.isascii() and part.isdigit():
            text = f"{text}[{part}]"
        elif hasattr(Fused, part) or part in Fused.__annotations__:
            text = f"{text}.part({part!r})"
        elif part.isidentifier() and not keyword.iskeyword(part) and unicodedata.is_normalized("NFKC", part):
            text = f"{text}.{part}"
        else:
            text = f"getattr({text}, {part!r})"
    return text


def empty(kind: type[nn.Module], *args: Any, **kwargs: Any) -> Any:
    """A module without values, which are set later; this saves their initialization."""
    return kind(*args, **kwargs, device=torch.device("meta")).eval()


__all__ = ["Fused", "Group", "MergedGRU", "MergedLSTM", "Scale", "Structure", "access", "attach", "build", "empty", "module_at"]
__all__ += ["require", "set_tensor", "trainable"]  # networks that were pickled earlier import `require` from here
